#include "proxy/guard/record.h"

#include <gtest/gtest.h>

#include "proxy/guard/json.h"

namespace sallyport::guard {
namespace {

std::string json_of(std::string_view text) {
  std::string out;
  append_json_string(out, text);
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
      to_json(record, "f"),
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
  std::string json = to_json(record, "");
  EXPECT_NE(json.find(R"("kind":"dns")"), std::string::npos);
  EXPECT_NE(json.find(R"("reason":"host-not-allowed","host":"evil.example")"), std::string::npos);
  EXPECT_EQ(json.find("bytes_up"), std::string::npos);
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
