#include "proxy/guard/inbound.h"

#include <gtest/gtest.h>

#include <set>

#include "proxy/guard/execution_table.h"

namespace sallyport::guard {
namespace {

std::string published(std::string_view text) {
  const auto made = parse_publication(text);
  if (!made) return made.error().kind == ErrorKind::invalid ? "-" : "?";
  std::string out;
  for (const std::string& address : made->listen) out += address + " ";
  return out + "> " + std::to_string(made->port);
}

TEST(Inbound, APublicationIsWrittenAsContainerEnginesHaveIt) {
  EXPECT_EQ(published("8080:80"), "0.0.0.0:8080 [::]:8080 > 80");
  EXPECT_EQ(published("127.0.0.1:8080:80"), "127.0.0.1:8080 > 80");
  EXPECT_EQ(published("[::1]:8080:80"), "[::1]:8080 > 80");
  for (const std::string_view text :
       {"", "80", ":80", "8080:", "8080:0", "0:80", "8080:080", "8080:65536", "8080:80/tcp", "name:8080:80",
        "127.0.0.1::80", "::1:8080:80", "127.0.0.1:8080:80:1", "-1:80"}) {
    EXPECT_EQ(published(text), "-") << text;
  }
}

TEST(Inbound, AListenerForAPortOfAPodIsWrittenWithBoth) {
  const auto made = parse_inbound("0.0.0.0:18080=8080");
  ASSERT_TRUE(made);
  EXPECT_EQ(made->listen, std::vector<std::string>{"0.0.0.0:18080"});
  EXPECT_EQ(made->port, 8080);
  for (const std::string_view text : {"", "18080=8080", "0.0.0.0:18080", "0.0.0.0:18080=", "0.0.0.0:8080=8080"}) {
    EXPECT_FALSE(parse_inbound(text)) << text;
  }
}

constexpr std::string_view kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";

TEST(Inbound, ATraceThatIsThereIsLeftAsItIs) {
  request::HeaderList headers;
  const std::string parent = "00-" + std::string(kTrace) + "-00f067aa0ba902b7-01";
  headers.add("Traceparent", parent);
  headers.add("tracestate", "a=b");
  EXPECT_EQ(settle_trace(headers, false), kTrace);
  EXPECT_EQ(headers.size(), 2U);
  EXPECT_EQ(headers.find("traceparent")->value, parent);
}

TEST(Inbound, AMessageWithoutAGoodTraceGetsAFreshOne) {
  const std::string good = "00-" + std::string(kTrace) + "-00f067aa0ba902b7-01";
  std::set<std::string> seen;
  for (const std::vector<std::string>& given : std::vector<std::vector<std::string>>{{}, {"nonsense"}, {good, good}}) {
    request::HeaderList headers;
    for (const std::string& value : given) headers.add("traceparent", value);
    headers.add("tracestate", "of=another");
    const bool sampled = given.empty();
    const auto id = settle_trace(headers, sampled);
    ASSERT_TRUE(id);
    EXPECT_TRUE(seen.insert(*id).second);
    EXPECT_EQ(headers.size(), 1U) << "the state belonged to what was there";
    EXPECT_EQ(trace_id_of(headers), id);
    EXPECT_TRUE(headers[0].value.ends_with(sampled ? "-01" : "-00"));
  }
}

TEST(Inbound, AProbeIsWhatThePolicySaysAndNothingElse) {
  document::Inbound inbound;
  inbound.probes.push_back({"/healthz", {"GET", "HEAD"}});
  EXPECT_TRUE(inbound.is_probe("GET", "/healthz"));
  EXPECT_TRUE(inbound.is_probe("HEAD", "/healthz"));
  EXPECT_FALSE(inbound.is_probe("POST", "/healthz"));
  EXPECT_FALSE(inbound.is_probe("GET", "/healthz/"));
  EXPECT_FALSE(inbound.is_probe("GET", "/"));
}

}  // namespace
}  // namespace sallyport::guard
