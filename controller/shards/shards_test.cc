// Controllers in one process that share a Redis: who has which shard, and what guards notice of it.

#include "controller/shards/shards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "controller/core/test_guard.h"
#include "controller/link/raw_guard.h"
#include "controller/store/test_redis.h"

namespace sallyport::controller {
namespace {

using namespace testing;
using net::testing::TemporaryFile;

constexpr const char* kPolicy = R"(apiVersion: sallyport.dev/v1alpha1
kind: EgressPolicy
metadata: {name: front}
spec: {}
)";

// A controller of those that share, as the program has it.
struct Sharing {
  explicit Sharing(const std::string& redis, const std::string& folder, const TestIdentity& identity,
                   std::atomic<int>& lost, std::uint16_t advertised = 0) {
    const std::uint16_t port = free_port();
    auto joined = Shards::join({.redis = *parse_redis_url(redis),
                                .folder = folder,
                                .link_url = "wss://127.0.0.1:" + std::to_string(advertised == 0 ? port : advertised),
                                .admin_url = "https://127.0.0.1:1",
                                .controller = {.say = {}},
                                .kubernetes = {},
                                .on_lost = [&lost] { ++lost; }});
    EXPECT_TRUE(joined) << joined.error().text;
    shards = std::move(*joined);
    served = serve(*shards, identity, port);
  }
  std::size_t held() const { return shards->held().size(); }

  std::unique_ptr<Shards> shards;
  Served served;
};

// Five shards, of which `shop` is in one that is given up when a second controller comes.
class ShardsTest : public ::testing::Test {
 public:
  ~ShardsTest() override {
    EXPECT_EQ(lost_, 0);
    std::filesystem::remove_all(folder_);
  }

 protected:
  std::unique_ptr<Sharing> join(std::uint16_t advertised = 0) {
    return std::make_unique<Sharing>(server_.url("&shards=5"), folder_, identity_, lost_, advertised);
  }
  // The token of its guards.
  static std::string make_shop(Shards& shards) {
    const auto shop = shards.use(shards.of("shop"));
    EXPECT_TRUE((*shop)->create_application("shop", "test"));
    Document document;
    document.application = "shop";
    document.function = "front";
    document.text = kPolicy;
    EXPECT_TRUE((*shop)->put_document(std::move(document), 0, "test"));
    return (*shop)->make_token("shop", "", std::nullopt, "test")->text;
  }
  static bool has_shop(Shards& shards) { return shards.use(shards.of("shop")).has_value(); }

