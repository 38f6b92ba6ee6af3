#include "proxy/guard/policy_source.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <semaphore>
#include <stop_token>
#include <thread>

namespace sallyport::guard {
namespace {

using std::chrono::milliseconds;

// A directory with a policy in it, and a watcher that counts what it notices.
class PolicyWatcherTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "policy-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    write("policy.yaml", "first");
  }
  void TearDown() override {
    watcher_.reset();
    std::filesystem::remove_all(directory_);
  }

  void watch(const std::string& name) {
    auto watcher = PolicyWatcher::watch(directory_ / name, [this] { changes_.release(); });
    ASSERT_TRUE(watcher) << watcher.error().text;
    watcher_ = std::move(*watcher);
  }
  void write(const std::string& name, const std::string& text) { std::ofstream(directory_ / name) << text; }
  bool noticed() { return changes_.try_acquire_for(std::chrono::seconds(10)); }
  bool noticed_nothing() { return !changes_.try_acquire_for(milliseconds(300)); }

  std::filesystem::path directory_;
  std::counting_semaphore<> changes_{0};
  std::unique_ptr<PolicyWatcher> watcher_;
};

TEST_F(PolicyWatcherTest, NoticesAFileWrittenInPlace) {
  watch("policy.yaml");
  write("policy.yaml", "other");
  EXPECT_TRUE(noticed());
  EXPECT_TRUE(noticed_nothing()) << "one change, one call";
}

TEST_F(PolicyWatcherTest, NoticesAFileReplacedByRename) {
  watch("policy.yaml");
  write("policy.yaml.new", "first");
  std::filesystem::rename(directory_ / "policy.yaml.new", directory_ / "policy.yaml");
  EXPECT_TRUE(noticed());
}

TEST_F(PolicyWatcherTest, NoticesALinkOnTheWaySwitchedAsConfigMapsAre) {
  std::filesystem::create_directories(directory_ / "one");
  std::filesystem::create_directories(directory_ / "two");
  write("one/policy.yaml", "one");
  write("two/policy.yaml", "two");
  std::filesystem::create_directory_symlink("one", directory_ / "..data");
  std::filesystem::remove(directory_ / "policy.yaml");
  std::filesystem::create_symlink("..data/policy.yaml", directory_ / "policy.yaml");
  watch("policy.yaml");
  std::filesystem::create_directory_symlink("two", directory_ / "..data_tmp");
  std::filesystem::rename(directory_ / "..data_tmp", directory_ / "..data");
  EXPECT_TRUE(noticed());
}

// The records of a guard often lie beside its policy. When each of them reloaded it, every pooled connection was lost.
TEST_F(PolicyWatcherTest, DoesNotMindOtherFilesOfItsDirectory) {
  watch("policy.yaml");
  for (int i = 0; i < 3; ++i) write("records.jsonl", std::string(static_cast<std::size_t>(i), 'x'));
  write("another", "file");
  std::filesystem::remove(directory_ / "another");
  EXPECT_TRUE(noticed_nothing());
}

TEST_F(PolicyWatcherTest, IsNotPutOffByOtherFilesThatAreWrittenAllTheTime) {
  watch("policy.yaml");
  std::jthread busy([this](std::stop_token stop) {
    while (!stop.stop_requested()) {
      write("busy", "x");
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  write("policy.yaml", "other");
  EXPECT_TRUE(noticed());
}

}  // namespace
}  // namespace sallyport::guard
