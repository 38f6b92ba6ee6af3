// What a Redis adds to what every store does (store_test.cc): who may write, what is refused, and what it survives.

#include "controller/store/redis_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/limits.h"
#include "controller/store/test_redis.h"

namespace sallyport::controller {
namespace {

using testing::HasSubstr;

GuardId guard_id(unsigned char number) {
  GuardId out{};
  out[15] = number;
  return out;
}

Store::Entry batch(std::uint64_t first, std::uint64_t last) {
  return {.events = EventBatch{guard_id(1), "shop", "resize", first, last, Time{}, Time{}, 2, "events"}};
}

class RedisStoreTest : public testing::Test {
 public:
  ~RedisStoreTest() override { std::filesystem::remove_all(folder_); }

 protected:
  Result<std::unique_ptr<RedisStore>> open(const std::string& url, bool lapsed = true) {
    return RedisStore::open(*parse_redis_url(url), 0, folder_, {.lapsed = lapsed, .on_lost = [this] { ++lost_; }});
  }
  static std::vector<std::uint64_t> stored(Store& store) {
    std::vector<std::uint64_t> out;
    EXPECT_TRUE(store.replay(Time{}, [&](Store::Entry&& entry) -> Result<void> {
      out.push_back(entry.events->last);
      return {};
    }));
    return out;
  }

