#include "proxy/guard/trace_writer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "base/limits.h"

namespace sallyport::guard {
namespace {

class TraceFiles : public testing::Test {
 protected:
  TraceFiles() {
    std::string pattern = std::filesystem::temp_directory_path() / "traces-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
  }
  ~TraceFiles() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ / name; }
  Result<std::unique_ptr<TraceWriter>> open(const std::string& file) {
    return TraceWriter::open(file, [this](const std::string& text) { complaints.push_back(text); });
  }
  static flow::v1alpha1::Trace trace(const std::string& execution) {
    flow::v1alpha1::Trace out;
    out.set_function("f");
    out.set_execution(execution);
    out.set_end(flow::v1alpha1::EXECUTION_END_COMPLETE);
    return out;
  }
  // The executions in a file, in order.
  static std::vector<std::string> read(const std::string& file) {
    std::ifstream stream(file);
    std::ostringstream bytes;
    bytes << stream.rdbuf();
    std::vector<std::string> out;
    bool cut = false;
    const auto done = flow::read_traces(
        bytes.str(), file,
        [&](flow::v1alpha1::Trace&& one) -> Result<void> {
          out.push_back(one.execution());
          return {};
        },
        cut);
    EXPECT_TRUE(done) << done.error().text;
    EXPECT_FALSE(cut);
    return out;
  }

  std::vector<std::string> complaints;

 private:
  std::filesystem::path folder_;
};

TEST_F(TraceFiles, BothFormsAreAppendedTo) {
  for (const std::string name : {"a.jsonl", "a.pb"}) {
    for (const std::string id : {"1", "2"}) {
      auto writer = open(path(name));
      ASSERT_TRUE(writer) << writer.error().text;
      (*writer)->write(trace(id));
      (*writer)->write(trace(id + "b"));
    }
    EXPECT_EQ(read(path(name)), (std::vector<std::string>{"1", "1b", "2", "2b"}));
  }
  EXPECT_TRUE(complaints.empty());
}

TEST_F(TraceFiles, AFileThatEndsInTheMiddleOfATraceIsNotAppendedTo) {
  for (const std::string name : {"a.jsonl", "a.pb"}) {
    {
      auto writer = open(path(name));
      ASSERT_TRUE(writer);
      (*writer)->write(trace("1"));
    }
    std::filesystem::resize_file(path(name), std::filesystem::file_size(path(name)) - 1);
    const auto again = open(path(name));
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().kind, ErrorKind::malformed);
  }
  std::ofstream(path("other.pb")) << "some other file\n";
  EXPECT_FALSE(open(path("other.pb")));
  EXPECT_FALSE(open("/dev/null"));
  EXPECT_FALSE(open(path("no/such/folder")));
}

// One would make a file unreadable from there on.
TEST_F(TraceFiles, ATraceThatNobodyCouldReadIsNotWritten) {
  for (const std::string name : {"a.jsonl", "a.pb"}) {
    complaints.clear();
    {
      auto writer = open(path(name));
      ASSERT_TRUE(writer);
      flow::v1alpha1::Trace large = trace("large");
      // Actions may have '<', which is six bytes in protobuf's JSON.
      const std::size_t bytes = name == "a.pb" ? limits::kTraceBytesMax : limits::kTraceBytesMax / 6;
      for (std::size_t i = 0; i < bytes; i += limits::kActionBytesMax) {
        flow::v1alpha1::Operation& operation = *large.add_flows()->mutable_operation();
        operation.set_method("GET");
        operation.set_host("a.example");
        operation.set_path("/");
        operation.set_action(std::string(limits::kActionBytesMax, '<'));
      }
      flow::v1alpha1::Trace odd = trace("odd");
      odd.mutable_inbound()->set_path("*");
      (*writer)->write(large);
      (*writer)->write(odd);
      (*writer)->write(trace("1"));
      EXPECT_EQ(complaints.size(), 1U);
    }
    EXPECT_EQ(read(path(name)), (std::vector<std::string>{"1"})) << name;
    ASSERT_EQ(complaints.size(), 2U);
    EXPECT_NE(complaints[1].find("2 traces were lost"), std::string::npos);
  }
}

TEST_F(TraceFiles, AFullDiskIsSaidOnceAndLeavesAFileThatCanBeRead) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const std::string file = path("a.jsonl");
  {
    auto writer = open(file);
    ASSERT_TRUE(writer);
    (*writer)->write(trace("1"));
    const rlimit small{std::filesystem::file_size(file) + 10, before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    (*writer)->write(trace("2"));
    (*writer)->write(trace("3"));
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    ASSERT_EQ(complaints.size(), 1U);
    (*writer)->write(trace("4"));
  }
  EXPECT_EQ(read(file), (std::vector<std::string>{"1", "4"}));
  ASSERT_EQ(complaints.size(), 2U);
  EXPECT_NE(complaints[1].find("2 traces were lost"), std::string::npos);
}

}  // namespace
}  // namespace sallyport::guard
