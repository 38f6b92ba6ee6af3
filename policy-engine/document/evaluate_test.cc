#include "policy-engine/document/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy-engine/document/test_support.h"

namespace sallyport::document {
namespace {

using testing::HasSubstr;

class EvaluateTest : public testing::Test {
 protected:
  const std::shared_ptr<const Snapshot> snapshot_ = load_clean(
      kHead +
      "  - {name: api, host: api.example.com, rules: [{methods: [GET], path: {prefix: /v1/}}]}\n"
      "  - {name: six, host: '2001:db8::1', addresses: ['2001:db8::/32'], ports: [8443],"
      " rules: [{methods: [GET], path: {prefix: /}}]}\n"
      "  - {name: plain, host: plain.example.com, scheme: http, rules: [{methods: [any], path: {prefix: /}}]}\n"
      "  - {name: keys, host: keys.example.com, allowEncodedSlashes: true, rules: [{methods: [GET], path: {prefix: "
      "/}}]}\n"
      "  - {name: opaque, host: opaque.example.com, inspection: none}\n"
      "  - {name: db, host: db.example.com, protocol: tcp, ports: [5432]}\n"
      "  - {name: rest, host: any, ports: [443], rules: [{methods: [HEAD, CONNECT-UDP], path: {prefix: /}}]}\n");

  // "allow URL" or "deny reason".
  std::string evaluated(std::string_view request) {
    const auto evaluation = evaluate(*snapshot_, request);
    if (!evaluation) return "error: " + evaluation.error().text;
    EXPECT_EQ(evaluation->decision.allowed, evaluation->text.empty()) << request;
    if (!evaluation->decision.allowed) return "deny " + std::string(sallyport::to_string(evaluation->decision.reason));
    return "allow " + evaluation->url();
  }
};

TEST_F(EvaluateTest, DecidesTheCanonicalForm) {
  EXPECT_EQ(evaluated("GET https://api.example.com/v1/x"), "allow https://api.example.com/v1/x");
  EXPECT_EQ(evaluated("GET HTTPS://API.Example.com:443/v1/../v1/%78?b=%7e"), "allow https://api.example.com/v1/x?b=~");
  EXPECT_EQ(evaluated("GET https://api.example.com/v1/../v2"), "deny path-not-allowed");
  EXPECT_EQ(evaluated("GET https://[2001:DB8:0::1]:8443/"), "allow https://[2001:db8::1]:8443/");
  EXPECT_EQ(evaluated("purge http://plain.example.com/a"), "deny unsupported-method");
  EXPECT_EQ(evaluated("PURGE http://plain.example.com/a"), "allow http://plain.example.com/a");
  EXPECT_EQ(evaluated("GET https://keys.example.com/a%2fb"), "allow https://keys.example.com/a%2Fb");
}

TEST_F(EvaluateTest, DeniesWhatTheGuardCannotMakeCanonical) {
  EXPECT_EQ(evaluated("GET https://api.example.com/v1/%2e%2e/%2fx"), "deny malformed-target");
  EXPECT_EQ(evaluated("GET https://api.example.com/v1/x#part"), "deny malformed-target");
  EXPECT_EQ(evaluated("GET https://user@api.example.com/v1/x"), "deny malformed-target");
  EXPECT_EQ(evaluated("GET https://api..example.com/v1/x"), "deny malformed-target");
  EXPECT_EQ(evaluated("GET https://opaque.example.com/%2f"), "allow ");
}

TEST_F(EvaluateTest, DeniesWhatNoPolicyCanAllow) {
  EXPECT_EQ(evaluated("CONNECT https://api.example.com/v1/x"), "deny unsupported-method");
  EXPECT_EQ(evaluated("HEAD https://169.254.169.254/latest"), "deny address-not-allowed");
  EXPECT_EQ(evaluated("HEAD https://93.184.216.34/"), "allow https://93.184.216.34/");
}

TEST_F(EvaluateTest, DecidesConnectionsThatAreRelayedUnread) {
  EXPECT_EQ(evaluated("tcp://DB.example.com.:5432"), "allow ");
  EXPECT_EQ(evaluated("tcp://db.example.com:5433"), "deny opaque-not-allowed");
  EXPECT_EQ(evaluated("tcp://api.example.com:443"), "deny opaque-not-allowed");
  EXPECT_EQ(evaluated("tcp://10.0.0.1:5432"), "deny opaque-not-allowed");
  EXPECT_EQ(evaluated("tcp://db..example.com:5432"), "deny malformed-target");
  EXPECT_THAT(evaluated("tcp://db.example.com"), HasSubstr("it needs a port"));
  // Whatever is spoken there, a request too: nobody would see it.
  EXPECT_EQ(evaluated("DELETE https://db.example.com:5432/all"), "allow ");
  EXPECT_TRUE(evaluate(*snapshot_, "tcp://db.example.com:5432")->tcp);
}

TEST_F(EvaluateTest, SaysHowARequestIsWritten) {
  for (const std::string_view request :
       {"", "GET", "https://api.example.com/", "GET /v1/x", "GET ftp://api.example.com/",
        "G(T https://api.example.com/", "GET  https://api.example.com/", "GET https://"}) {
    EXPECT_THAT(evaluated(request), HasSubstr("write it as 'POST https://api.example.com/v1/charges'")) << request;
  }
}

}  // namespace
}  // namespace sallyport::document