  RedisServer server_;
  const std::string folder_ = ::testing::TempDir() + "/sallyport_shards." + std::to_string(getpid());
  const TestIdentity identity_;
  const TemporaryFile root_{identity_.root_pem};
  std::atomic<int> lost_ = 0;
};

TEST_F(ShardsTest, OneHasAllOfThemAndSharesThemWithWhoComes) {
  const auto first = join();
  ASSERT_TRUE(eventually([&] { return first->held() == 5; }, 60s));
  EXPECT_TRUE(eventually([&] { return first->shards->trouble().empty(); }, 60s)) << first->shards->trouble();
  auto second = join();
  ASSERT_TRUE(eventually([&] { return first->held() == 3 && second->held() == 2; }, 60s));
  EXPECT_TRUE(eventually([&] { return first->shards->holder(second->shards->held()[0]).has_value(); }, 60s));
  second.reset();
  EXPECT_TRUE(eventually([&] { return first->held() == 5; }, 60s));
}

TEST_F(ShardsTest, AGuardMovesWithItsApplicationAndLosesNothing) {
  auto first = join();
  ASSERT_TRUE(eventually([&] { return first->held() == 5; }, 60s));
  const std::string token = make_shop(*first->shards);
  TestGuard guard(first->served.port, root_.path(), "front", "instance", token);
  ASSERT_TRUE(eventually([&] { return guard.connected(); }, 60s)) << guard.link().status().text;
  Reporter reporter(guard.link(), 500);
  std::this_thread::sleep_for(300ms);
  const auto second = join();
  ASSERT_TRUE(eventually([&] { return has_shop(*second->shards); }, 60s));
  ASSERT_TRUE(eventually([&] { return guard.connected() && guard.ids().size() == 2; }, 60s));
  std::this_thread::sleep_for(300ms);
  const std::uint64_t reported = reporter.stop();
  ASSERT_TRUE(guard.link().flush(60s)) << guard.link().status().text;
  EXPECT_EQ(guard.ids()[0], guard.ids()[1]) << "it has kept its id";
  EXPECT_EQ(guard.link().figures().events_lost, 0U);
  std::vector<std::uint64_t> stored;
  const auto shop = second->shards->use(second->shards->of("shop"));
  ASSERT_TRUE((*shop)->store().search({.application = "shop"}, [&](std::uint64_t, EventBatch&& batch) {
    v1alpha1::Events events;
    EXPECT_TRUE(events.ParseFromString(batch.events));
    for (const auto& event : events.events()) stored.push_back(event.exchange().id());
    return true;
  }));
  ASSERT_EQ(stored.size(), reported);
  for (std::uint64_t i = 0; i < reported; ++i) ASSERT_EQ(stored[i], i + 1);
}

net::Task<void> come_again(net::Loop& loop, SSL_CTX* context, std::uint16_t port, int times, int& sent_away) {
  for (int i = 0; i < times; ++i) {
    RawGuard guard(loop, context, port);
    const auto answer = co_await guard.join("loop", loop.in(30s));
    if (answer && answer->refused().reason() == v1alpha1::REFUSED_REASON_ELSEWHERE) ++sent_away;
  }
}

TEST_F(ShardsTest, WhoComesForAnotherShardAgainAndAgainIsSentAwayAndOthersAreServed) {
  const auto first = join();
  ASSERT_TRUE(eventually([&] { return first->held() == 5; }, 60s));
  const std::string token = make_shop(*first->shards);
  const auto second = join();
  ASSERT_TRUE(eventually([&] { return has_shop(*second->shards); }, 60s));
  ASSERT_TRUE(eventually([&] { return first->shards->holder(first->shards->of("shop")).has_value(); }, 60s));
  const TestGuard guard(first->served.port, root_.path(), "front", "instance", token);
  net::Loop loop;
  const auto context = net::testing::client_context(nullptr);
  int sent_away = 0;
  net::testing::run(loop, come_again(loop, context.get(), first->served.port, 100, sent_away));
  EXPECT_EQ(sent_away, 100);
  EXPECT_TRUE(eventually([&] { return guard.connected(); }, 60s)) << "it was sent to the second";
  EXPECT_TRUE(has_shop(*second->shards));
}

TEST_F(ShardsTest, TwoThatSayTheyAreAtOnePlaceSaySo) {
  const auto first = join();
  const auto second = join(first->served.port);
  const auto tells = [](const Sharing& each) { return each.shards->trouble().contains("--advertise HOST"); };
  EXPECT_TRUE(eventually([&] { return tells(*first) && tells(*second); }, 60s));
}

TEST_F(ShardsTest, WhatWasHeldWhileRedisWasAwayStaysWhereItWas) {
  const auto first = join(), second = join();
  ASSERT_TRUE(eventually([&] { return first->held() + second->held() == 5; }, 60s));
  ASSERT_TRUE(eventually([&] { return first->held() >= 2 && second->held() >= 2; }, 60s));
  const auto before = first->shards->held();
  server_.kill();
  std::this_thread::sleep_for(2 * limits::kStoreLeaseTime);
  EXPECT_EQ(first->shards->trouble(), "Redis can't be asked who shares it");
  server_.start();
  ASSERT_TRUE(eventually([&] { return first->shards->trouble().empty() && second->shards->trouble().empty(); }, 60s));
  std::this_thread::sleep_for(2 * limits::kStoreLeaseTime);
  EXPECT_EQ(first->shards->held(), before);
}

}  // namespace
}  // namespace sallyport::controller
