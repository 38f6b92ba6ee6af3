#include "policy-engine/flow/trace_file.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "base/read_file.h"
#include "policy-engine/flow/learning/trace_check.h"
#include "policy-engine/flow/trace_builder.h"
#include "policy-engine/flow/trace_json.h"

namespace sallyport::flow {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::HasSubstr;
using v1alpha1::Trace;

struct Read {
  std::vector<Trace> traces;
  Result<void> result;
  bool cut = false;
};

Read read(std::string_view bytes) {
  Read out;
  out.result = read_traces(
      bytes, "t",
      [&](Trace&& trace) -> Result<void> {
        out.traces.push_back(std::move(trace));
        return {};
      },
      out.cut);
  return out;
}

Trace full() {
  Trace trace = TraceBuilder("resize")
                    .request("POST", "dynamodb.us-east-1.amazonaws.com", "/", "", "DynamoDB_20120810.PutItem")
                    .get("http://s3.amazonaws.com:8080", "/b/%2Fkey", "versionId=3&x=%7B")
                    .status(503)
                    .put("s3.amazonaws.com", "/b/1")
                    .redirects(307, "s3.eu-west-1.amazonaws.com", "/b/1")
                    .done();
  trace.set_execution("0123456789abcdef0123456789abcdef");
  trace.set_image_digest("sha256:" + std::string(64, '0'));
  trace.mutable_began()->set_seconds(1'790'000'000);
  trace.mutable_inbound()->set_method("POST");
  trace.mutable_inbound()->set_host("resize.example");
  trace.mutable_inbound()->set_path("/");
  trace.mutable_flows(0)->set_bytes_up(UINT64_MAX);
  return trace;
}

std::string file_of(const std::vector<Trace>& traces, TraceForm form) {
  std::string out;
  for (const Trace& trace : traces) append_trace(out, trace, form, out.empty());
  return out;
}

class EachForm : public testing::TestWithParam<TraceForm> {};
INSTANTIATE_TEST_SUITE_P(TraceFile, EachForm, testing::Values(TraceForm::json_lines, TraceForm::binary));

TEST_P(EachForm, GivesBackWhatWasWritten) {
  const std::vector<Trace> traces = {full(), TraceBuilder().letters("AB").done(), TraceBuilder().done()};
  const Read got = read(file_of(traces, GetParam()));
  ASSERT_TRUE(got.result) << got.result.error().text;
  EXPECT_FALSE(got.cut);
  ASSERT_EQ(got.traces.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(MessageDifferencer::Equals(got.traces[i], traces[i])) << i;
}

TEST_P(EachForm, IsReadWhereverItWasCutOffAndSaysSo) {
  const std::string one = file_of({full()}, GetParam());
  const std::string bytes = file_of({full(), full()}, GetParam());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const Read got = read(std::string_view(bytes).substr(0, size));
    ASSERT_TRUE(got.result) << size << ": " << got.result.error().text;
    // A line without its end is complete if its last brace is there.
    const bool complete = GetParam() == TraceForm::json_lines && (size == one.size() - 1 || size == bytes.size() - 1);
    EXPECT_EQ(got.traces.size(),
              size >= one.size() - (complete ? 1 : 0) ? (size == bytes.size() - 1 && complete ? 2U : 1U) : 0U);
    const bool at_border = size == 0 || size == one.size() || complete;
    const bool mark_alone = GetParam() == TraceForm::binary && size == 8;
    EXPECT_EQ(got.cut, !at_border && !mark_alone) << size;
  }
}

TEST_P(EachForm, InPiecesOfAnySizeIsTheSameAsAtOnce) {
  const std::string bad = GetParam() == TraceForm::json_lines ? "nonsense\n" : "\x03\xff\xff\xff";
  for (const std::string& end : {std::string(), file_of({full()}, GetParam()).substr(0, 30), bad}) {
    const std::string bytes = file_of({full(), TraceBuilder().done(), full()}, GetParam()) + end;
    const Read expected = read(bytes);
    for (std::size_t piece = 1; piece <= bytes.size(); piece += piece < 20 ? 1 : 97) {
      Read found;
      std::string_view rest = bytes;
      found.result = read_trace_pieces(
          [&](std::span<char> room) -> Result<std::size_t> {
            const std::size_t size = rest.copy(room.data(), std::min(piece, room.size()));
            rest.remove_prefix(size);
            return size;
          },
          "t",
          [&](Trace&& trace) -> Result<void> {
            found.traces.push_back(std::move(trace));
            return {};
          },
          found.cut);
      ASSERT_EQ(found.result.has_value(), expected.result.has_value()) << piece;
      if (!expected.result) EXPECT_EQ(found.result.error().text, expected.result.error().text) << piece;
      EXPECT_EQ(found.cut, expected.cut) << piece;
      ASSERT_EQ(found.traces.size(), expected.traces.size()) << piece;
      for (std::size_t i = 0; i < found.traces.size(); ++i) {
        EXPECT_TRUE(MessageDifferencer::Equals(found.traces[i], expected.traces[i])) << piece;
      }
    }
  }
}

// Read piece by piece: every trace is whole in one, stands in two, or is longer than any.
TEST_P(EachForm, OfAFileIsTheSameAsOfItsBytes) {
  std::mt19937 random(5);
  std::vector<Trace> traces;
  std::size_t bytes = 0;
  while (bytes < (7U << 20)) {
    Trace trace = full();
    const std::size_t size = random() % 50 == 0 ? (2U << 20) + random() % 1000 : random() % 3'000;
    for (std::size_t i = 0; i < size; i += 100) {
      trace.add_flows()->CopyFrom(trace.flows(0));
      trace.mutable_flows()->rbegin()->mutable_operation()->set_path("/" + std::string(100, 'x'));
    }
    bytes += trace.ByteSizeLong();
    traces.push_back(std::move(trace));
  }
  const std::string whole = file_of(traces, GetParam());
  const std::string path = testing::TempDir() + "/sallyport_trace_file_test." + std::to_string(getpid());
  for (const std::size_t size : {whole.size(), whole.size() - 1, std::size_t{1} << 20, (std::size_t{1} << 20) + 1}) {
    const std::string part = whole.substr(0, size);
    ASSERT_TRUE(write_file(path, part));
    const Read expected = read(part);
    Read found;
    found.result = read_trace_file(
        path,
        [&](Trace&& trace) -> Result<void> {
          found.traces.push_back(std::move(trace));
          return {};
        },
        found.cut);
    ASSERT_TRUE(found.result) << found.result.error().text;
    EXPECT_EQ(found.cut, expected.cut);
    ASSERT_EQ(found.traces.size(), expected.traces.size());
    for (std::size_t i = 0; i < found.traces.size(); ++i) {
      ASSERT_TRUE(MessageDifferencer::Equals(found.traces[i], expected.traces[i])) << i;
    }
  }
  unlink(path.c_str());
}

TEST(TraceFile, ThatIsNotThereIsSaid) {
  bool cut = false;
  const auto found = read_trace_file("/nowhere/t.jsonl", [](Trace&&) -> Result<void> { return {}; }, cut);
  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().text, HasSubstr("can't read /nowhere/t.jsonl"));
}

TEST_P(EachForm, NamesThePlaceOfWhatIsNoTrace) {
  std::string bytes = file_of({full()}, GetParam());
  const std::size_t second = bytes.size();
  if (GetParam() == TraceForm::json_lines) {
    bytes += "{\"function\": \x1b[31m}\n";
  } else {
    bytes += "\x03\xff\xff\xff";
  }
  bytes += file_of({full()}, TraceForm::json_lines);
  const Read got = read(bytes);
  ASSERT_FALSE(got.result);
  EXPECT_EQ(got.result.error().kind, ErrorKind::malformed);
  EXPECT_EQ(got.traces.size(), 1U);
  const std::string& text = got.result.error().text;
  EXPECT_THAT(text, HasSubstr(GetParam() == TraceForm::json_lines ? "t:2: not a trace"
                                                                  : "trace 2 at byte " + std::to_string(second)));
  EXPECT_THAT(text, HasSubstr("collect the traces again"));
  EXPECT_EQ(text.find('\x1b'), std::string::npos) << "hostile bytes do not reach a terminal";
}

TEST(TraceFile, SkipsBlankLinesAndTakesAnEmptyFile) {
  EXPECT_TRUE(read("").result);
  const Read got = read("\n  \r\n" + file_of({full()}, TraceForm::json_lines) + "\n");
  ASSERT_TRUE(got.result);
  EXPECT_EQ(got.traces.size(), 1U);
}

TEST(TraceFile, RefusesFieldsThatItDoesNotKnow) {
  const Read got = read("{\"function\": \"f\", \"flowz\": []}\n{}\n");
  ASSERT_FALSE(got.result);
  EXPECT_THAT(got.result.error().text, HasSubstr("t:1: not a trace"));
  // In the trace itself, and within its first operation.
  Trace trace = full();
  trace.GetReflection()->MutableUnknownFields(&trace)->AddVarint(1'000, 1);
  EXPECT_THAT(read(file_of({trace}, TraceForm::binary)).result.error().text, HasSubstr("a field that is not known"));
  trace = full();
  v1alpha1::Operation& operation = *trace.mutable_flows(0)->mutable_operation();
  operation.GetReflection()->MutableUnknownFields(&operation)->AddVarint(1'000, 1);
  EXPECT_THAT(read(file_of({trace}, TraceForm::binary)).result.error().text, HasSubstr("a field that is not known"));
}

TEST(TraceFile, RefusesALengthBeyondTheLimitAndOneWithoutEnd) {
  std::string bytes = "SLPTRC1\n";
  bytes += "\xff\xff\xff\x7f";
  bytes += "x";
  EXPECT_THAT(read(bytes).result.error().text, HasSubstr("trace 1 at byte 8: its length is more than"));
  EXPECT_FALSE(read("SLPTRC1\n\xff\xff\xff\xff\xff\xff\xff\xff").result);
}

TEST(TraceFile, RefusesALineBeyondTheLimit) {
  EXPECT_THAT(read(std::string(limits::kTraceBytesMax + 1, ' ')).result.error().text, HasSubstr("longer than"));
}

TEST(TraceFile, StopsWhereItsReaderDoes) {
  bool cut = false;
  const auto result = read_traces(
      file_of({full(), full()}, TraceForm::binary), "t",
      [](Trace&&) -> Result<void> { return fail(ErrorSource::policy, ErrorKind::limit, "enough"); }, cut);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().text, "enough");
}

TEST(TraceFile, SurvivesRandomBytesAndRandomDamage) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 2'000; ++round) {
    std::string bytes = file_of({full(), full()}, round % 2 == 0 ? TraceForm::binary : TraceForm::json_lines);
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    read(bytes);  // any answer, and no sanitizer's complaint
  }
}

