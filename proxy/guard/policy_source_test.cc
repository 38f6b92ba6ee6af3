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

  void watch(const std::string& name) { watch({directory_ / name}, {}); }
  void watch(const std::vector<std::string>& files, const OpenedAs& opened_as) {
    auto watcher = PolicyWatcher::watch(files, opened_as, [this, files] {
      changes_.release();
      return next_.empty() ? files : next_;
    });
    ASSERT_TRUE(watcher) << watcher.error().text;
    watcher_ = std::move(*watcher);
  }
  void write(const std::string& name, const std::string& text) { std::ofstream(directory_ / name) << text; }
  bool noticed() { return changes_.try_acquire_for(std::chrono::seconds(10)); }
  bool noticed_nothing() { return !changes_.try_acquire_for(milliseconds(300)); }

  std::filesystem::path directory_;
  std::counting_semaphore<> changes_{0};
  std::vector<std::string> next_;  // what is watched after the first change; empty: the same
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
  const std::string policy_file = directory_ / "policy.yaml";
  PolicyContext opened;
  opened.opened_as[policy_file] = held;
  watch({policy_file}, opened.opened_as);
  write("policy.yaml", "in place");
  EXPECT_TRUE(noticed());
  write("policy.yaml.new", "another file");
  std::filesystem::rename(directory_ / "policy.yaml.new", directory_ / "policy.yaml");
  EXPECT_TRUE(noticed());
  EXPECT_FALSE(same_file(directory_ / "policy.yaml", held));
  PolicyFile policy = read_policy(policy_file, opened);
  ASSERT_FALSE(policy.diagnostics.empty());
  EXPECT_EQ(policy.diagnostics[0].file, directory_ / "policy.yaml") << "the name that people know";
}

TEST_F(PolicyWatcherTest, WatchesWhatThePolicyNamesNow) {
  std::filesystem::create_directories(directory_ / "graphs");
  write("graphs/one.yaml", "one");
  next_ = {directory_ / "policy.yaml", directory_ / "graphs" / "one.yaml"};
  watch("policy.yaml");
  write("graphs/one.yaml", "nobody cares yet");
  EXPECT_TRUE(noticed_nothing());
  write("policy.yaml", "names the graph");
  EXPECT_TRUE(noticed());
  EXPECT_TRUE(noticed_nothing());
  write("graphs/one.yaml", "changed");
  EXPECT_TRUE(noticed());
}

// A policy that names a flow graph, and that graph.
class PolicyWithGraph : public PolicyWatcherTest {
 protected:
  PolicyFile read(const std::string& flow, const PolicyContext& context = {}) {
    write("policy.yaml",
          "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: shop}\nspec:\n  endpoints: []\n"
          "  flow: " +
              flow + "\n");
    return read_policy(directory_ / "policy.yaml", context);
  }
  void write_graph(const std::string& function, const std::string& more = "") {
    write("shop.graph.yaml", "apiVersion: sallyport.dev/v1alpha1\nkind: FlowGraph\nmetadata: {name: " + function +
                                 "}\nspec:\n" + more +
                                 "  entry: [a]\n  nodes:\n  - {name: a, request: GET a.example/, next: [exit]}\n");
  }
  static std::string errors_of(const PolicyFile& file) {
    std::string out;
    for (const document::Diagnostic& one : file.diagnostics) out += one.to_string() + "\n";
    return out;
  }
};

TEST_F(PolicyWithGraph, FindsItBesideThePolicy) {
  write_graph("shop");
  const PolicyFile file = read("shop.graph.yaml");
  ASSERT_TRUE(file.graph) << errors_of(file);
  EXPECT_EQ(file.graph->node_count(), 1U);
  EXPECT_EQ(file.graph_file, directory_ / "shop.graph.yaml");
}

TEST_F(PolicyWithGraph, IsNoneWithoutIt) {
  const PolicyFile file = read("{graph: other.yaml}");
  EXPECT_FALSE(file.snapshot);
  EXPECT_NE(errors_of(file).find("policy.yaml:6:1: error: the flow graph: "), std::string::npos) << errors_of(file);
  EXPECT_EQ(file.graph_file, directory_ / "other.yaml") << "it is watched all the same, as it may come";
}

TEST_F(PolicyWithGraph, SaysWhatIsWrongInTheGraph) {
  write_graph("shop", "  unknown: 1\n");
  const PolicyFile file = read("shop.graph.yaml");
  EXPECT_FALSE(file.snapshot);
  EXPECT_NE(errors_of(file).find("shop.graph.yaml:5:3: error: unknown field 'unknown'"), std::string::npos)
      << errors_of(file);
}

TEST_F(PolicyWithGraph, RefusesThatOfAnotherFunction) {
  write_graph("bank");
  const PolicyFile file = read("shop.graph.yaml");
  EXPECT_FALSE(file.snapshot);
  EXPECT_NE(errors_of(file).find("is for the function 'bank'"), std::string::npos) << errors_of(file);
}

TEST_F(PolicyWithGraph, RefusesThatOfAnotherImageUnlessItIsRelaxed) {
  const std::string digest(64, 'a'), other(64, 'b');
  write_graph("shop", "  imageDigest: sha256:" + digest + "\n");
  PolicyContext context;
  context.image_digest = "sha256:" + digest;
  EXPECT_TRUE(read("shop.graph.yaml").snapshot) << "nobody has said which image runs";
  EXPECT_TRUE(read("shop.graph.yaml", context).snapshot);
  context.image_digest = "sha256:" + other;
  EXPECT_FALSE(read("shop.graph.yaml", context).snapshot);
  EXPECT_FALSE(read("{graph: shop.graph.yaml, relaxUntil: '2020-01-01T00:00:00Z'}", context).snapshot);
  const PolicyFile relaxed = read("{graph: shop.graph.yaml, relaxUntil: '2120-01-01T00:00:00Z'}", context);
  EXPECT_TRUE(relaxed.snapshot && relaxed.graph) << errors_of(relaxed);
  EXPECT_NE(errors_of(relaxed).find("warning: the flow graph"), std::string::npos) << "and says so";
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
