// What a guard's certificate has to be for, from policies.
#include "policy-engine/document/intercepted_hosts.h"

#include <gmock/gmock.h>

#include "policy-engine/document/load.h"

namespace sallyport::document {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Optional;

std::optional<std::vector<std::string>> hosts_of(const std::string& endpoints, const std::string& mode = "enforce") {
  const LoadResult loaded = load_policy(
      "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: f}\nspec:\n"
      "  function: f\n  mode: " +
          mode + "\n  endpoints:\n" + endpoints,
      "p.yaml", nullptr, std::nullopt, nullptr, nullptr);
  EXPECT_TRUE(loaded.snapshot) << (loaded.diagnostics.empty() ? "" : loaded.diagnostics[0].to_string());
  return loaded.snapshot ? intercepted_hosts(*loaded.snapshot) : std::nullopt;
}

constexpr const char* kRules = ", rules: [{methods: [GET], path: {prefix: /}}]}\n";

TEST(InterceptedHosts, AreThoseWhoseTlsTheGuardEnds) {
  const std::string rules = kRules;
  EXPECT_THAT(hosts_of("  - {name: a, host: api.example.com" + rules + "  - {name: b, host: '*.example.net'" + rules +
                       "  - {name: c, host: 9.9.9.9" + rules + "  - {name: d, host: plain.example, scheme: http" +
                       rules + "  - {name: e, host: pinned.example, inspection: none}\n" +
                       "  - {name: f, host: db.example, protocol: tcp, ports: [5432]}\n"),
              Optional(ElementsAre("9.9.9.9", "api.example.com", "example.net")));
}

TEST(InterceptedHosts, NameNothingThatIsBelowAnother) {
  const std::string rules = kRules;
  EXPECT_THAT(hosts_of("  - {name: a, host: a.b.example.com" + rules + "  - {name: b, host: '*.example.com'" + rules +
                       "  - {name: c, host: example.com" + rules + "  - {name: d, host: notexample.com" + rules),
              Optional(ElementsAre("example.com", "notexample.com")));
}

TEST(InterceptedHosts, AreAnyWhereThePolicyDoesNotEnforceOrSaysSo) {
  const std::string rules = kRules;
  EXPECT_EQ(hosts_of("  - {name: a, host: api.example.com" + rules, "audit"), std::nullopt);
  EXPECT_EQ(hosts_of("  - {name: a, host: api.example.com" + rules, "learn"), std::nullopt);
  EXPECT_EQ(hosts_of("  - {name: a, host: any" + rules), std::nullopt);
  EXPECT_THAT(hosts_of("  - {name: a, host: plain.example, scheme: http" + rules), Optional(IsEmpty()));
}

}  // namespace
}  // namespace sallyport::document