// Whether it was read without protobuf's parser, which then has to read the same.
bool is_read_as_protobuf_does(const std::string& line) {
  Trace plain, wanted;
  if (!read_plain_json(line, plain)) return false;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(line, &wanted).ok()) << line;
  EXPECT_TRUE(MessageDifferencer::Equals(plain, wanted)) << line << "\n" << plain.DebugString();
  return true;
}

std::string line_of(const Trace& trace) {
  std::string line = file_of({trace}, TraceForm::json_lines);
  line.pop_back();
  return line;
}

TEST(PlainJson, IsWhatGuardsWrite) {
  EXPECT_TRUE(is_read_as_protobuf_does(line_of(full())));
  EXPECT_TRUE(is_read_as_protobuf_does(line_of(Trace())));
  EXPECT_TRUE(is_read_as_protobuf_does(line_of(TraceBuilder().letters("AB").failed().done())));
  for (const int nanos : {0, 1, 999'999'999, 120'000'000, 1'000}) {
    Trace trace = full();
    trace.mutable_began()->set_nanos(nanos);
    trace.mutable_duration()->set_nanos(nanos);
    trace.mutable_duration()->set_seconds(315'575'999'999);
    EXPECT_TRUE(is_read_as_protobuf_does(line_of(trace))) << nanos;
  }
  for (const std::int64_t seconds : {-62'135'596'800, -1L, 0L, 951'782'400L, 253'402'300'799}) {
    Trace trace = full();
    trace.mutable_began()->set_seconds(seconds);
    EXPECT_TRUE(is_read_as_protobuf_does(line_of(trace))) << seconds;
  }
  for (int end = 1; end <= 3; ++end) {
    Trace trace = full();
    trace.set_end(static_cast<v1alpha1::ExecutionEnd>(end));
    trace.mutable_flows(0)->set_end(static_cast<v1alpha1::FlowEnd>(end));
    EXPECT_TRUE(is_read_as_protobuf_does(line_of(trace))) << end;
  }
}

TEST(PlainJson, LeavesAllOtherFormsToProtobuf) {
  for (const std::string line : {R"()",
                                 R"({)",
                                 R"([])",
                                 R"({} )",
                                 R"({ })",
                                 R"({"function":"f",})",
                                 R"({"function":"f"}})",
                                 R"({"function":"f)",
                                 R"({"function":"\u0066"})",
                                 "{\"function\":\"\xc3\xa9\"}",
                                 "{\"function\":\"a\tb\"}",
                                 R"({"function":"f","function":"g"})",
                                 R"({"execution":"f","function":"g"})",
                                 R"({"image_digest":"f"})",
                                 R"({"function":null})",
                                 R"({"function":1})",
                                 R"({"flowz":[]})",
                                 R"({"flows":[{},]})",
                                 R"({"flows":[)",
                                 R"({"flows":[{"status":4294967296}]})",
                                 R"({"flows":[{"status":01}]})",
                                 R"({"flows":[{"status":1.0}]})",
                                 R"({"flows":[{"status":"1"}]})",
                                 R"({"flows":[{"status":-1}]})",
                                 R"({"flows":[{"end":1}]})",
                                 R"({"flows":[{"end":"EXECUTION_END_CUT"}]})",
                                 R"({"flows":[{"bytesUp":1}]})",
                                 R"({"flows":[{"bytesUp":"18446744073709551616"}]})",
                                 R"({"duration":"-1s"})",
                                 R"({"duration":"1"})",
                                 R"({"duration":"1.s"})",
                                 R"({"duration":"1.0000000001s"})",
                                 R"({"duration":"315576000001s"})",
                                 R"({"began":"2026-02-29T00:00:00Z"})",
                                 R"({"began":"2026-01-01T24:00:00Z"})",
                                 R"({"attributed":1})",
                                 R"({"began":"0000-01-01T00:00:00Z"})",
                                 R"({"began":"2026-01-01T00:00:00+01:00"})"}) {
    EXPECT_FALSE(is_read_as_protobuf_does(line)) << line;
  }
}

TEST(PlainJson, IsReadAsProtobufReadsItWhateverWasChanged) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::string original = line_of(full());
  constexpr std::string_view kBytes = R"({}[]",:.0159-sZT\ntrue)";
  int taken = 0;
  for (int round = 0; round < 5'000; ++round) {
    std::string line = original;
    const std::size_t at = random() % line.size(), size = std::min<std::size_t>(random() % 24, line.size() - at);
    switch (random() % 4) {
      case 0:
        line.erase(at, 1);
        break;
      case 1:
        line.insert(at, 1, kBytes[random() % kBytes.size()]);
        break;
      case 2:
        line[at] = kBytes[random() % kBytes.size()];
        break;
      default:  // a part of it again, somewhere else
        line.insert(random() % line.size(), line.substr(at, size));
    }
    taken += is_read_as_protobuf_does(line) ? 1 : 0;
  }
  EXPECT_GT(taken, 500) << "changes within strings and numbers are plain";
}

