#include "proxy/link/spool.h"

#include <gtest/gtest.h>

#include <random>

#include "base/limits.h"

namespace sallyport::link {
namespace {

namespace api = controller::v1alpha1;

constexpr SpoolLimits kSmall{.events = 10, .bytes = 1 << 20, .sent_events = 4, .sent_bytes = 1 << 20};

api::Event exchange(api::Decision decision, std::uint64_t id) {
  api::Event event;
  event.mutable_exchange()->set_decision(decision);
  event.mutable_exchange()->set_id(id);
  return event;
}

void add(Spool& spool, const api::Event& event) { spool.add(event.SerializeAsString(), worth_of(event)); }

std::vector<api::Event> batch(Spool& spool) {
  std::string bytes;
  if (!spool.next_batch(bytes, 1'000)) return {};
  EXPECT_LE(bytes.size(), limits::kLinkMessageBytesMax);
  api::Envelope envelope;
  EXPECT_TRUE(envelope.ParseFromString(bytes));
  return {envelope.events().events().begin(), envelope.events().events().end()};
}

std::vector<std::uint64_t> numbers(const std::vector<api::Event>& events) {
  std::vector<std::uint64_t> found;
  for (const api::Event& event : events) found.push_back(event.sequence());
  return found;
}

using Numbers = std::vector<std::uint64_t>;

TEST(Spool, NumbersFromOneAndKeepsTheOrder) {
  Spool spool;
  for (std::uint64_t i = 1; i <= 5; ++i) add(spool, exchange(i % 2 == 0 ? api::DECISION_DENY : api::DECISION_ALLOW, i));
  const auto events = batch(spool);
  EXPECT_EQ(numbers(events), (Numbers{1, 2, 3, 4, 5}));
  for (const api::Event& event : events) EXPECT_EQ(event.exchange().id(), event.sequence());
  EXPECT_TRUE(batch(spool).empty());
  EXPECT_EQ(spool.waiting(), 5U) << "kept until it is taken";
}

TEST(Spool, SendsAgainWhatIsNotTakenUnderTheSameNumbers) {
  Spool spool;
  for (std::uint64_t i = 1; i <= 5; ++i) add(spool, exchange(api::DECISION_ALLOW, i));
  batch(spool);
  EXPECT_TRUE(spool.taken(2));
  spool.send_again();
  add(spool, exchange(api::DECISION_ALLOW, 6));
  const auto events = batch(spool);
  EXPECT_EQ(numbers(events), (Numbers{3, 4, 5, 6}));
  EXPECT_EQ(events[0].exchange().id(), 3U);
  EXPECT_TRUE(spool.taken(6));
  EXPECT_EQ(spool.waiting(), 0U);
  EXPECT_EQ(spool.bytes(), 0U);
  EXPECT_TRUE(spool.taken(4)) << "said twice";
}

TEST(Spool, WhatWasNeverSentCannotBeTaken) {
  Spool spool;
  add(spool, exchange(api::DECISION_DENY, 1));
  EXPECT_FALSE(spool.taken(1));
  EXPECT_EQ(spool.waiting(), 1U);
}

TEST(Spool, ANewIdBeginsAtOneWithAllThatIsNotTaken) {
  Spool spool;
  for (std::uint64_t i = 1; i <= 5; ++i) add(spool, exchange(api::DECISION_ALLOW, i));
  batch(spool);
  EXPECT_TRUE(spool.taken(3));
  spool.number_anew();
  const auto events = batch(spool);
  EXPECT_EQ(numbers(events), (Numbers{1, 2}));
  EXPECT_EQ(events[0].exchange().id(), 4U);
}

TEST(Spool, WithoutRoomTheOldestAllowedExchangesGoFirstAndAreCounted) {
  Spool spool(kSmall);
  for (std::uint64_t i = 1; i <= 5; ++i) add(spool, exchange(api::DECISION_ALLOW, i));
  for (std::uint64_t i = 6; i <= 13; ++i) add(spool, exchange(api::DECISION_DENY, i));
  EXPECT_EQ(spool.waiting(), 10U);
  const auto events = batch(spool);
  ASSERT_EQ(numbers(events), (Numbers{1, 2, 3, 4})) << "no more than may be on its way";
  EXPECT_EQ(events[0].lost().events(), 3U);
  EXPECT_EQ(events[0].lost().denials(), 0U);
  EXPECT_EQ(events[0].time().seconds(), 1'000);
  EXPECT_EQ(events[1].exchange().id(), 4U);
  EXPECT_EQ(spool.lost(), 3U);
}

TEST(Spool, OfDenialsTheLastAreLostAndCountedAsSuch) {
  Spool spool(kSmall);
  for (std::uint64_t i = 1; i <= 12; ++i)
    add(spool, exchange(i == 1 ? api::DECISION_ERROR : api::DECISION_WOULD_DENY, i));
  add(spool, exchange(api::DECISION_ALLOW, 13));
  const auto events = batch(spool);
  EXPECT_EQ(events[0].lost().events(), 3U);
  EXPECT_EQ(events[0].lost().denials(), 2U);
  EXPECT_EQ(events[1].exchange().id(), 1U);
  EXPECT_TRUE(spool.taken(4));
  EXPECT_EQ(numbers(batch(spool)), (Numbers{5, 6, 7, 8})) << "without a gap";
}

TEST(Spool, WhatIsOnItsWayIsNotDropped) {
  Spool spool(kSmall);
  for (std::uint64_t i = 1; i <= 4; ++i) add(spool, exchange(api::DECISION_ALLOW, i));
  batch(spool);
  for (std::uint64_t i = 5; i <= 30; ++i) add(spool, exchange(api::DECISION_DENY, i));
  spool.send_again();
  EXPECT_EQ(batch(spool)[0].exchange().id(), 1U);
}

TEST(Spool, LargeEventsGoAlone) {
  Spool spool;
  for (int i = 0; i < 3; ++i) {
    api::Event event = exchange(api::DECISION_DENY, 1);
    event.mutable_exchange()->set_text(std::string(limits::kSpoolBatchBytes * 3, 'x'));
    add(spool, event);
  }
  EXPECT_EQ(batch(spool).size(), 1U);
  EXPECT_EQ(batch(spool).size(), 1U);
}

// Whatever is added, taken and sent again, in any order: what a controller stores has every number once, in order, and
// what is stored and what is lost are together all that was added.
TEST(Spool, LosesNothingThatItDoesNotCount) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  Spool spool({.events = 50, .bytes = 8'000, .sent_events = 20, .sent_bytes = 2'000});
  std::uint64_t added = 0, stored = 0, told_lost = 0, last = 0;
  const auto store = [&](const std::vector<api::Event>& events) {
    for (const api::Event& event : events) {
      if (event.sequence() <= last) continue;
      EXPECT_EQ(event.sequence(), last + 1);
      last = event.sequence();
      if (event.has_lost()) {
        told_lost += event.lost().events();
      } else {
        ++stored;
      }
    }
  };
  for (int step = 0; step < 20'000; ++step) {
    switch (random() % 6) {
      case 0:
      case 1:
      case 2: {
        api::Event event = exchange(random() % 3 == 0 ? api::DECISION_DENY : api::DECISION_ALLOW, ++added);
        event.mutable_exchange()->set_text(std::string(random() % 100, 'x'));
        add(spool, event);
        break;
      }
      case 3:
        store(batch(spool));
        break;
      case 4:
        EXPECT_TRUE(spool.taken(random() % (last + 1)));
        break;
      default:
        if (random() % 10 == 0) spool.send_again();
    }
    EXPECT_LE(spool.waiting(), 52U);
  }
  spool.send_again();
  for (auto events = batch(spool); !events.empty() || spool.waiting() > 0; events = batch(spool)) {
    store(events);
    EXPECT_TRUE(spool.taken(last));
  }
  EXPECT_EQ(stored + told_lost, added);
  EXPECT_EQ(told_lost, spool.lost());
  EXPECT_GT(told_lost, 0U);
}

}  // namespace
}  // namespace sallyport::link
