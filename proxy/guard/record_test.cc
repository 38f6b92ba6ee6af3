#include "proxy/guard/record.h"

#include <gtest/gtest.h>

#include <climits>

#include "proxy/guard/json.h"

namespace sallyport::guard {
namespace {

std::string json_of(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

std::string line_of(const Record& record, std::string_view function) {
  std::string out;
  append_json(out, record, function);
  return out;
}

TEST(JsonString, EscapesWhatCouldBreakALineOrReachATerminal) {
  EXPECT_EQ(json_of("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(json_of("x\ny\x1b[31m"), "\"x\\u000ay\\u001b[31m\"");
  EXPECT_EQ(json_of(std::string_view("\0", 1)), "\"\\u0000\"");
  EXPECT_EQ(json_of("\x7f"), "\"\\u007f\"");
}

TEST(JsonString, KeepsUtf8AndEscapesWhatIsNot) {
  EXPECT_EQ(json_of("käse €"), "\"käse €\"");
  EXPECT_EQ(json_of("\xff"), "\"\\u00ff\"");
  EXPECT_EQ(json_of("\xc3"), "\"\\u00c3\"");                        // cut short
  EXPECT_EQ(json_of("\xc0\xaf"), "\"\\u00c0\\u00af\"");             // overlong
  EXPECT_EQ(json_of("\xed\xa0\x80"), "\"\\u00ed\\u00a0\\u0080\"");  // a surrogate
  EXPECT_EQ(json_of("\xc2\x9b"), "\"\\u00c2\\u009b\"");             // C1: a terminal may take it for ESC [
}

TEST(RecordJson, HasWhatAppliesAndNothingElse) {
  Record record;
  record.outcome = Outcome::allow;
  record.id = 0xab;
  record.time = std::chrono::system_clock::time_point(std::chrono::milliseconds(1'700'000'000'123));
  record.scheme = request::Scheme::https;
  record.host = "api.example.com";
  record.port = 443;
  record.method = "GET";
  record.path = "/v1";
  record.endpoint = "api";
  record.rule = 0;
  record.status = 200;
  record.bytes_down = 5;
  record.duration = std::chrono::microseconds(12'345);
  record.protocol = "HTTP/1.1";
  EXPECT_EQ(
      line_of(record, "f"),
      R"({"time":"2023-11-14T22:13:20.123Z","id":"00000000000000ab","kind":"exchange","function":"f","mode":"enforce",)"
      R"("decision":"allow","scheme":"https","host":"api.example.com","port":443,"method":"GET","path":"/v1",)"
      R"("endpoint":"api","rule":0,"status":200,"bytes_up":0,"bytes_down":5,"duration_ms":12.345,"protocol":"HTTP/1.1"})");
}

TEST(RecordJson, OfARefusedNameSaysWhichAndWhy) {
  Record record;
  record.kind = RecordKind::dns;
  record.outcome = Outcome::deny;
  record.reason = Reason::host_not_allowed;
  record.host = "evil.example";
  std::string json = line_of(record, "");
  EXPECT_NE(json.find(R"("kind":"dns")"), std::string::npos);
  EXPECT_NE(json.find(R"("reason":"host-not-allowed","host":"evil.example")"), std::string::npos);
  EXPECT_EQ(json.find("bytes_up"), std::string::npos);
}

TEST(RecordJson, HasRoomForEverythingAtItsLongest) {
  Record record;
  record.outcome = Outcome::would_deny;
  record.reason = Reason::upstream_certificate;
  record.time = std::chrono::system_clock::time_point::max();
  record.id = UINT64_MAX;
  record.scheme = request::Scheme::https;
  record.port = UINT16_MAX;
  record.rule = record.status = INT_MAX;
  record.bytes_up = record.bytes_down = UINT64_MAX;
  record.duration = std::chrono::microseconds::max();
  record.first_byte = record.duration;
  record.kind = RecordKind::execution;
  record.flows = UINT64_MAX;
  record.execution.emplace();
  record.attribution = "trace-context";
  record.end = "complete";
  for (std::string* text : {&record.host, &record.method, &record.path, &record.action, &record.endpoint,
                            &record.credential, &record.upstream, &record.text, &record.node}) {
    text->assign(32'768, '\x01');
  }
  std::string once = line_of(record, std::string(300, '\xff'));
  std::string out = "before";
  append_json(out, record, std::string(300, '\xff'));
  EXPECT_EQ(out, "before" + once);
  EXPECT_GT(once.size(), 9U * 6U * 32'768U);
  EXPECT_TRUE(once.ends_with("\\u0001\"}"));
}

TEST(Reason, EveryReasonHasATextAndAnErrorStatus) {
  for (int value = 1; value <= static_cast<int>(Reason::internal); ++value) {
    Reason reason = static_cast<Reason>(value);
    EXPECT_FALSE(to_string(reason).empty()) << value;
    EXPECT_GE(http_status(reason), 400) << to_string(reason);
  }
}

}  // namespace
}  // namespace sallyport::guard
