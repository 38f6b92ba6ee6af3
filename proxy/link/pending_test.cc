#include "proxy/link/pending.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

namespace sallyport::link {
namespace {

using Waiting = WaitingAsk<std::string>;
using Pending = PendingAsks<std::string>;

net::Task<void> wait_for(net::Loop& loop, std::shared_ptr<Waiting> waiting, AskCount count, net::Wait& outcome) {
  const Withdrawal<std::string> withdrawal(std::move(count), waiting);
  outcome = co_await waiting->answered.wait(loop.in(std::chrono::seconds(5)));
  loop.stop();
}

TEST(PendingAsks, AnAnswerFromAnotherThreadWakesWhoAsked) {
  net::Loop loop;
  const auto count = std::make_shared<std::atomic<std::size_t>>(0);
  const auto waiting = std::make_shared<Waiting>(loop);
  Pending pending(4);
  pending.add(7, waiting);
  net::Wait outcome = net::Wait::timeout;
  loop.spawn(wait_for(loop, waiting, count, outcome));
  EXPECT_EQ(*count, 1U);
  std::thread link([&] { pending.answer(7, std::string("yes")); });
  loop.run();
  link.join();
  EXPECT_EQ(outcome, net::Wait::ready);
  EXPECT_EQ(waiting->result->value(), "yes");
  EXPECT_EQ(*count, 0U);
  EXPECT_EQ(pending.size(), 0U);
}

TEST(PendingAsks, OneThatHasGivenUpIsNotTouchedThoughItsLoopIsGone) {
  const auto count = std::make_shared<std::atomic<std::size_t>>(0);
  Pending pending(4);
  {
    net::Loop loop;
    const auto waiting = std::make_shared<Waiting>(loop);
    pending.add(1, waiting);
    const Withdrawal<std::string> withdrawal(count, waiting);
  }
  pending.answer(1, std::string("late"));
  pending.answer(2, std::string("never asked"));
  EXPECT_EQ(pending.size(), 0U);
  EXPECT_EQ(*count, 0U);
}

TEST(PendingAsks, AControllerThatNeverAnswersDoesNotMakeThemGrow) {
  net::Loop loop;
  const auto count = std::make_shared<std::atomic<std::size_t>>(0);
  Pending pending(10);
  const auto live = std::make_shared<Waiting>(loop);
  pending.add(0, live);
  for (std::uint64_t number = 1; number <= 1'000; ++number) {
    const auto waiting = std::make_shared<Waiting>(loop);
    const Withdrawal<std::string> withdrawal(count, waiting);
    pending.add(number, waiting);
    EXPECT_LE(pending.size(), 20U);
  }
  pending.give_up({ErrorSource::controller, ErrorKind::unavailable, "lost"});
  ASSERT_TRUE(live->result) << "one that still waits is kept";
  EXPECT_EQ(live->result->error().kind, ErrorKind::unavailable);
}

}  // namespace
}  // namespace sallyport::link