struct BadTrace {
  std::string what;
  void (*spoil)(Trace&);
};

class EachMistake : public testing::TestWithParam<BadTrace> {};

TEST_P(EachMistake, IsRefusedAtItsPlace) {
  Trace trace = full();
  GetParam().spoil(trace);
  const Read got = read(file_of({full(), trace}, TraceForm::binary));
  ASSERT_FALSE(got.result);
  EXPECT_THAT(got.result.error().text, HasSubstr("trace 2 at byte"));
  EXPECT_THAT(got.result.error().text, HasSubstr(GetParam().what));
}

INSTANTIATE_TEST_SUITE_P(
    TraceFile, EachMistake,
    testing::Values(
        BadTrace{"the function is none", [](Trace& trace) { trace.clear_function(); }},
        BadTrace{"the function is none", [](Trace& trace) { trace.set_function("My_Function"); }},
        BadTrace{"the image digest", [](Trace& trace) { trace.set_image_digest("sha256:0a"); }},
        BadTrace{"flow 2: the method",
                 [](Trace& trace) { trace.mutable_flows(1)->mutable_operation()->set_method("get"); }},
        BadTrace{"flow 2: the host",
                 [](Trace& trace) { trace.mutable_flows(1)->mutable_operation()->set_host("A.com"); }},
        BadTrace{"flow 2: the host",
                 [](Trace& trace) { trace.mutable_flows(1)->mutable_operation()->set_host("{word}.com"); }},
        BadTrace{"flow 2: the path", [](Trace& trace) { trace.mutable_flows(1)->mutable_operation()->set_path("x"); }},
        BadTrace{"flow 2: the path",
                 [](Trace& trace) { trace.mutable_flows(1)->mutable_operation()->set_path("/\n"); }},
        BadTrace{"flow 2: the path", [](Trace& trace) { trace.mutable_flows(1)->mutable_operation()->set_path("/?"); }},
        BadTrace{"flow 1: the action",
                 [](Trace& trace) { trace.mutable_flows(0)->mutable_operation()->set_action("a\nb"); }},
        BadTrace{"flow 3: in the redirect",
                 [](Trace& trace) { trace.mutable_flows(2)->mutable_redirect()->clear_path(); }},
        BadTrace{"flow 1: a time",
                 [](Trace& trace) { trace.mutable_flows(0)->mutable_began()->set_nanos(1'000'000'000); }},
        BadTrace{"flow 1: a time",
                 [](Trace& trace) { trace.mutable_flows(0)->mutable_ended()->set_seconds(INT64_MIN); }},
        BadTrace{"flow 1: there is no operation", [](Trace& trace) { trace.mutable_flows(0)->clear_operation(); }}));

TEST(Clock, ThatJumpedIsPutRight) {
  Trace trace = TraceBuilder().letters("ABC").done();
  trace.mutable_flows(0)->mutable_began()->set_nanos(50'000'000);  // ended before it began, and behind C
  trace.mutable_flows(1)->mutable_began()->set_seconds(-3);
  trace.mutable_flows(1)->mutable_began()->set_nanos(0);
  EXPECT_TRUE(learning::repair_clock(trace));
  std::string order;
  std::int64_t before = 0;
  for (const auto& flow : trace.flows()) {
    order += flow.operation().path().substr(1);
    EXPECT_GE(learning::nanoseconds(flow.began()), before);
    EXPECT_GE(learning::nanoseconds(flow.ended()), learning::nanoseconds(flow.began()));
    before = learning::nanoseconds(flow.began());
  }
  EXPECT_EQ(order, "BCA");
  EXPECT_FALSE(learning::repair_clock(trace)) << "once is enough";
}

TEST(Clock, ThatDidNotJumpIsLeftAlone) {
  Trace trace = TraceBuilder().letters("ABC").done();
  const Trace before = trace;
  EXPECT_FALSE(learning::repair_clock(trace));
  EXPECT_EQ(trace.SerializeAsString(), before.SerializeAsString());
}

}  // namespace
}  // namespace sallyport::flow
