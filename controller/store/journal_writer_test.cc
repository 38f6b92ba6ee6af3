#include "controller/store/journal_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <future>
#include <thread>

#include "controller/store/sqlite_store.h"

namespace sallyport::controller {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

EventBatch batch(std::uint64_t first, std::uint64_t last, std::size_t bytes = 100) {
  return {GuardId{1}, "shop", "resize", first, last, Time(1s), Time(1s), 2, std::string(bytes, 'x')};
}

class JournalWriterTest : public testing::Test {
 protected:
  explicit JournalWriterTest(std::string folder = testing::TempDir() + "/sallyport_journal." + std::to_string(getpid()))
      : folder_(std::move(folder)) {
    std::filesystem::remove_all(folder_ + "/data");
    std::filesystem::create_directories(folder_);
  }
  ~JournalWriterTest() override {
    store_.reset();
    std::filesystem::remove_all(folder_ + "/data");
  }
  void open() {
    auto opened = SqliteStore::open(folder_ + "/data");
    ASSERT_TRUE(opened) << opened.error().text;
    store_ = std::move(*opened);
    ASSERT_TRUE(store_->put_guard({GuardId{1}, "shop", "resize", "pod", "t", Time(1s), 0}));
  }
  std::uint64_t taken() { return store_->guards()->at(0).events_taken; }

  const std::string folder_;
  std::unique_ptr<SqliteStore> store_;
};

TEST_F(JournalWriterTest, SaysThatAnEntryIsStoredWhenItIs) {
  open();
  JournalWriter writer(*store_, [](const std::string& text) { ADD_FAILURE() << text; });
  for (std::uint64_t i = 1; i <= 200; ++i) {
    std::promise<std::uint64_t> stored;
    writer.append(batch(i, i), [&] { stored.set_value(taken()); });
    EXPECT_GE(stored.get_future().get(), i);
  }
  EXPECT_TRUE(writer.working());
  EXPECT_FALSE(writer.full());
}

TEST_F(JournalWriterTest, StoresAGuardBeforeItsEvents) {
  open();
  JournalWriter writer(*store_, [](const std::string& text) { ADD_FAILURE() << text; });
  std::atomic<int> stored = 0;
  GuardRow guard{GuardId{2}, "shop", "resize", "pod-2", "t", Time(1s), 0};
  writer.append(std::move(guard), [&] { ++stored; }, [](const Error& error) { ADD_FAILURE() << error.text; });
  EventBatch events = batch(1, 3);
  events.guard = GuardId{2};
  writer.append(std::move(events), [&] { ++stored; });
  EXPECT_TRUE(writer.drain(10s));
  EXPECT_EQ(stored, 2);
  const auto guards = store_->guards();
  ASSERT_EQ(guards->size(), 2U);
  EXPECT_EQ(guards->at(1).events_taken, 3U);
}

TEST_F(JournalWriterTest, WritesWhatIsLeftWhenItEnds) {
  open();
  std::atomic<int> done = 0;
  {
    JournalWriter writer(*store_, [](const std::string& text) { ADD_FAILURE() << text; });
    for (std::uint64_t i = 1; i <= 5'000; ++i) writer.append(batch(i, i), [&] { ++done; });
  }
  EXPECT_EQ(done, 5'000);
  EXPECT_EQ(taken(), 5'000U);
}

// A file system of 2 MiB that fills up, and on which there is room again.
class FullDisk : public JournalWriterTest {
 protected:
  FullDisk() : JournalWriterTest(testing::TempDir() + "/sallyport_full." + std::to_string(getpid())) {}
  ~FullDisk() override {
    store_.reset();
    umount2(folder_.c_str(), MNT_DETACH);
    std::filesystem::remove_all(folder_);
  }
};

TEST_F(FullDisk, KeepsEventsUntilThereIsRoomAndFailsAsksAtOnce) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, for a small file system";
  ASSERT_EQ(mount("tmpfs", folder_.c_str(), "tmpfs", 0, "size=2m"), 0) << std::strerror(errno);
  open();
  std::atomic<int> stored = 0, troubles = 0, recovered = 0;
  std::promise<std::string> said;
  {
    JournalWriter writer(*store_, [&](const std::string& text) {
      if (text.empty()) ++recovered;
      if (!text.empty() && ++troubles == 1) said.set_value(text);
    });
    for (std::uint64_t i = 1; i <= 40; ++i) writer.append(batch(i, i, 100'000), [&] { ++stored; });
    EXPECT_THAT(said.get_future().get(), HasSubstr("the disk is full"));
    EXPECT_FALSE(writer.working());
    EXPECT_LT(stored, 40);

    std::promise<std::string> refused;
    const auto before = std::chrono::steady_clock::now();
    writer.append(
        DecidedAsk{"shop", Time(1s), "x"}, [&] { refused.set_value("stored"); },
        [&](const Error& error) { refused.set_value(error.text); });
    EXPECT_THAT(refused.get_future().get(), HasSubstr("the disk is full"));
    EXPECT_LT(std::chrono::steady_clock::now() - before, 500ms);

    ASSERT_EQ(mount("tmpfs", folder_.c_str(), "tmpfs", MS_REMOUNT, "size=64m"), 0);
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (stored < 40 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(10ms);
  }
  EXPECT_EQ(stored, 40);
  EXPECT_EQ(recovered, 1);
  EXPECT_EQ(taken(), 40U);
  std::uint64_t next = 1;
  ASSERT_TRUE(store_->replay(Time(0s), [&](Store::Entry&& entry) -> Result<void> {
    EXPECT_TRUE(entry.events && entry.events->first == next++);
    return {};
  }));
  EXPECT_EQ(next, 41U);
}

}  // namespace
}  // namespace sallyport::controller
