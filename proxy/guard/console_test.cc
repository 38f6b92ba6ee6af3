#include "proxy/guard/console.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace sallyport::guard {
namespace {

Record allowed(std::string host, std::chrono::microseconds duration) {
  Record record;
  record.outcome = Outcome::allow;
  record.scheme = request::Scheme::https;
  record.host = std::move(host);
  record.port = 443;
  record.method = "GET";
  record.path = "/";
  record.status = 200;
  record.bytes_down = 2048;
  record.duration = duration;
  return record;
}

std::string shown(Console::Options options, const std::vector<Record>& records) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  UniqueFd reader(ends[0]), writer(ends[1]);
  {
    Console console(writer.get(), options);
    for (const Record& record : records) console.show(record);
    console.summarise();
  }
  writer.reset();
  std::string text(65536, '\0');
  ssize_t count = read(reader.get(), text.data(), text.size());
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
  return text;
}

TEST(Console, ALineSaysWhatWhereAndHowItEnded) {
  std::string line = Console::line_of(allowed("api.example.com", std::chrono::milliseconds(12)));
  EXPECT_NE(line.find("allow GET https://api.example.com/ 200 2.0 KiB 12 ms"), std::string::npos) << line;
  Record denied = allowed("evil.example", {});
  denied.outcome = Outcome::deny;
  denied.reason = Reason::host_not_allowed;
  denied.port = 8443;
  denied.status = 403;
  line = Console::line_of(denied);
  EXPECT_NE(line.find("DENY  GET https://evil.example:8443/ 403"), std::string::npos) << line;
  EXPECT_NE(line.find("(host-not-allowed)"), std::string::npos) << line;
}

TEST(Console, NothingButPrintableBytesReachesTheTerminal) {
  Record record = allowed("h", {});
  record.outcome = Outcome::error;
  record.text = "subject \x1b]0;owned\x07 \xc2\x9b";
  for (char c : Console::line_of(record)) EXPECT_TRUE(c >= 0x20 && c <= 0x7e) << static_cast<int>(c);
}

TEST(Console, TheGuardsOwnSignsReachTheTerminal) {
  Record record = allowed("h", {});
  record.outcome = Outcome::deny;
  record.text = "at: b (so far: a ×2 → b), … \xe2\x80\xae";
  EXPECT_TRUE(Console::line_of(record).ends_with("at: b (so far: a ×2 → b), … ???")) << Console::line_of(record);
}

TEST(Console, TheSummaryCountsByDecisionAndNamesTheSlowestHost) {
  Record denied = allowed("c.example", {});
  denied.outcome = Outcome::deny;
  std::string text =
      shown({.lines = false, .summary = true, .colour = false},
            {allowed("a.example", std::chrono::milliseconds(5)), allowed("a.example", std::chrono::milliseconds(7)),
             allowed("b.example", std::chrono::milliseconds(40)), denied});
  EXPECT_NE(text.find("4 requests: 3 allowed, 1 denied"), std::string::npos) << text;
  EXPECT_NE(text.find("slowest host b.example (40 ms a request)"), std::string::npos) << text;
}

TEST(Console, APipeThatTakesNothingMoreHoldsNobodyUp) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reading(ends[0]), writing(ends[1]);
  Console console(writing.get(), {.lines = true});
  const std::string block(1 << 16, 'x');
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) console.write(block);  // a second's patience in all, not with each
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  EXPECT_EQ(::fcntl(writing.get(), F_GETFL) & O_NONBLOCK, 0) << "the command's descriptor is left as it was";
  std::string read(1 << 17, '\0');
  ASSERT_GT(::read(reading.get(), read.data(), read.size()), 0);
  console.write("again");
  ASSERT_EQ(::read(reading.get(), read.data(), read.size()), 5);
  EXPECT_EQ(read.substr(0, 5), "again");
}

TEST(Console, ColourOnlyWhenAsked) {
  std::vector<Record> one{allowed("a.example", {})};
  EXPECT_EQ(shown({.lines = true, .summary = true, .colour = false}, one).find('\x1b'), std::string::npos);
  EXPECT_NE(shown({.lines = true, .summary = true, .colour = true}, one).find("\x1b[32m"), std::string::npos);
  EXPECT_EQ(shown({}, one), "");
}

}  // namespace
}  // namespace sallyport::guard
