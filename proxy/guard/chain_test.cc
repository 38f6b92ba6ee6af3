#include "proxy/guard/chain.h"

#include <gtest/gtest.h>

#include "policy-engine/document/load.h"

namespace sallyport::guard {
namespace {

constexpr char kPolicy[] = R"(
apiVersion: sallyport.dev/v1alpha1
kind: EgressPolicy
metadata: {name: test}
spec:
  function: f
  mode: MODE
  endpoints:
  - name: api
    host: api.example.com
    rules:
    - {methods: [GET, POST], path: {prefix: /v1}}
    credential: key
  - name: odd-port
    host: api.example.com
    ports: [8443]
    rules: [{methods: [GET], path: {prefix: /}}]
  - name: plain
    host: plain.example.com
    scheme: http
    rules: [{methods: [GET], path: {prefix: /}}]
  credentials:
  - name: key
    secret: {env: KEY}
    inject: {header: Authorization, format: "Bearer {}"}
    placeholder: {value: sallyport-placeholder-0123456789abcdef}
    foreign: deny
)";

std::shared_ptr<const document::Snapshot> policy(std::string_view mode = "enforce", bool with_secret = true) {
  std::string text = kPolicy;
  text.replace(text.find("MODE"), 4, mode);
  document::SecretReader reader = [](const document::SecretRef&) { return credentials::Secret::copy_of("s3cret"); };
  document::LoadResult loaded = document::load_policy(text, "test.yaml", with_secret ? reader : nullptr);
  for (const auto& diagnostic : loaded.diagnostics) ADD_FAILURE() << diagnostic.to_string();
  return loaded.snapshot;
}

ConnectionFacts https_facts(std::string host = "api.example.com", std::uint16_t port = 443) {
  return {request::Scheme::https, {std::move(host), std::nullopt}, port};
}

// One request through the chain; its views point to literals.
struct Decided {
  Route route;
  request::RequestHead head;
  Verdict verdict;
};

void run(Decided& decided, const ConnectionFacts& facts, std::string_view method, std::string_view target,
         std::string_view authority, std::shared_ptr<const document::Snapshot> snapshot = policy()) {
  decided.head.method = method;
  decided.head.target = target;
  decided.head.authority = authority;
  auto refused = settle(facts, std::move(snapshot), decided.head, decided.route);
  decided.verdict = refused ? *refused : decide(decided.head, decided.route, false, {});
}

Reason reason_of(const ConnectionFacts& facts, std::string_view target, std::string_view authority) {
  Decided decided;
  run(decided, facts, "GET", target, authority);
  return decided.verdict.reason;
}

TEST(Chain, AnActionInTheBodyIsAskedForOnlyWhereItDecides) {
  const auto snapshot = [] {
    document::LoadResult loaded = document::load_policy(
        "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: test}\nspec:\n  endpoints:\n"
        "  - {name: rpc, host: api.example.com, operations: json-rpc, rules: [{methods: [POST], path: {exact: /}, "
        "actions: [list]}]}\n",
        "test.yaml", nullptr);
    for (const auto& diagnostic : loaded.diagnostics) ADD_FAILURE() << diagnostic.to_string();
    return loaded.snapshot;
  }();
  const auto settled = [&](Decided& decided, std::string_view target) {
    decided.head.method = "POST";
    decided.head.target = target;
    decided.head.headers.add("content-type", "application/json");
    EXPECT_FALSE(settle(https_facts(), snapshot, decided.head, decided.route));
  };
  Decided listed, dropped, twice, elsewhere;
  settled(listed, "/");
  EXPECT_TRUE(needs_body(listed.route, listed.head));
  EXPECT_EQ(decide(listed.head, listed.route, false, R"({"method":"list"})").outcome, Outcome::allow);
  EXPECT_EQ(listed.route.action, "list");
  settled(dropped, "/");
  EXPECT_EQ(decide(dropped.head, dropped.route, false, R"({"method":"drop"})").reason, Reason::action_not_allowed);
  settled(twice, "/");
  EXPECT_EQ(decide(twice.head, twice.route, false, R"({"method":"list","method":"drop"})").reason,
            Reason::malformed_action);
  settled(elsewhere, "/x");
  EXPECT_FALSE(needs_body(elsewhere.route, elsewhere.head));
  EXPECT_EQ(decide(elsewhere.head, elsewhere.route, false, {}).reason, Reason::path_not_allowed);
}

TEST(Chain, AnAllowedRequestGetsItsRouteAndItsCredential) {
  Decided decided;
  run(decided, https_facts(), "GET", "/v1/./items?x=1", "API.example.com:443");
  EXPECT_EQ(decided.verdict.outcome, Outcome::allow) << decided.verdict.text;
  EXPECT_EQ(decided.route.target.text, "/v1/items?x=1");
  EXPECT_EQ(decided.route.authority, "api.example.com");
  EXPECT_EQ(decided.route.endpoint->name, "api");
  ASSERT_NE(decided.head.headers.find("authorization"), nullptr);
  EXPECT_EQ(decided.head.headers.find("authorization")->value, "Bearer s3cret");
}

TEST(Chain, TheHostOfARequestIsTheHostOfItsConnection) {
  EXPECT_EQ(reason_of(https_facts(), "/v1", "plain.example.com"), Reason::host_mismatch);
  EXPECT_EQ(reason_of(https_facts(), "/v1", "api.example.com:444"), Reason::host_mismatch);
  EXPECT_EQ(reason_of(https_facts("other.example"), "/v1", "api.example.com"), Reason::host_mismatch);
  EXPECT_EQ(reason_of(https_facts(), "https://evil.example/v1", "api.example.com"), Reason::host_mismatch);
  EXPECT_EQ(reason_of(https_facts(), "http://api.example.com/v1", "api.example.com"), Reason::host_mismatch);
  EXPECT_EQ(reason_of(https_facts(), "https://api.example.com/v1", "api.example.com"), Reason::none);
  EXPECT_EQ(reason_of(https_facts(), "/v1", "user@api.example.com"), Reason::malformed_target);
  EXPECT_EQ(reason_of(https_facts(), "/v1", "api.example.com."), Reason::none);
}

TEST(Chain, ADenialSaysNothingOfTheRequestBefore) {
  Decided decided;
  run(decided, https_facts(), "GET", "/v1/items", "api.example.com");
  run(decided, https_facts(), "GET", "/v1/items", "other.example.com");
  EXPECT_EQ(decided.verdict.reason, Reason::host_mismatch);
  EXPECT_EQ(decided.route.target.text, "");
  run(decided, https_facts(), "GET", "/v1/items", "a b");
  EXPECT_EQ(decided.verdict.reason, Reason::malformed_target);
  EXPECT_EQ(decided.route.host, "");
}

TEST(Chain, APathIsDecidedInItsCanonicalForm) {
  EXPECT_EQ(reason_of(https_facts(), "/v1/../admin", "api.example.com"), Reason::path_not_allowed);
  EXPECT_EQ(reason_of(https_facts(), "/v1/%2e%2e/admin", "api.example.com"), Reason::path_not_allowed);
  EXPECT_EQ(reason_of(https_facts(), "/v1/..;/admin", "api.example.com"), Reason::malformed_target);
  EXPECT_EQ(reason_of(https_facts(), "/v1/%2Fadmin", "api.example.com"), Reason::malformed_target);
  EXPECT_EQ(reason_of(https_facts(), "/v10", "api.example.com"), Reason::path_not_allowed);
}

TEST(Chain, OtherPortsAndSchemesAreOtherDestinations) {
  Decided decided;
  run(decided, https_facts("api.example.com", 8443), "GET", "/anything", "api.example.com:8443");
  EXPECT_EQ(decided.verdict.outcome, Outcome::allow) << decided.verdict.text;
  EXPECT_EQ(decided.route.authority, "api.example.com:8443");
  EXPECT_EQ(decided.head.headers.find("authorization"), nullptr);
  EXPECT_EQ(reason_of(https_facts("api.example.com", 9443), "/v1", "api.example.com:9443"), Reason::port_not_allowed);
  ConnectionFacts plain{request::Scheme::http, {"192.0.2.1", request::IpAddress::parse("192.0.2.1")}, 80};
  EXPECT_EQ(reason_of(plain, "/v1", "api.example.com"), Reason::port_not_allowed);
  EXPECT_EQ(reason_of(plain, "/", "plain.example.com"), Reason::none);
}

TEST(Chain, ACredentialOfTheFunctionIsRefusedWhereTheBindingSaysSo) {
  Decided decided;
  decided.head.headers.add("Authorization", "Bearer mine");
  run(decided, https_facts(), "GET", "/v1", "api.example.com");
  EXPECT_EQ(decided.verdict.outcome, Outcome::deny);
  EXPECT_EQ(decided.verdict.reason, Reason::foreign_credential);
}

TEST(Chain, APlaceholderElsewhereIsRefused) {
  Decided elsewhere;
  elsewhere.head.headers.add("Authorization", "Bearer sallyport-placeholder-0123456789abcdef");
  run(elsewhere, https_facts("api.example.com", 8443), "GET", "/", "api.example.com:8443");
  EXPECT_EQ(elsewhere.verdict.reason, Reason::placeholder_misuse);
  EXPECT_EQ(reason_of(https_facts(), "/v1?k=sallyport-placeholder-0123456789abcdef", "api.example.com"),
            Reason::placeholder_misuse);
}

TEST(Chain, AMissingSecretFailsClosedInEveryMode) {
  for (const char* mode : {"enforce", "audit", "learn"}) {
    Decided decided;
    run(decided, https_facts(), "GET", "/v1", "api.example.com", policy(mode, false));
    EXPECT_EQ(decided.verdict.outcome, Outcome::deny) << mode;
    EXPECT_EQ(decided.verdict.reason, Reason::credential_unavailable) << mode;
  }
}

TEST(Chain, AuditLetsThroughAndSaysWhatEnforcingWouldDo) {
  Decided decided;
  run(decided, https_facts("evil.example"), "POST", "/x", "evil.example", policy("audit"));
  EXPECT_EQ(decided.verdict.outcome, Outcome::would_deny);
  EXPECT_EQ(decided.verdict.reason, Reason::host_not_allowed);
  EXPECT_EQ(decided.route.host, "evil.example");
}

TEST(Chain, AuditGivesNoCredentialToWhatItWouldDeny) {
  Decided decided;
  run(decided, https_facts(), "DELETE", "/v1", "api.example.com", policy("audit"));
  EXPECT_EQ(decided.verdict.outcome, Outcome::would_deny);
  EXPECT_EQ(decided.head.headers.find("authorization"), nullptr);
}

TEST(Chain, FrontingIsRefusedEvenWhenNothingIsEnforced) {
  Decided decided;
  run(decided, https_facts(), "GET", "/", "evil.example", policy("learn"));
  EXPECT_EQ(decided.verdict.outcome, Outcome::deny);
  EXPECT_EQ(decided.verdict.reason, Reason::host_mismatch);
}

TEST(Chain, LearningWithoutAPolicyAllowsEverything) {
  Decided decided;
  run(decided, https_facts("any.example"), "BREW", "/pot", "any.example",
      document::Snapshot::empty(document::Mode::learn));
  EXPECT_EQ(decided.verdict.outcome, Outcome::allow);
}

TEST(Chain, FieldsThatWouldChangeTheMethodOrForgeTagsDoNotLeave) {
  Decided decided;
  decided.head.headers.add("X-HTTP-Method-Override", "DELETE");
  decided.head.headers.add("Sallyport-Tag", "v1.forged");
  decided.head.headers.add("x-method-override", "DELETE");
  decided.head.headers.add("X_HTTP_Method_Override", "DELETE");
  decided.head.headers.add("X-Original-URL", "/admin");
  decided.head.headers.add("X-Rewrite-URL", "/admin");
  decided.head.headers.add("sallyport_tag", "v1.forged");
  decided.head.headers.add("X-Other", "stays");
  run(decided, https_facts(), "GET", "/v1", "api.example.com");
  EXPECT_EQ(decided.verdict.outcome, Outcome::allow);
  EXPECT_EQ(decided.head.headers.size(), 2U);  // X-Other and the credential
  EXPECT_NE(decided.head.headers.find("x-other"), nullptr);
}

TEST(Chain, ACredentialDoesNotTravelInARequestThatIsSentBack) {
  std::string text = kPolicy;
  text.replace(text.find("MODE"), 4, "enforce");
  text.replace(text.find("[GET, POST]"), 11, "[any]");
  document::SecretReader reader = [](const document::SecretRef&) { return credentials::Secret::copy_of("s3cret"); };
  auto snapshot = document::load_policy(text, "test.yaml", reader).snapshot;
  for (const char* method : {"TRACE", "TRACK"}) {
    Decided decided;
    run(decided, https_facts(), method, "/v1", "api.example.com", snapshot);
    EXPECT_EQ(decided.verdict.outcome, Outcome::deny);
    EXPECT_EQ(decided.verdict.reason, Reason::method_not_allowed);
    EXPECT_EQ(decided.head.headers.find("authorization"), nullptr);
  }
  Decided without;
  run(without, https_facts("api.example.com", 8443), "GET", "/v1", "api.example.com:8443", snapshot);
  EXPECT_EQ(without.verdict.outcome, Outcome::allow);
}

TEST(Chain, AltSvcDoesNotReachTheFunction) {
  request::ResponseHead head;
  head.headers.add("Alt-Svc", "h3=\":443\"");
  head.headers.add("Age", "1");
  clean_response(head);
  EXPECT_EQ(head.headers.size(), 1U);
  EXPECT_EQ(head.headers.find("alt-svc"), nullptr);
}

}  // namespace
}  // namespace sallyport::guard
