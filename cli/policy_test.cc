#include "cli/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

namespace sallyport::cli {
namespace {

using testing::HasSubstr;

struct Outcome {
  int code = 0;
  std::string out, err;
};

Outcome run(std::vector<std::string> arguments) {
  CLI::App app("test");
  Outcome outcome;
  add_policy_command(app, outcome.code);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    outcome.code = app.exit(error) == 0 ? 0 : 2;
  }
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr();
  return outcome;
}

class PolicyCommand : public testing::Test {
 protected:
  const std::string path_ = testing::TempDir() + "/policy_command_" + std::to_string(getpid()) + ".yaml";

  void SetUp() override { write("enforce"); }
  void TearDown() override { std::remove(path_.c_str()); }

  void write(const std::string& mode) {
    std::ofstream(path_) << "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: shop}\nspec:\n"
                         << "  mode: " << mode << "\n  endpoints:\n"
                         << "  - name: api\n    host: api.example.com\n    rules:\n"
                         << "    - {methods: [GET], path: {prefix: /v1}}\n"
                         << "    - {methods: [POST], path: {exact: /v1/charges}}\n"
                         << "  - {name: raw, host: raw.example.com, inspection: none}\n";
  }
};

TEST_F(PolicyCommand, CheckSaysWhatAGoodPolicyHas) {
  const Outcome outcome = run({"policy", "check", path_});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, path_ + ": good: shop: enforce, 2 endpoints, 2 rules, 0 credentials\n");
  EXPECT_EQ(outcome.err, "");
}

TEST_F(PolicyCommand, CheckPrintsEveryMistake) {
  write("enforced\n  modes: x");
  const Outcome outcome = run({"policy", "check", path_});
  EXPECT_EQ(outcome.code, kExitBadPolicy);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr(path_ + ":5:9: error: 'mode' must be learn, audit or enforce"));
  EXPECT_THAT(outcome.err,
              HasSubstr(path_ + ":6:3: error: unknown field 'modes' in the spec (hint: did you mean 'mode'?)"));
}

TEST_F(PolicyCommand, SaysWhyAFileCannotBeRead) {
  const Outcome outcome = run({"policy", "check", "/nonexistent/policy.yaml"});
  EXPECT_EQ(outcome.code, kExitBadPolicy);
  EXPECT_THAT(outcome.err, HasSubstr("/nonexistent/policy.yaml"));
  EXPECT_THAT(outcome.err, HasSubstr("No such file or directory"));
}

TEST_F(PolicyCommand, TestNamesTheRuleAndItsLine) {
  const Outcome outcome = run({"policy", "test", path_, "--request", "POST https://api.example.com/v1/charges"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out,
            "allow  POST https://api.example.com/v1/charges\n"
            "       endpoint api, rule 2 (" +
                path_ + ":11): POST on exact: /v1/charges\n");
}

TEST_F(PolicyCommand, TestShowsTheCanonicalUrlWhereItDiffers) {
  const Outcome outcome = run({"policy", "test", path_, "--request", "GET https://API.example.com:443/v1/./%7ex"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("       sent as https://api.example.com/v1/~x\n"));
}

TEST_F(PolicyCommand, TestExplainsDenialsAndExitsWithThree) {
  const Outcome outcome = run({"policy", "test", path_, "--request", "GET https://api.example.com/v1", "--request",
                               "GET https://api.example.com/v2", "--request", "PUT https://raw.example.com/x"});
  EXPECT_EQ(outcome.code, kExitDenied);
  EXPECT_THAT(outcome.out, HasSubstr("allow  GET https://api.example.com/v1\n"));
  EXPECT_THAT(outcome.out,
              HasSubstr("deny   GET https://api.example.com/v2\n       path-not-allowed: No rule of endpoint "
                        "'api' has the path '/v2' for GET."));
  EXPECT_THAT(outcome.out, HasSubstr("allow  PUT https://raw.example.com/x\n       endpoint raw (" + path_ +
                                     ":12): inspection: none, the connection is passed through\n"));
}

TEST_F(PolicyCommand, TestSaysThatTheModeLetsDenialsPass) {
  write("audit");
  const Outcome outcome = run({"policy", "test", path_, "--request", "GET https://evil.example/"});
  EXPECT_EQ(outcome.code, kExitDenied);
  EXPECT_THAT(outcome.out, HasSubstr("The mode is audit: what is denied here passes, and is recorded.\n"));
}

TEST_F(PolicyCommand, TestSpeaksJson) {
  const Outcome outcome = run({"policy", "test", path_, "-o", "json", "--request", "GET https://api.example.com/v1",
                               "--request", "GET https://evil.example/\"\xff"});
  EXPECT_EQ(outcome.code, kExitDenied);
  EXPECT_THAT(outcome.out,
              HasSubstr(R"({"request": "GET https://api.example.com/v1", "decision": "allow", )"
                        R"("url": "https://api.example.com/v1", "endpoint": "api", "rule": 0, "line": 10, )"
                        R"("match": "GET on prefix: /v1"})"));
  EXPECT_THAT(outcome.out, HasSubstr(R"({"request": "GET https://evil.example/\"\u00ff", "decision": "deny", )"
                                     R"("reason": "malformed-target")"));
}

TEST_F(PolicyCommand, TestSaysHowARequestIsWritten) {
  const Outcome outcome = run({"policy", "test", path_, "--request", "api.example.com"});
  EXPECT_EQ(outcome.code, kExitBadRequest);
  EXPECT_THAT(outcome.err, HasSubstr("--request 'api.example.com' is not a request"));
}

TEST_F(PolicyCommand, TestNeedsARequest) {
  EXPECT_EQ(run({"policy", "test", path_}).code, 2);
  EXPECT_EQ(run({"policy", "test", path_, "-o", "xml", "--request", "GET https://a.example/"}).code, 2);
  EXPECT_EQ(run({"policy"}).code, 2);
}

}  // namespace
}  // namespace sallyport::cli
