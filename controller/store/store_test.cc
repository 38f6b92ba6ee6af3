// What every store does, with each of them; then what is of SQLite alone. redis_store_test.cc has what is of Redis.

#include "controller/store/store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>
#include <random>
#include <thread>

#include "base/read_file.h"
#include "controller/api/link.pb.h"
#include "controller/store/redis_store.h"
#include "controller/store/sqlite_store.h"
#include "controller/store/test_redis.h"

namespace sallyport::controller {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

Time at(std::int64_t number) { return Time(milliseconds(number)); }

GuardId guard_id(unsigned char number) {
  GuardId out{};
  out[15] = number;
  return out;
}

credentials::Secret secret(std::string_view text) { return std::move(*credentials::Secret::copy_of(text)); }

enum class Kind : std::uint8_t { sqlite, redis };

class StoreTest : public testing::TestWithParam<Kind> {
 public:
  StoreTest() {
    std::filesystem::remove_all(folder_);
    if (GetParam() == Kind::redis) redis_ = std::make_unique<RedisServer>();
  }
  ~StoreTest() override {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }

 protected:
  Result<std::unique_ptr<Store>> open() const {
    if (!redis_) return SqliteStore::open(folder_);
    return RedisStore::open(*parse_redis_url(redis_->url()), 0, folder_, {.on_lost = [] {}});
  }
  Store& store() {
    if (store_ == nullptr) {
      auto opened = open();
      EXPECT_TRUE(opened) << opened.error().text;
      store_ = std::move(*opened);
    }
    return *store_;
  }
  Store& restarted() {
    store_.reset();
    return store();
  }

