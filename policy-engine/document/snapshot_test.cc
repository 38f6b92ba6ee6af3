#include "policy-engine/document/snapshot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "policy-engine/credentials/binding.h"
#include "policy-engine/document/test_support.h"

namespace sallyport::document {
namespace {

using request::Scheme;
using testing::HasSubstr;

constexpr Scheme kHttps = Scheme::https;

// "endpoint/rule" when allowed, else the reason.
std::string decide(const Snapshot& snapshot, const Destination& destination, std::string_view method,
                   std::string_view path) {
  const RequestDecision decision = snapshot.decide_request(destination, method, path);
  if (!decision.allowed) return std::string(sallyport::to_string(decision.reason));
  return decision.endpoint->name + "/" + std::to_string(decision.rule);
}

std::string connect(const Snapshot& snapshot, const Destination& destination) {
  const ConnectionDecision decision = snapshot.decide_connection(destination);
  switch (decision.action) {
    case ConnectionAction::deny:
      return std::string(sallyport::to_string(decision.reason));
    case ConnectionAction::intercept:
      return "intercept " + decision.endpoint->name;
    case ConnectionAction::pass_through:
      return "pass " + decision.endpoint->name;
  }
  return "";
}

TEST(Snapshot, EmptyDeniesEverything) {
  const auto snapshot = Snapshot::empty(Mode::learn);
  EXPECT_EQ(snapshot->mode(), Mode::learn);
  EXPECT_EQ(connect(*snapshot, {kHttps, "a.example", 443}), "host-not-allowed");
  EXPECT_EQ(decide(*snapshot, {kHttps, "a.example", 443}, "GET", "/"), "host-not-allowed");
  EXPECT_FALSE(snapshot->resolves("a.example"));
  EXPECT_TRUE(snapshot->bindings().all().empty());
  EXPECT_EQ(snapshot->summary(), "learn, 0 endpoints, 0 rules, 0 credentials");
}

TEST(Snapshot, ARuleMayNameActions) {
  const auto snapshot = load_clean(
      kHead +
      "  - name: table\n    host: a.example\n    operations: aws-json\n    query: sort\n    rules:\n"
      "    - {methods: [POST], path: {exact: /}, actions: [D.Get, D.Query]}\n"
      "    - {methods: [GET], path: {prefix: /}}\n"
      "  - {name: more, host: a.example, operations: aws-json, rules: [{methods: [POST], path: {exact: /}, actions: "
      "[D.Put]}]}\n"
      "  - {name: other, host: any, operations: {json: /a/b}, rules: [{methods: [any], path: {prefix: /}}]}\n");
  const Destination to{kHttps, "a.example", 443};
  const auto asked = [&](std::string_view method, std::string_view path, std::string_view action) {
    const RequestDecision decision = snapshot->decide_request(to, method, path, action);
    if (!decision.allowed) return std::string(sallyport::to_string(decision.reason));
    return decision.endpoint->name + "/" + std::to_string(decision.rule);
  };
  EXPECT_EQ(asked("POST", "/", "D.Get"), "table/0");
  EXPECT_EQ(asked("POST", "/", "D.Put"), "more/0");
  EXPECT_EQ(asked("POST", "/", "D.Drop"), "action-not-allowed")
      << "`any` reads actions elsewhere, so it is passed over";
  EXPECT_EQ(asked("POST", "/", "D.get"), "action-not-allowed");
  EXPECT_EQ(asked("POST", "/", ""), "action-not-allowed");
  EXPECT_EQ(asked("GET", "/", ""), "table/1");
  EXPECT_EQ(asked("GET", "/", "D.Drop"), "table/1") << "a rule without actions has every one";
  EXPECT_EQ(asked("POST", "/x", "D.Get"), "path-not-allowed");
  EXPECT_TRUE(snapshot->could_allow(to, "POST", "/"));
  EXPECT_FALSE(snapshot->could_allow(to, "POST", "/x"));
  EXPECT_EQ(snapshot->endpoints()[0].query, QueryRule::sort);
  EXPECT_EQ(snapshot->endpoints()[1].query, QueryRule::drop);
  EXPECT_EQ(snapshot->endpoints()[2].operations.to_string(), "{json: /a/b}");
  const RequestDecision refused = snapshot->decide_request(to, "POST", "/", "D.Drop");
  EXPECT_THAT(snapshot->explain(refused, to, "POST", "/", "D.Drop"), HasSubstr("has the action 'D.Drop'"));
}

TEST(Snapshot, TcpIsDecidedByHostAndPortAlone) {
  const auto snapshot = load_clean(
      kHead +
      "  - {name: db, host: db.example.com, protocol: tcp, ports: [5432, 6432]}\n"
      "  - {name: mail, host: '*.mail.example.com', protocol: tcp, ports: [25, 8443]}\n"
      "  - {name: web, host: www.mail.example.com, ports: [8443], rules: [{methods: [GET], path: {prefix: /}}]}\n"
      "  - {name: fixed, host: 192.0.2.7, protocol: tcp, ports: [6379], addresses: [192.0.2.7]}\n"
      "  - {name: api, host: db.example.com, rules: [{methods: [GET], path: {prefix: /}}]}\n");
  const auto relayed = [&](std::string_view host, std::uint16_t port) {
    const Endpoint* endpoint = snapshot->decide_tcp(host, port);
    return endpoint == nullptr ? std::string("no") : endpoint->name;
  };
  EXPECT_EQ(relayed("db.example.com", 5432), "db");
  EXPECT_EQ(relayed("db.example.com", 6432), "db");
  EXPECT_EQ(relayed("db.example.com", 443), "no");
  EXPECT_EQ(relayed("db.example.com", 5433), "no");
  EXPECT_EQ(relayed("other.example.com", 5432), "no");
  EXPECT_EQ(relayed("a.mail.example.com", 25), "mail");
  EXPECT_EQ(relayed("mail.example.com", 25), "no");
  EXPECT_EQ(relayed("a.mail.example.com", 8443), "mail");
  EXPECT_EQ(relayed("www.mail.example.com", 25), "mail");
  EXPECT_EQ(relayed("www.mail.example.com", 8443), "no") << "the more exact host is HTTP on this port";
  EXPECT_EQ(relayed("192.0.2.7", 6379), "fixed");
  EXPECT_EQ(relayed("192.0.2.8", 6379), "no");
  EXPECT_EQ(relayed("", 5432), "no");
  // An endpoint with protocol tcp allows no request, and passes no TLS through under another name's connection.
  EXPECT_EQ(connect(*snapshot, {kHttps, "db.example.com", 5432}), "port-not-allowed");
  EXPECT_EQ(decide(*snapshot, {kHttps, "db.example.com", 5432}, "GET", "/"), "port-not-allowed");
  EXPECT_EQ(decide(*snapshot, {Scheme::http, "a.mail.example.com", 25}, "GET", "/"), "port-not-allowed");
  EXPECT_EQ(decide(*snapshot, {kHttps, "db.example.com", 443}, "GET", "/"), "api/0");
  EXPECT_TRUE(snapshot->resolves("a.mail.example.com"));
  const RequestDecision refused = snapshot->decide_request({kHttps, "db.example.com", 5432}, "GET", "/");
  EXPECT_THAT(snapshot->explain(refused, {kHttps, "db.example.com", 5432}, "GET", "/"),
              HasSubstr("for https on port 443 and tcp on ports 5432 and 6432, not for https on port 5432"));
}

TEST(Snapshot, ModesHaveWords) {
  for (const Mode mode : {Mode::learn, Mode::audit, Mode::enforce}) EXPECT_EQ(parse_mode(to_string(mode)), mode);
  EXPECT_EQ(parse_mode("Enforce"), std::nullopt);
  EXPECT_EQ(parse_mode(""), std::nullopt);
}

TEST(Snapshot, PrefixesAreWholeSegments) {
  const auto snapshot =
      load_clean(kHead +
                 "  - {name: flat, host: flat.example, rules: [{methods: [GET], path: {prefix: /photos}}]}\n"
                 "  - {name: deep, host: deep.example, rules: [{methods: [GET], path: {prefix: /photos/}}]}\n"
                 "  - {name: all, host: all.example, rules: [{methods: [GET], path: {prefix: /}}]}\n");
  const Destination flat{kHttps, "flat.example", 443}, deep{kHttps, "deep.example", 443},
      all{kHttps, "all.example", 443};
  for (const std::string_view path : {"/photos", "/photos/", "/photos/x"}) {
    EXPECT_EQ(decide(*snapshot, flat, "GET", path), "flat/0") << path;
  }
  for (const std::string_view path :
       {"/photosx", "/photo", "/", "/x/photos", "/PHOTOS", "/photos%2Fx", "/photos;a=b"}) {
    EXPECT_EQ(decide(*snapshot, flat, "GET", path), "path-not-allowed") << path;
  }
  EXPECT_EQ(decide(*snapshot, deep, "GET", "/photos"), "path-not-allowed");
  EXPECT_EQ(decide(*snapshot, deep, "GET", "/photos/"), "deep/0");
  EXPECT_EQ(decide(*snapshot, deep, "GET", "/photos/x/y"), "deep/0");
  EXPECT_EQ(decide(*snapshot, all, "GET", "/"), "all/0");
  EXPECT_EQ(decide(*snapshot, all, "GET", "/anything"), "all/0");
  EXPECT_EQ(decide(*snapshot, all, "GET", "*"), "path-not-allowed");
  EXPECT_EQ(decide(*snapshot, all, "GET", ""), "path-not-allowed");
}

TEST(Snapshot, RegexesMatchTheWholePath) {
  const auto snapshot = load_clean(
      kHead +
      "  - {name: a, host: a.example, rules: [{methods: [GET], path: {regex: '/v[12]/(users|items)/[0-9]+'}}]}\n");
  const Destination to{kHttps, "a.example", 443};
  EXPECT_EQ(decide(*snapshot, to, "GET", "/v1/users/7"), "a/0");
  for (const std::string_view path :
       {"/v1/users/7/", "/x/v1/users/7", "/v3/users/7", "/v1/users/7?", "/v1/users/7\n"}) {
    EXPECT_EQ(decide(*snapshot, to, "GET", path), "path-not-allowed") << path;
  }
  EXPECT_EQ(decide(*snapshot, to, "GET", "/v1/users/" + std::string(30'000, '7')), "a/0");
}

TEST(Snapshot, AnExpressionThatExplodesInABacktrackerIsDecidedSoon) {
  const auto snapshot =
      load_clean(kHead + "  - {name: a, host: a.example, rules: [{methods: [GET], path: {regex: '/(a*)*b'}}]}\n");
  EXPECT_EQ(decide(*snapshot, {kHttps, "a.example", 443}, "GET", "/" + std::string(30'000, 'a')), "path-not-allowed");
}

TEST(Snapshot, MethodsAreComparedExactly) {
  const auto snapshot = load_clean(kHead +
                                   "  - {name: a, host: a.example, rules: [{methods: [GET, PURGE], path: {exact: /}}, "
                                   "{methods: [any], path: {exact: /b}}]}\n");
  const Destination to{kHttps, "a.example", 443};
  EXPECT_EQ(decide(*snapshot, to, "GET", "/"), "a/0");
  EXPECT_EQ(decide(*snapshot, to, "PURGE", "/"), "a/0");
  for (const std::string_view method : {"get", "HEAD", "GETS", "GE", "", "purge", "any", "PURGEX"}) {
    EXPECT_EQ(decide(*snapshot, to, method, "/"), "path-not-allowed") << method;
    EXPECT_EQ(decide(*snapshot, to, method, "/b"), "a/1") << method;
  }
}

TEST(Snapshot, ExactThenLongerWildcardsThenShorterThenAny) {
  const std::string rules = "rules: [{methods: [GET], path: {prefix: /}}]}\n";
  const auto snapshot = load_clean(
      kHead + "  - {name: any, host: any, " + rules + "  - {name: short, host: '*.example.com', " + rules +
      "  - {name: long, host: '*.b.example.com', " + rules + "  - {name: exact, host: a.b.example.com, " + rules);
  const auto by = [&](std::string_view host) { return decide(*snapshot, {kHttps, host, 443}, "GET", "/"); };
  EXPECT_EQ(by("a.b.example.com"), "exact/0");
  EXPECT_EQ(by("x.b.example.com"), "long/0");
  EXPECT_EQ(by("y.x.b.example.com"), "long/0");
  EXPECT_EQ(by("b.example.com"), "short/0");
  EXPECT_EQ(by("example.com"), "any/0");
  EXPECT_EQ(by("notexample.com"), "any/0");
  EXPECT_EQ(by("xb.example.com"), "short/0");
  EXPECT_EQ(by("192.0.2.1"), "any/0");
  EXPECT_EQ(by("localhost"), "any/0");
  EXPECT_EQ(by(""), "host-not-allowed");
}

TEST(Snapshot, TheFirstEndpointWithAMatchingRuleWins) {
  const auto snapshot =
      load_clean(kHead +
                 "  - {name: a, host: a.example, rules: [{methods: [GET], path: {exact: /a}}]}\n"
                 "  - {name: b, host: a.example, rules: [{methods: [GET, PUT], path: {prefix: /}}]}\n"
                 "  - {name: w, host: '*.a.example', rules: [{methods: [POST], path: {prefix: /}}]}\n");
  const Destination to{kHttps, "a.example", 443};
  EXPECT_EQ(decide(*snapshot, to, "GET", "/a"), "a/0");
  EXPECT_EQ(decide(*snapshot, to, "PUT", "/a"), "b/0");
  EXPECT_EQ(decide(*snapshot, to, "POST", "/a"), "method-not-allowed");
}

TEST(Snapshot, SaysHostThenPortThenMethodThenPath) {
  const auto snapshot =
      load_clean(kHead + "  - {name: a, host: a.example, rules: [{methods: [GET], path: {exact: /a}}]}\n");
  EXPECT_EQ(decide(*snapshot, {kHttps, "b.example", 443}, "GET", "/a"), "host-not-allowed");
  EXPECT_EQ(decide(*snapshot, {kHttps, "a.example", 444}, "GET", "/a"), "port-not-allowed");
  EXPECT_EQ(decide(*snapshot, {Scheme::http, "a.example", 443}, "GET", "/a"), "port-not-allowed");
  EXPECT_EQ(decide(*snapshot, {kHttps, "a.example", 443}, "PUT", "/a"), "method-not-allowed");
  EXPECT_EQ(decide(*snapshot, {kHttps, "a.example", 443}, "GET", "/b"), "path-not-allowed");
  EXPECT_EQ(snapshot->decide_request({kHttps, "a.example", 444}, "GET", "/a").endpoint, nullptr);
  EXPECT_EQ(snapshot->decide_request({kHttps, "a.example", 443}, "PUT", "/a").endpoint, &snapshot->endpoints()[0]);
  EXPECT_EQ(connect(*snapshot, {kHttps, "b.example", 443}), "host-not-allowed");
  EXPECT_EQ(connect(*snapshot, {kHttps, "a.example", 444}), "port-not-allowed");
  EXPECT_EQ(connect(*snapshot, {kHttps, "a.example", 443}), "intercept a");
}

TEST(Snapshot, InspectionNoneTakesWhateverIsSpokenOnItsPorts) {
  const auto snapshot = load_clean(kHead + "  - {name: db, host: db.example, ports: [443, 5432], inspection: none}\n");
  for (const Scheme scheme : {Scheme::http, Scheme::https}) {
    EXPECT_EQ(connect(*snapshot, {scheme, "db.example", 5432}), "pass db");
    EXPECT_EQ(connect(*snapshot, {scheme, "db.example", 80}), "port-not-allowed");
    EXPECT_EQ(decide(*snapshot, {scheme, "db.example", 443}, "DELETE", "/"), "db/-1");
  }
}

TEST(Snapshot, WhatIsInspectedIsNotPassedThroughForAWildcardAroundIt) {
  const auto snapshot =
      load_clean(kHead +
                 "  - {name: around, host: '*.example.com', ports: [any], inspection: none}\n"
                 "  - {name: api, host: api.example.com, rules: [{methods: [GET], path: {exact: /a}}]}\n");
  EXPECT_EQ(connect(*snapshot, {kHttps, "api.example.com", 443}), "intercept api");
  EXPECT_EQ(connect(*snapshot, {Scheme::http, "api.example.com", 443}), "port-not-allowed");
  EXPECT_EQ(connect(*snapshot, {kHttps, "api.example.com", 444}), "pass around");
  EXPECT_EQ(connect(*snapshot, {kHttps, "www.example.com", 443}), "pass around");
  EXPECT_EQ(decide(*snapshot, {kHttps, "api.example.com", 443}, "GET", "/b"), "path-not-allowed");
  EXPECT_EQ(decide(*snapshot, {Scheme::http, "api.example.com", 443}, "GET", "/b"), "port-not-allowed");
}

TEST(Snapshot, APathIsNotDecidedByAnEndpointForWhichItIsNotCanonical) {
  const auto snapshot =
      load_clean(kHead +
                 "  - {name: bucket, host: s3.example.com, allowEncodedSlashes: true, rules: [{methods: [PUT], path: "
                 "{prefix: /}}]}\n"
                 "  - {name: around, host: '*.example.com', rules: [{methods: [GET], path: {prefix: /public}}]}\n");
  EXPECT_TRUE(snapshot->target_options({kHttps, "s3.example.com", 443}).encoded_slashes);
  EXPECT_FALSE(snapshot->target_options({kHttps, "www.example.com", 443}).encoded_slashes);
  EXPECT_FALSE(snapshot->target_options({kHttps, "other.example", 443}).encoded_slashes);
  EXPECT_EQ(decide(*snapshot, {kHttps, "s3.example.com", 443}, "GET", "/public/..%2Fsecret"), "method-not-allowed");
  EXPECT_EQ(decide(*snapshot, {kHttps, "www.example.com", 443}, "GET", "/public/a"), "around/0");
}

TEST(Snapshot, ResolvesWhatAnEndpointMatches) {
  const auto snapshot = load_clean(kHead +
                                   "  - {name: a, host: a.example, inspection: none}\n"
                                   "  - {name: w, host: '*.w.example', inspection: none}\n");
  EXPECT_TRUE(snapshot->resolves("a.example"));
  EXPECT_TRUE(snapshot->resolves("x.y.w.example"));
  for (const std::string_view host : {"w.example", "b.example", "xw.example", "example", "", ".w.example."}) {
    EXPECT_FALSE(snapshot->resolves(host)) << host;
  }
}

TEST(Snapshot, SpecialAddressesNeedAnEntry) {
  const auto snapshot =
      load_clean(kHead + "  - {name: a, host: a.example, addresses: [10.1.0.0/16, 'fd00::/8'], inspection: none}\n");
  const auto allows = [&](std::string_view text) {
    return snapshot->endpoints()[0].allows(request::IpAddress::parse(text).value());
  };
  EXPECT_TRUE(allows("93.184.216.34"));
  EXPECT_TRUE(allows("10.1.255.1"));
  EXPECT_TRUE(allows("fd12::1"));
  EXPECT_FALSE(allows("10.2.0.1"));
  EXPECT_FALSE(allows("127.0.0.1"));
  EXPECT_FALSE(allows("169.254.169.254"));
  EXPECT_FALSE(allows("::1"));
  EXPECT_FALSE(allows("64:ff9b::a01:1"));  // 10.1.0.1 behind NAT64 is another way to it, which nobody named
}

TEST(Snapshot, AHostWithVeryManyLabelsIsDecided) {
  const auto snapshot = load_clean(kHead + "  - {name: w, host: '*.w.example', inspection: none}\n");
  std::string host;
  for (int i = 0; i < 120; ++i) host += "a.";
  EXPECT_TRUE(snapshot->resolves(host + "w.example"));
  EXPECT_FALSE(snapshot->resolves(host + "v.example"));
}

TEST(Explain, NamesWhatWasAskedWhatIsAllowedAndTheRemedy) {
  const auto snapshot =
      load_clean(kHead +
                 "  - {name: api, host: api.example, ports: [443, 8443], rules: [{methods: [GET], path: {prefix: /v1}},"
                 " {methods: [GET, PUT], path: {exact: /v2}}]}\n"
                 "  - {name: db, host: db.example, ports: [5432], inspection: none}\n");
  const auto explain = [&](const Destination& to, std::string_view method, std::string_view path) {
    return snapshot->explain(snapshot->decide_request(to, method, path), to, method, path);
  };
  EXPECT_EQ(explain({kHttps, "api.example", 443}, "GET", "/v1"), "");
  EXPECT_EQ(
      explain({kHttps, "evil.example", 443}, "GET", "/"),
      "No endpoint of the policy of 'shop' has the host 'evil.example'. To allow it, add an endpoint with this host.");
  EXPECT_EQ(
      explain({Scheme::http, "api.example", 80}, "GET", "/"),
      "The policy has the host 'api.example' for https on ports 443 and 8443, not for http on port 80. To allow it, "
      "add an endpoint with this host and port.");
  EXPECT_EQ(
      explain({kHttps, "db.example", 443}, "GET", "/"),
      "The policy has the host 'db.example' for port 5432, not for https on port 443. To allow it, add an endpoint "
      "with this host and port.");
  EXPECT_EQ(
      explain({kHttps, "api.example", 443}, "DELETE", "/v1"),
      "Endpoint 'api' has no rule for the method 'DELETE', only for GET and PUT. To allow it, add the method to a "
      "rule.");
  EXPECT_EQ(
      explain({kHttps, "api.example", 443}, "GET", "/v3"),
      "No rule of endpoint 'api' has the path '/v3' for GET. What it has is exact: /v2 and prefix: /v1. To allow it, "
      "add a rule for this path.");
  EXPECT_LT(explain({kHttps, "api.example", 443}, "GET", "/" + std::string(30'000, 'x')).size(), 400U);
  EXPECT_THAT(snapshot->explain({false, Reason::address_not_allowed, nullptr, -1}, {}, "GET", "/"),
              HasSubstr("address-not-allowed"));
}

TEST(Snapshot, OneThatRefusesRefusesAllOfIt) {
  const auto policy = load_clean(kHead +
                                 "  - {name: a, host: a.example, rules: [{methods: [any], path: {prefix: /}}]}\n"
                                 "  - {name: t, host: t.example, ports: [5432], protocol: tcp}\n"
                                 "  - {name: unread, host: n.example, inspection: none}\n");
  const auto refusing = Snapshot::refusing(policy, Reason::policy_expired, "the policy has expired");
  EXPECT_EQ(refusing->mode(), Mode::enforce);
  EXPECT_EQ(refusing->function(), "shop");
  const Destination a{request::Scheme::https, "a.example", 443}, n{request::Scheme::https, "n.example", 443};
  ASSERT_TRUE(policy->decide_request(a, "GET", "/").allowed);
  const RequestDecision decision = refusing->decide_request(a, "GET", "/");
  EXPECT_FALSE(decision.allowed);
  EXPECT_EQ(decision.reason, Reason::policy_expired);
  EXPECT_EQ(refusing->explain(decision, a, "GET", "/"), "the policy has expired");
  EXPECT_EQ(refusing->decide_connection(n).action, ConnectionAction::deny);
  EXPECT_EQ(refusing->decide_connection(n).reason, Reason::policy_expired);
  EXPECT_EQ(refusing->decide_tcp("t.example", 5432), nullptr);
  EXPECT_TRUE(refusing->resolves("a.example"));
  EXPECT_FALSE(refusing->resolves("b.example"));
}

}  // namespace
}  // namespace sallyport::document