  const std::string folder_ = testing::TempDir() + "/sallyport_redis_store." + std::to_string(getpid());
  std::atomic<int> lost_ = 0;
};

TEST_F(RedisStoreTest, OnlyOneControllerHoldsAShardAndTheNextGetsItWhenItIsGivenBack) {
  RedisServer server;
  auto first = open(server.url());
  ASSERT_TRUE(first) << first.error().text;
  const auto second = open(server.url());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::cancelled);
  first->reset();
  EXPECT_TRUE(open(server.url(), false));
}

TEST_F(RedisStoreTest, WhoseLeaseHasRunOutMayComeBackSoOnlyWhoIsToldToTakesItsShard) {
  RedisServer server;
  auto first = open(server.url());
  ASSERT_TRUE(first) << first.error().text;
  // As if Redis had been away for longer than the lease.
  ASSERT_TRUE(server.run({"DEL", "sallyport:{test/0}:lease"}));
  const auto patient = open(server.url(), false);
  ASSERT_FALSE(patient);
  EXPECT_EQ(patient.error().kind, ErrorKind::cancelled);
  for (int tries = 0; tries < 200 && (*server.run({"EXISTS", "sallyport:{test/0}:lease"}))->integer == 0; ++tries) {
    std::this_thread::sleep_for(limits::kStoreLeaseRenewInterval / 10);
  }
  EXPECT_TRUE((*first)->ours()) << "it has renewed";
  EXPECT_EQ(lost_, 0);
}

TEST_F(RedisStoreTest, WhoHasLostTheShardChangesNothingAndIsToldSo) {
  RedisServer server;
  auto old = open(server.url());
  ASSERT_TRUE(old) << old.error().text;
  ASSERT_TRUE((*old)->ours());
  // As if it had been stopped for longer than its lease.
  ASSERT_TRUE(server.run({"SET", "sallyport:{test/0}:holder", "another"}));
  const Store::Entry entry = batch(1, 1);
  const auto appended = (*old)->append({&entry, 1});
  ASSERT_FALSE(appended);
  EXPECT_EQ(appended.error().kind, ErrorKind::refused);
  EXPECT_FALSE((*old)->put_document({"shop", "", DocumentKind::application, 0, "text", "ann", Time{}}, 0));
  EXPECT_FALSE((*old)->put_secret({"shop", "stripe", std::move(*credentials::Secret::copy_of("x"))}));
  for (int tries = 0; tries < 100 && lost_ == 0; ++tries) std::this_thread::sleep_for(limits::kReplicaLookInterval / 8);
  EXPECT_EQ(lost_, 1);
  EXPECT_FALSE((*old)->ours());
  EXPECT_EQ((*server.run({"EXISTS", "sallyport:{test/0}:journal"}))->integer, 0);
}

TEST_F(RedisStoreTest, EventsThatAreHereAreNotTakenAgain) {
  RedisServer server;
  auto store = open(server.url());
  ASSERT_TRUE(store) << store.error().text;
  ASSERT_TRUE((*store)->put_guard({guard_id(1), "shop", "resize", "pod-1", "token t1", Time{}, 0}));
  const Store::Entry entry = batch(1, 3);
  ASSERT_TRUE((*store)->append({&entry, 1}));
  const Store::Entry both[] = {batch(1, 3), batch(4, 5)};
  ASSERT_TRUE((*store)->append(both));
  EXPECT_THAT(stored(**store), testing::ElementsAre(3, 5));
}

TEST_F(RedisStoreTest, IsNotOursWhileRedisIsAwayAndGoesOnWhenItIsBack) {
  RedisServer server;
  auto store = open(server.url());
  ASSERT_TRUE(store) << store.error().text;
  ASSERT_TRUE((*store)->put_guard({guard_id(1), "shop", "resize", "pod-1", "token t1", Time{}, 0}));
  const Store::Entry first = batch(1, 1), second = batch(2, 2);
  ASSERT_TRUE((*store)->append({&first, 1}));
  server.kill();
  EXPECT_FALSE((*store)->append({&second, 1}));
  std::this_thread::sleep_for(limits::kStoreLeaseTime);
  EXPECT_FALSE((*store)->ours());
  server.start();
  for (int tries = 0; tries < 100 && !(*store)->ours(); ++tries) {
    std::this_thread::sleep_for(limits::kReplicaLookInterval / 4);
  }
  EXPECT_TRUE((*store)->ours());
  EXPECT_TRUE((*store)->append({&second, 1}));
  EXPECT_THAT(stored(**store), testing::ElementsAre(1, 2));
  EXPECT_EQ(lost_, 0);
}

TEST_F(RedisStoreTest, SaysThatRedisIsFullAndStoresNothingOfTheTurn) {
  RedisServer server({"--appendonly", "yes", "--maxmemory-policy", "noeviction"});
  auto store = open(server.url());
  ASSERT_TRUE(store) << store.error().text;
  ASSERT_TRUE(server.run({"CONFIG", "SET", "maxmemory", "1mb"}));
  const Store::Entry entries[] = {batch(1, 1), batch(2, 2)};
  const auto appended = (*store)->append(entries);
  ASSERT_FALSE(appended);
  EXPECT_EQ(appended.error().kind, ErrorKind::limit);
  ASSERT_TRUE(server.run({"CONFIG", "SET", "maxmemory", "0"}));
  EXPECT_THAT(stored(**store), testing::IsEmpty());
}

TEST_F(RedisStoreTest, AServerThatMayForgetIsRefusedWithTheRemedy) {
  RedisServer evicting({"--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"});
  const auto evicted = open(evicting.url());
  ASSERT_FALSE(evicted);
  EXPECT_EQ(evicted.error().kind, ErrorKind::invalid);
  EXPECT_THAT(evicted.error().text, HasSubstr("set it to noeviction"));
  RedisServer forgetting({});
  const auto forgotten = open(forgetting.url());
  ASSERT_FALSE(forgotten);
  EXPECT_THAT(forgotten.error().text, HasSubstr("set appendonly to yes"));
}

TEST_F(RedisStoreTest, WhatNoReplicaHasIsNotStored) {
  RedisServer server;
  auto store = open(server.url("&replicas=1"));
  ASSERT_TRUE(store) << store.error().text;
  const auto put = (*store)->put_guard({guard_id(1), "shop", "resize", "pod-1", "token t1", Time{}, 0});
  ASSERT_FALSE(put);
  EXPECT_THAT(put.error().text, HasSubstr("only 0 of 1 replicas have it"));
}

TEST(RedisUrlTest, ReadsWhatItIsAndRefusesTheRest) {
  const auto url = parse_redis_url("rediss+sentinel://ann@a,b:1,[::1]:2/main?replicas=1&password-file=/p&ca=/c");
  ASSERT_TRUE(url) << url.error().text;
  EXPECT_EQ(url->kind, RedisUrl::Kind::sentinel);
  EXPECT_TRUE(url->tls);
  ASSERT_EQ(url->addresses.size(), 3U);
  EXPECT_EQ(url->addresses[0].port, 26'379);
  EXPECT_EQ(url->addresses[2].host, "::1");
  EXPECT_EQ(url->master, "main");
  EXPECT_EQ(url->user, "ann");
  EXPECT_EQ(url->replicas, 1U);
  for (const char* const wrong :
       {"", "http://a", "redis://", "redis://a,b", "redis://a:0", "redis://a:70000", "redis://a/x", "redis://a/16",
        "redisx://a", "redis+sentinel://a", "redis+cluster://a/1", "redis://a?x=1", "redis://a?replicas=9",
        "redis://a?ca=/c", "redis://a?shards=0", "redis://a?shards=65", "redis://a?name=A", "redis://a?name="}) {
    EXPECT_FALSE(parse_redis_url(wrong)) << wrong;
  }
  const auto password = parse_redis_url("redis://ann:hunter2@a");
  ASSERT_FALSE(password);
  EXPECT_THAT(password.error().text, HasSubstr("?password-file=FILE"));
  EXPECT_THAT(password.error().text, testing::Not(HasSubstr("hunter2")));
}

}  // namespace
}  // namespace sallyport::controller
