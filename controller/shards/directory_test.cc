// Controllers that announce themselves in a Redis, and who is not believed there.

#include "controller/shards/directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "controller/shards/shards.h"
#include "controller/store/row_text.h"
#include "controller/store/test_redis.h"

namespace sallyport::controller {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class DirectoryTest : public testing::Test {
 public:
  ~DirectoryTest() override { std::filesystem::remove_all(folder_); }

 protected:
  Result<std::unique_ptr<Directory>> open(const std::string& options = {}, const std::string& more = {}) {
    return Directory::open(*parse_redis_url(server_.url(options)), folder_ + more);
  }
  std::string sealed(const std::string& id, std::string_view row) {
    return *SealingKey::of_file(folder_ + "/secrets.key")->seal(row, "announcement of " + id);
  }
  // As somebody who may write to Redis.
  void put(const std::string& id, const std::string& announcement) {
    ASSERT_TRUE(server_.run({"ZADD", "sallyport:{test}:live", "99999999999999", id}));
    ASSERT_TRUE(server_.run({"HSET", "sallyport:{test}:replicas", id, announcement}));
  }

  RedisServer server_;
  const std::string folder_ = testing::TempDir() + "/sallyport_directory." + std::to_string(getpid());
  const Replica me_{"me", "wss://a.example:1", "https://a.example:2", {0, 7}};
};

TEST_F(DirectoryTest, ShowsWhoLivesAndWhatTheyHave) {
  auto one = open(), other = open();
  ASSERT_TRUE(one) << one.error().text;
  ASSERT_TRUE(other) << other.error().text;
  ASSERT_TRUE((*one)->look(me_));
  auto seen = (*other)->look({"other", "wss://[::1]:1", "https://b.example:2", {}});
  ASSERT_TRUE(seen) << seen.error().text;
  ASSERT_THAT(seen->replicas, SizeIs(2));
  const Replica& shown = seen->replicas[seen->replicas[0].id == "me" ? 0 : 1];
  EXPECT_EQ(shown.link_url, me_.link_url);
  EXPECT_EQ(shown.admin_url, me_.admin_url);
  EXPECT_THAT(shown.shards, ElementsAre(0, 7));
  (*one)->leave("me");
  EXPECT_THAT((*other)->look({"other", "wss://[::1]:1", "https://b.example:2", {}})->replicas, SizeIs(1));
}

TEST_F(DirectoryTest, WhoSaysNothingForALeaseIsGone) {
  auto one = open();
  ASSERT_TRUE(one) << one.error().text;
  ASSERT_TRUE((*one)->look(me_));
  const Replica other{"other", "wss://b.example:1", "https://b.example:2", {}};
  for (int tries = 0; tries < 200 && (*one)->look(other)->replicas.size() == 2; ++tries) {
    std::this_thread::sleep_for(limits::kReplicaLookInterval);
  }
  EXPECT_THAT((*one)->look(other)->replicas, SizeIs(1));
}

TEST_F(DirectoryTest, NobodyIsSentToWhereSomebodyElseSaysSo) {
  auto one = open();
  ASSERT_TRUE(one) << one.error().text;
  const auto row = [](std::string_view link, std::string_view admin, std::string_view shards) {
    return row_text({link, admin, shards});
  };
  const std::string good = row("wss://evil.example:1", "https://evil.example:2", "3");
  put("plain", good);
  put("damaged", sealed("damaged", good).substr(1));
  put("moved", sealed("another", good));
  put("empty", "");
  put("ws", sealed("ws", row("ws://evil.example:1", "https://evil.example:2", "3")));
  put("http", sealed("http", row("wss://evil.example:1", "http://evil.example:2", "3")));
  put("path", sealed("path", row("wss://evil.example:1/x", "https://evil.example:2", "3")));
  put("shards", sealed("shards", row("wss://evil.example:1", "https://evil.example:2", "3 16")));
  put("words", sealed("words", row("wss://evil.example:1", "https://evil.example:2", "three")));
  const auto seen = (*one)->look(me_);
  ASSERT_TRUE(seen) << seen.error().text;
  EXPECT_THAT(seen->ignored, SizeIs(9));
  ASSERT_THAT(seen->replicas, SizeIs(1));
  EXPECT_EQ(seen->replicas[0].id, "me");
}

TEST_F(DirectoryTest, AnotherNumberOfShardsIsRefusedWithTheRemedy) {
  ASSERT_EQ((*open("&shards=8"))->shards(), 8U);
  EXPECT_EQ((*open())->shards(), 8U);
  const auto other = open("&shards=16");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind, ErrorKind::invalid);
  EXPECT_THAT(other.error().text, HasSubstr("leave ?shards= out"));
}

TEST_F(DirectoryTest, AnotherSealingKeyIsRefusedWithTheRemedy) {
  ASSERT_TRUE(open());
  const auto other = open({}, ".other");
  std::filesystem::remove_all(folder_ + ".other");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind, ErrorKind::invalid);
  EXPECT_THAT(other.error().text, HasSubstr("copy that file"));
}

TEST(ShardOfTest, IsTheSameInAllVersions) {
  EXPECT_EQ(shard_of("shop", 16), 9U);
  EXPECT_EQ(shard_of("", 16), 5U);
  EXPECT_EQ(shard_of("a", 64), 12U);
}

}  // namespace
}  // namespace sallyport::controller