  void put_guard(unsigned char number, const std::string& function = "resize") {
    ASSERT_TRUE(store().put_guard({guard_id(number), "shop", function, "pod-1", "token t1", at(1'000), 0}));
  }

  static Store::Entry batch(unsigned char guard, std::uint64_t first, std::uint64_t last, std::int64_t time = 5'000,
                            const std::string& function = "resize",
                            std::uint32_t decisions = 1U << v1alpha1::DECISION_ALLOW) {
    v1alpha1::Events events;
    for (std::uint64_t number = first; number <= last; ++number) events.add_events()->set_sequence(number);
    EventBatch out{guard_id(guard), "shop", function, first, last, at(time), at(time + 10), decisions, {}};
    out.events = events.SerializeAsString();
    return {std::move(out), std::nullopt};
  }

  void append(std::vector<Store::Entry> entries) {
    const auto written = store().append(entries);
    ASSERT_TRUE(written) << written.error().text;
  }

  // "1:1-3", a line for each batch that is found, or "decided" …
  std::vector<std::string> replayed(Time since = at(0)) {
    std::vector<std::string> out;
    const auto read = store().replay(since, [&](Store::Entry&& entry) -> Result<void> {
      out.push_back(entry.events ? text(*entry.events) : "decided " + entry.decided->decided);
      return {};
    });
    EXPECT_TRUE(read) << read.error().text;
    return out;
  }
  std::vector<std::string> found(const EventQuery& query) {
    std::vector<std::string> out;
    const auto read = store().search(query, [&](std::uint64_t, EventBatch&& batch) {
      out.push_back(text(batch));
      return true;
    });
    EXPECT_TRUE(read) << read.error().text;
    return out;
  }
  static std::string text(const EventBatch& batch) {
    return std::to_string(batch.guard[15]) + ":" + std::to_string(batch.first) + "-" + std::to_string(batch.last);
  }

  const std::string folder_ = testing::TempDir() + "/sallyport_store." + std::to_string(getpid());
  std::unique_ptr<RedisServer> redis_;
  std::unique_ptr<Store> store_;
};
INSTANTIATE_TEST_SUITE_P(Each, StoreTest, testing::Values(Kind::sqlite, Kind::redis),
                         [](const auto& kind) { return kind.param == Kind::sqlite ? "Sqlite" : "Redis"; });

class SqliteStoreTest : public StoreTest {};
INSTANTIATE_TEST_SUITE_P(Only, SqliteStoreTest, testing::Values(Kind::sqlite));

TEST_P(StoreTest, KeepsEventsAndDecisionsInTheirOrderAcrossARestart) {
  put_guard(1);
  put_guard(2);
  append({batch(1, 1, 3), {.decided = DecidedAsk{"shop", at(5'001), "x"}}, batch(2, 1, 1)});
  append({batch(1, 4, 4)});
  restarted();
  EXPECT_THAT(replayed(), ElementsAre("1:1-3", "decided x", "2:1-1", "1:4-4"));
  const auto guards = store().guards();
  ASSERT_TRUE(guards);
  ASSERT_THAT(*guards, SizeIs(2));
  EXPECT_EQ((*guards)[0].events_taken, 4U);
  EXPECT_EQ((*guards)[1].events_taken, 1U);
  EXPECT_EQ((*guards)[0].subject, "token t1");
}

TEST_P(StoreTest, KnowsTheLatestTimeOfWhatIsStored) {
  put_guard(1);
  const auto none = store().latest();
  ASSERT_TRUE(none);
  EXPECT_LE(*none, at(0));
  append({batch(1, 1, 1, 1'000), batch(1, 2, 2, 9'000)});
  restarted();
  const auto latest = store().latest();
  ASSERT_TRUE(latest);
  EXPECT_EQ(*latest, at(9'010));
}

TEST_P(StoreTest, ReplaysFromATimeOn) {
  put_guard(1);
  append({batch(1, 1, 1, 1'000), batch(1, 2, 2, 9'000)});
  EXPECT_THAT(replayed(at(2'000)), ElementsAre("1:2-2"));
}

TEST_P(StoreTest, FindsByFunctionGuardDecisionAndTime) {
  put_guard(1);
  put_guard(2, "thumb");
  append({batch(1, 1, 1, 1'000),
          batch(1, 2, 2, 2'000, "resize", 1U << v1alpha1::DECISION_DENY),
          batch(2, 1, 1, 3'000, "thumb"),
          {.decided = DecidedAsk{"shop", at(3'000), "x"}}});
  EventQuery query{.application = "shop"};
  EXPECT_THAT(found(query), ElementsAre("1:1-1", "1:2-2", "2:1-1"));
  query.function = "resize";
  EXPECT_THAT(found(query), ElementsAre("1:1-1", "1:2-2"));
  query.decisions = 1U << v1alpha1::DECISION_DENY;
  EXPECT_THAT(found(query), ElementsAre("1:2-2"));
  EXPECT_THAT(found({.application = "shop", .guard = guard_id(2)}), ElementsAre("2:1-1"));
  EXPECT_THAT(found({.application = "shop", .since = at(2'500)}), ElementsAre("2:1-1"));
  EXPECT_THAT(found({.application = "shop", .until = at(2'000)}), ElementsAre("1:1-1"));
  EXPECT_THAT(found({.application = "shop", .after = 1}), ElementsAre("1:2-2", "2:1-1"));
  EXPECT_THAT(found({.application = "other"}), IsEmpty());
}

TEST_P(StoreTest, ForgetsWhatIsOld) {
  put_guard(1);
  for (std::uint64_t i = 0; i < 3'000; ++i) append({batch(1, i + 1, i + 1, static_cast<std::int64_t>(i))});
  const auto forgotten = store().forget(at(2'510));
  ASSERT_TRUE(forgotten);
  EXPECT_EQ(*forgotten, 2'500U);
  EXPECT_THAT(replayed(), SizeIs(500));
}

TEST_P(SqliteStoreTest, WithoutRoomTheFunctionWithMostLosesItsOldest) {
  constexpr std::uint64_t kMost = 8 << 20;
  put_guard(1);
  put_guard(2, "thumb");
  const auto large = [&](unsigned char guard, std::uint64_t number, const std::string& function) {
    Store::Entry entry = batch(guard, number, number, static_cast<std::int64_t>(number), function);
    entry.events->events = std::string(4'000, 'x');
    return entry;
  };
  std::vector<Store::Entry> entries;
  for (std::uint64_t i = 1; i <= 100; ++i) entries.push_back(large(2, i, "thumb"));
  for (std::uint64_t i = 1; i <= 3'000; ++i) entries.push_back(large(1, i, "resize"));
  entries.push_back({.decided = DecidedAsk{"shop", at(1), "old"}});
  entries.push_back({.decided = DecidedAsk{"shop", at(5'000), "new"}});
  append(std::move(entries));
  const auto room = store().make_room(kMost, at(2'500));
  ASSERT_TRUE(room) << room.error().text;
  EXPECT_FALSE(room->has_value());
  const auto kept = found({.application = "shop", .function = "resize"});
  EXPECT_THAT(kept, SizeIs(testing::AllOf(testing::Gt(1'000U), testing::Lt(2'000U)))) << "as many as there is room for";
  EXPECT_EQ(kept.back(), "1:3000-3000");
  EXPECT_THAT(found({.application = "shop", .function = "thumb"}), SizeIs(100));
  EXPECT_THAT(replayed(), testing::AllOf(testing::Contains("decided new"), Not(testing::Contains("decided old"))));

  // Of what is needed nothing goes; the next larger than there is room for is refused as by a full disk.
  restarted();
  const auto full = store().make_room(kMost / 2, at(0));
  ASSERT_TRUE(full) << full.error().text;
  ASSERT_TRUE(full->has_value());
  EXPECT_EQ((*full)->application + "/" + (*full)->function, "shop/resize");
  std::vector<Store::Entry> more;
  for (std::uint64_t i = 3'001; i <= 5'000; ++i) more.push_back(large(1, i, "resize"));
  const auto refused = store().append(more);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::limit);
  EXPECT_THAT(refused.error().text, HasSubstr("storeBytesMax"));
  EXPECT_EQ(found({.application = "shop", .function = "resize"}), kept);
}

// One that was made before sizes were counted.
TEST_P(SqliteStoreTest, TakesOverWhatAnEarlierVersionHasKept) {
  put_guard(1);
  append({batch(1, 1, 2, 1'000), batch(1, 3, 3, 2'000)});
  store_.reset();
  auto database = Database::open(folder_ + "/controller.db");
  ASSERT_TRUE(database);
  ASSERT_TRUE(
      (*database)->execute("DROP TRIGGER journal_grows; DROP TRIGGER journal_shrinks; DROP TABLE shares;"
                           "DROP INDEX journal_by_time; PRAGMA user_version = 1"));
  database->reset();
  EXPECT_THAT(replayed(), ElementsAre("1:1-2", "1:3-3"));
  const auto room = store().make_room(1, at(1'500));
  ASSERT_TRUE(room) << room.error().text;
  EXPECT_TRUE(room->has_value()) << "one is needed";
  EXPECT_THAT(replayed(), ElementsAre("1:3-3"));
}

TEST_P(StoreTest, ForgetsAlarmsWithTheEventsOfTheirTime) {
  ASSERT_TRUE(store().raise({"shop", "denied", "resize", "a", at(1'000), at(2'000), 1, "old"}, milliseconds(10)));
  ASSERT_TRUE(store().raise({"shop", "denied", "resize", "a", at(5'000), at(5'000), 1, "new"}, milliseconds(10)));
  ASSERT_TRUE(store().forget(at(3'000)));
  const auto alarms = store().alarms("shop", at(0));
  ASSERT_TRUE(alarms);
  ASSERT_THAT(*alarms, SizeIs(1));
  EXPECT_EQ((*alarms)[0].text, "new");
  ASSERT_TRUE(store().forget(at(6'000)));
  EXPECT_THAT(*store().alarms("shop", at(0)), IsEmpty());
  ASSERT_TRUE(store().raise({"shop", "denied", "resize", "a", at(5'005), at(5'005), 1, "again"}, milliseconds(10)));
  ASSERT_THAT(*store().alarms("shop", at(0)), SizeIs(1));
  EXPECT_EQ((*store().alarms("shop", at(0)))[0].count, 1U) << "of what is forgotten nothing is added to";
}

TEST_P(StoreTest, OfAnApplicationThatIsDroppedOnlyTheAuditStays) {
  const auto fill = [&](const std::string& application, unsigned char number) {
    ASSERT_TRUE(store().put_guard({guard_id(number), application, "resize", "pod-1", "token t1", at(1'000), 0}));
    std::vector<Store::Entry> entries;
    for (std::uint64_t i = 1; i <= 2'100; ++i) {
      entries.push_back(batch(number, i, i));
      entries.back().events->application = application;
    }
    entries.push_back({.decided = DecidedAsk{application, at(5'000), "of " + application}});
    append(std::move(entries));
    ASSERT_TRUE(store().raise({application, "denied", "resize", "a", at(1'000), at(2'000), 1, ""}, milliseconds(10)));
    for (const char* const text : {"one", "two"}) {
      ASSERT_TRUE(store().put_document({application, "resize", DocumentKind::policy, 0, text, "ann", at(1)}, 0));
    }
    ASSERT_TRUE(store().put_secret({application, "stripe", secret("sk-1")}));
    ASSERT_TRUE(store().put_tag_key({application, 1, secret(std::string(32, 'k')), at(1)}));
    JoinToken token{"t-" + application, application, "resize", {}, at(1), std::nullopt};
    token.hash[0] = number;
    ASSERT_TRUE(store().put_token(token));
    ASSERT_TRUE(store().audit({at(1), "ann", "create", application, ""}));
  };
  fill("shop", 1);
  fill("shop-2", 2);
  ASSERT_TRUE(store().drop_application("shop"));
  EXPECT_THAT(found({.application = "shop"}), IsEmpty());
  EXPECT_THAT(found({.application = "shop-2"}), SizeIs(2'100));
  EXPECT_THAT(replayed(), SizeIs(2'101));
  EXPECT_THAT(*store().alarms("shop", at(0)), IsEmpty());
  EXPECT_THAT(*store().alarms("shop-2", at(0)), SizeIs(1));
  EXPECT_THAT(*restarted().guards(), SizeIs(1));
  EXPECT_THAT(*store().documents(), SizeIs(1));
  EXPECT_THAT(*store().versions("shop", "resize", DocumentKind::policy), IsEmpty());
  EXPECT_THAT(*store().versions("shop-2", "resize", DocumentKind::policy), SizeIs(2));
  EXPECT_THAT(*store().secrets(), SizeIs(1));
  EXPECT_THAT(*store().tag_keys(), SizeIs(1));
  EXPECT_THAT(*store().tokens(), SizeIs(1));
  EXPECT_THAT(*store().audited(at(0), 10), SizeIs(2));
  EXPECT_EQ(*store().put_document({"shop", "resize", DocumentKind::policy, 0, "anew", "ann", at(9)}, 0), 1U);
}

TEST_P(StoreTest, KeepsEveryVersionOfADocumentAndRefusesOneThatIsNotBasedOnTheNewest) {
  Document policy{"shop", "resize", DocumentKind::policy, 0, "one", "ann", at(1)};
  EXPECT_EQ(*store().put_document(policy, 0), 1U);
  policy.text = "two";
  EXPECT_EQ(*store().put_document(policy, 1), 2U);
  policy.text = "three";
  const auto stale = store().put_document(policy, 1);
  ASSERT_FALSE(stale);
  EXPECT_EQ(stale.error().kind, ErrorKind::refused);
  EXPECT_THAT(stale.error().text, HasSubstr("its version is 2 and not 1"));
  const auto newest = restarted().documents();
  ASSERT_TRUE(newest);
  ASSERT_THAT(*newest, SizeIs(1));
  EXPECT_EQ((*newest)[0].text, "two");
  const auto versions = store().versions("shop", "resize", DocumentKind::policy);
  ASSERT_TRUE(versions);
  ASSERT_THAT(*versions, SizeIs(2));
  EXPECT_EQ((*versions)[1].author, "ann");
}

TEST_P(StoreTest, KeepsSecretsSealedAndForItsOwnUserAlone) {
  ASSERT_TRUE(store().put_secret({"shop", "stripe", secret("sk_live_51H")}));
  ASSERT_TRUE(store().put_tag_key({"shop", 1, secret("0123456789abcdef0123456789abcdef"), at(1)}));
  restarted();
  const auto secrets = store().secrets();
  ASSERT_TRUE(secrets) << secrets.error().text;
  ASSERT_THAT(*secrets, SizeIs(1));
  EXPECT_EQ((*secrets)[0].value.view(), "sk_live_51H");
  EXPECT_EQ((*store().tag_keys())[0].key.view(), "0123456789abcdef0123456789abcdef");
  for (const auto& file : std::filesystem::directory_iterator(folder_)) {
    struct stat status{};
    ASSERT_EQ(stat(file.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0077U, 0U) << file.path();
    const auto bytes = read_file(file.path(), 100 << 20);
    ASSERT_TRUE(bytes);
    EXPECT_THAT(*bytes, Not(HasSubstr("sk_live"))) << file.path();
    EXPECT_THAT(*bytes, Not(HasSubstr("0123456789abcdef"))) << file.path();
  }
  store_.reset();
  std::filesystem::remove(folder_ + "/secrets.key");
  const auto lost = store().secrets();
  ASSERT_FALSE(lost);
  EXPECT_THAT(lost.error().text, HasSubstr("secret stripe of shop cannot be read"));
}

TEST_P(StoreTest, GroupsAlarmsThatAreAlike) {
  AlarmRow alarm{"shop", "no-partner", "resize", "GET a.com/", at(1'000), at(1'000), 1, "first"};
  ASSERT_TRUE(store().raise(alarm, milliseconds(500)));
  alarm.first = alarm.last = at(1'400);
  alarm.text = "second";
  ASSERT_TRUE(store().raise(alarm, milliseconds(500)));
  alarm.first = alarm.last = at(9'000);
  ASSERT_TRUE(store().raise(alarm, milliseconds(500)));
  alarm.about = "GET b.com/";
  ASSERT_TRUE(store().raise(alarm, milliseconds(500)));
  const auto alarms = store().alarms("shop", at(0));
  ASSERT_TRUE(alarms);
  ASSERT_THAT(*alarms, SizeIs(3));
  EXPECT_EQ((*alarms)[0].count, 2U);
  EXPECT_EQ((*alarms)[0].text, "second");
  EXPECT_EQ((*alarms)[0].first, at(1'000));
  EXPECT_EQ((*alarms)[0].last, at(1'400));
}

TEST_P(StoreTest, KeepsTokensByTheirHashAndTheAudit) {
  JoinToken token{"jt-1", "shop", "resize", {}, at(5), at(100), false};
  token.hash[0] = 7;
  ASSERT_TRUE(store().put_token(token));
  token.revoked = true;
  ASSERT_TRUE(store().put_token(token));
  const auto tokens = restarted().tokens();
  ASSERT_TRUE(tokens);
  ASSERT_THAT(*tokens, SizeIs(1));
  EXPECT_TRUE((*tokens)[0].revoked);
  EXPECT_EQ((*tokens)[0].ends, at(100));
  ASSERT_TRUE(store().audit({at(1), "ann", "policy.put", "shop/resize", "version 2"}));
  ASSERT_TRUE(store().audit({at(2), "bob", "policy.rollback", "shop/resize", "version 1"}));
  EXPECT_EQ(store().audited(at(0), 1)->at(0).who, "bob");
  EXPECT_EQ(store().audited(at(0), 9)->at(0).who, "ann");
}

TEST_P(SqliteStoreTest, IsForOneControllerAtATime) {
  static_cast<void>(store());
  const auto second = SqliteStore::open(folder_);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().text, HasSubstr("another controller uses this folder"));
}

TEST_P(SqliteStoreTest, SaysWhatIsWrongWithItsFile) {
  static_cast<void>(store());
  store_.reset();
  std::filesystem::remove(folder_ + "/controller.db-wal");
  ASSERT_TRUE(write_file(folder_ + "/controller.db", std::string(8'192, 'x'), 0600));
  const auto damaged = SqliteStore::open(folder_);
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().kind, ErrorKind::malformed);
  EXPECT_THAT(damaged.error().text, HasSubstr("controller.db"));
  const auto nowhere = SqliteStore::open("/proc/nowhere");
  ASSERT_FALSE(nowhere);
  EXPECT_THAT(nowhere.error().text, HasSubstr("/proc/nowhere"));
}

// A process that stores and says so after each turn is killed at any moment: what it said is there, each once, and
// what it had not said is there whole or not at all.
TEST_P(SqliteStoreTest, LosesNothingWhenItsProcessIsKilled) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  put_guard(1);
  std::uint64_t said = 0;
  for (int round = 0; round < 6; ++round) {
    store_.reset();
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto opened = SqliteStore::open(folder_);
      if (!opened) _exit(1);
      for (std::uint64_t next = (*opened)->guards()->at(0).events_taken + 1;; next += 5) {
        const Store::Entry entries[] = {batch(1, next, next + 1), batch(1, next + 2, next + 4)};
        if (!(*opened)->append(entries)) _exit(2);
        const std::uint64_t last = next + 4;
        if (write(ends[1], &last, sizeof last) != sizeof last) _exit(3);
      }
    }
    close(ends[1]);
    std::this_thread::sleep_for(std::chrono::microseconds(20'000 + random() % 60'000));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    for (std::uint64_t last = 0; read(ends[0], &last, sizeof last) == sizeof last;) said = last;
    close(ends[0]);
    const std::uint64_t taken = store().guards()->at(0).events_taken;
    EXPECT_GE(taken, said);
    EXPECT_EQ(taken % 5, 0U);
    std::uint64_t next = 1;
    ASSERT_TRUE(store().replay(at(0), [&](Store::Entry&& entry) -> Result<void> {
      EXPECT_EQ(entry.events->first, next);
      next = entry.events->last + 1;
      return {};
    }));
    EXPECT_EQ(next, taken + 1);
  }
  EXPECT_GT(said, 0U);
}

}  // namespace
}  // namespace sallyport::controller
