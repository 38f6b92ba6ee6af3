#include "proxy/guard/policy_source.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <semaphore>
#include <stop_token>
#include <thread>

#include "base/read_file.h"

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

TEST_F(PolicyWatcherTest, NoticesAFileOpenedByAnotherPath) {
  std::filesystem::create_directories(directory_ / "held");
  std::filesystem::create_hard_link(directory_ / "policy.yaml", directory_ / "held" / "it");
  const std::string held = directory_ / "held" / "it";
  EXPECT_TRUE(same_file(directory_ / "policy.yaml", held));
  auto watcher = PolicyWatcher::watch(directory_ / "policy.yaml", [this] { changes_.release(); }, held);
  ASSERT_TRUE(watcher) << watcher.error().text;
  watcher_ = std::move(*watcher);
  write("policy.yaml", "in place");
  EXPECT_TRUE(noticed());
  write("policy.yaml.new", "another file");
  std::filesystem::rename(directory_ / "policy.yaml.new", directory_ / "policy.yaml");
  EXPECT_TRUE(noticed());
  EXPECT_FALSE(same_file(directory_ / "policy.yaml", held));
  PolicyFile policy = read_policy(directory_ / "policy.yaml", held, std::nullopt, nullptr);
  ASSERT_FALSE(policy.diagnostics.empty());
  EXPECT_EQ(policy.diagnostics[0].file, directory_ / "policy.yaml") << "the name that people know";
}

TEST(WriteFile, OverwritesNothingThroughALink) {
  std::string directory = testing::TempDir() + "write-XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  std::ofstream(directory + "/victim") << "precious";
  std::filesystem::create_symlink("victim", directory + "/draft.new");
  ASSERT_TRUE(write_file(directory + "/draft", "text"));
  std::string victim, draft;
  std::getline(std::ifstream(directory + "/victim"), victim);
  std::getline(std::ifstream(directory + "/draft"), draft);
  EXPECT_EQ(victim, "precious");
  EXPECT_EQ(draft, "text");
  std::filesystem::remove_all(directory);
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
