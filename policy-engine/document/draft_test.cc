#include "policy-engine/document/draft.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/limits.h"
#include "policy-engine/document/test_support.h"

namespace sallyport::document {
namespace {

using request::IpAddress;
using request::Scheme;
using testing::HasSubstr;
using testing::Not;

Observation seen(std::string method, std::string host, std::string path) {
  Observation observation;
  observation.host = std::move(host);
  observation.port = 443;
  observation.method = std::move(method);
  observation.path = std::move(path);
  return observation;
}

std::string yaml_of(const std::vector<Observation>& observations) {
  Draft draft;
  for (const Observation& observation : observations) draft.add(observation);
  return draft.to_yaml("thumbnailer", "2026-11-21");
}

void expect_allowed(const Snapshot& snapshot, const Observation& observation) {
  const Destination to{observation.scheme, observation.host, observation.port};
  if (const Endpoint* relayed = snapshot.decide_tcp(to.host, to.port)) {  // whatever else was seen there
    if (observation.upstream) EXPECT_TRUE(relayed->allows(*observation.upstream)) << observation.upstream->to_string();
    return;
  }
  ASSERT_FALSE(observation.tcp) << observation.host << ":" << observation.port;
  const ConnectionDecision connection = snapshot.decide_connection(to);
  ASSERT_NE(connection.action, ConnectionAction::deny) << observation.host << ":" << observation.port;
  if (!observation.inspected) {
    EXPECT_EQ(connection.action, ConnectionAction::pass_through) << observation.host;
  } else {
    EXPECT_TRUE(snapshot.decide_request(to, observation.method, observation.path).allowed)
        << observation.method << " " << observation.host << observation.path;
  }
  if (observation.upstream) {
    EXPECT_TRUE(connection.endpoint->allows(*observation.upstream)) << observation.upstream->to_string();
  }
}

// The property: the draft loads without a word, and allows everything that it has seen.
std::string expect_allows_all(const std::vector<Observation>& observations) {
  const std::string yaml = yaml_of(observations);
  EXPECT_LE(yaml.size(), limits::kPolicyBytesMax);
  const auto snapshot = load_clean(yaml);
  if (!snapshot) return yaml;
  EXPECT_EQ(snapshot->mode(), Mode::enforce);
  for (const Observation& observation : observations) {
    expect_allowed(*snapshot, observation);
    if (testing::Test::HasFailure()) {
      ADD_FAILURE() << yaml.substr(0, 4'000);
      break;
    }
  }
  return yaml;
}

TEST(Draft, OfNothingIsAPolicyThatAllowsNothing) {
  const auto snapshot = load_clean(yaml_of({}));
  ASSERT_NE(snapshot, nullptr);
  EXPECT_TRUE(snapshot->endpoints().empty());
  EXPECT_EQ(snapshot->function(), "thumbnailer");
}

TEST(Draft, IsSortedCommentedAndGeneralised) {
  std::vector<Observation> all = {
      seen("POST", "api.stripe.com", "/v1/charges"),
      seen("GET", "api.stripe.com", "/v1/charges"),
      seen("GET", "api.stripe.com", "/v1/customers/cus_NffrFeUfNV2Hib/sources"),
      seen("GET", "api.stripe.com", "/v1/customers/42"),
      seen("DELETE", "a.example", "/it's"),
  };
  for (int i = 0; i < 9; ++i)
    all.push_back(seen("GET", "a.example", std::string("/docs/") + static_cast<char>('a' + i)));
  Observation db = seen("", "db.internal", "");
  db.port = 5432;
  db.inspected = false;
  db.upstream = IpAddress::parse("10.0.3.4");
  all.push_back(db);
  Observation cache = seen("", "93.184.216.34", "");
  cache.port = 6379;
  cache.inspected = false;
  cache.tcp = true;
  cache.count = 2;
  all.push_back(cache);
  cache.host = "cache.internal";
  cache.upstream = IpAddress::parse("10.0.3.5");
  all.push_back(cache);
  Observation plain = seen("GET", "a.example", "/");
  plain.scheme = Scheme::http;
  plain.port = 80;
  plain.count = 7;
  all.push_back(plain);
  EXPECT_EQ(expect_allows_all(all), R"(# A policy draft, written by sallyport from what was seen until 2026-11-21.
# It allows what happened, and that may be more than what should happen: read it, cut it down, then enforce it.
apiVersion: sallyport.dev/v1alpha1
kind: EgressPolicy
metadata:
  name: thumbnailer
spec:
  mode: enforce
  endpoints:
  # 2 connections, at least one of them neither TLS nor HTTP
  - name: 93.184.216.34-6379
    host: 93.184.216.34
    ports: [6379]
    protocol: tcp
    addresses:
    - 93.184.216.34
  # 7 requests
  - name: a.example-http
    host: a.example
    scheme: http
    rules:
    - {methods: [GET], path: {exact: /}}  # 7 requests
  # 10 requests
  - name: a.example
    host: a.example
    rules:
    - {methods: [GET], path: {prefix: /docs/}}  # 9 requests; generalised: many different paths follow
    - {methods: [DELETE], path: {exact: '/it''s'}}  # 1 request
  # 4 requests
  - name: api.stripe.com
    host: api.stripe.com
    rules:
    - {methods: [GET, POST], path: {exact: /v1/charges}}  # 2 requests
    - {methods: [GET], path: {prefix: /v1/customers/}}  # 2 requests; generalised: what follows looks like identifiers
  # 2 connections, at least one of them neither TLS nor HTTP
  - name: cache.internal-6379
    host: cache.internal
    ports: [6379]
    protocol: tcp
    addresses:  # review: nothing on the public Internet has these
    - 10.0.3.5  # private
  # 1 connection, at least one of them not HTTP or not inspected
  - name: db.internal-5432
    host: db.internal
    ports: [5432]
    inspection: none
    addresses:  # review: nothing on the public Internet has these
    - 10.0.3.4  # private
)");
}

TEST(Draft, OpensNoPortOfHttpForWhatIsNoHttp) {
  for (const int port : {80, 443}) {
    Observation odd = seen("", "a.example", "");
    odd.port = static_cast<std::uint16_t>(port);
    odd.inspected = false;
    odd.tcp = true;
    const std::string yaml = yaml_of({odd});
    EXPECT_THAT(yaml, HasSubstr("endpoints: []"));
    EXPECT_THAT(yaml, HasSubstr("no draft should, or there was no room: 1 exchange"));
  }
}

TEST(Draft, KeepsExactPathsExact) {
  const std::string yaml = expect_allows_all({seen("GET", "a.example", "/a"), seen("GET", "a.example", "/a/b"),
                                              seen("GET", "a.example", "/a/"), seen("GET", "a.example", "/a//b")});
  EXPECT_THAT(yaml, Not(HasSubstr("prefix")));
  const auto snapshot = load_clean(yaml);
  EXPECT_FALSE(snapshot->decide_request({Scheme::https, "a.example", 443}, "GET", "/a/c").allowed);
}

TEST(Draft, QuotesWhatYamlWouldTakeForSomethingElse) {
  std::vector<Observation> all;
  for (const char* host :
       {"true", "no", "null", "e1.e5", "y", "1e3", "xn--bcher-kva.example", "a_b.example", "_x.example"}) {
    for (const char* path : {"/", "/a,b", "/{a}", "/[a]", "/a:b", "/'", "/\"", "/a%20b", "/&a", "/*", "/!a", "/|", "/~",
                             "/=", "/@", "/%C3%A4", "/-", "/..."}) {
      all.push_back(seen("GET", host, path));
    }
  }
  all.push_back(seen("!#$%&'*+-.^_`|~", "methods.example", "/"));
  all.push_back(seen("123", "methods.example", "/"));
  all.push_back(seen("NULL", "methods.example", "/"));
  expect_allows_all(all);
}

TEST(Draft, WidensMethodsThatAPolicyCannotName) {
  const std::string yaml = expect_allows_all({seen("patch", "a.example", "/"), seen("GET", "a.example", "/")});
  EXPECT_THAT(yaml, HasSubstr("methods: [any]"));
}

TEST(Draft, LetsEncodedSlashesStandWhereTheyWereSeen) {
  const std::string yaml =
      expect_allows_all({seen("PUT", "s3.example", "/bucket/a%2Fb"), seen("GET", "b.example", "/c")});
  EXPECT_THAT(yaml, HasSubstr("allowEncodedSlashes: true"));
}

TEST(Draft, LeavesOutWhatNoPolicyCanSay) {
  Draft draft;
  for (const Observation& observation :
       {seen("GET", "any", "/"), seen("GET", "A.example", "/"), seen("GET", "", "/"), seen("OPTIONS", "a.example", "*"),
        seen("GET", "a.example", "/a/../b"), seen("GET", "a.example", "/a?b"), seen("GET", "a.example", ""),
        seen("GET", "a.example\n- name: x", "/"), seen("GET", "a.example", "/a\n  - evil")}) {
    draft.add(observation);
  }
  Observation no_port = seen("GET", "a.example", "/");
  no_port.port = 0;
  draft.add(no_port);
  const std::string yaml = draft.to_yaml("f", "2026-11-21");
  EXPECT_THAT(yaml, HasSubstr("no room: 10 exchanges."));
  EXPECT_TRUE(load_clean(yaml)->endpoints().empty());
}

TEST(Draft, ItsHeadCannotBeBrokenByItsArguments) {
  Draft draft;
  for (const std::string_view function :
       {"", "My Function/1", "a\nspec: {}", "-", "..", "ok.name", "日本", "no", "1e3"}) {
    const auto snapshot = load_clean(draft.to_yaml(function, "today\nkind: Other"));
    ASSERT_NE(snapshot, nullptr) << function;
  }
  EXPECT_EQ(load_clean(draft.to_yaml("ok.name", ""))->function(), "ok.name");
}

TEST(Draft, NamesAreUniqueAndShort) {
  std::vector<Observation> all;
  const std::string tail = "." + std::string(60, 'a') + "." + std::string(60, 'b') + ".example";
  for (int i = 0; i < 20; ++i) {
    all.push_back(seen("GET", std::string(50, 'x') + "-long-" + std::to_string(i) + "x" + tail, "/"));
  }
  all.push_back(seen("GET", "a_b.example", "/"));
  all.push_back(seen("GET", "a-b.example", "/"));
  all.push_back(seen("GET", "2001:db8::1", "/"));
  all.push_back(seen("GET", "10.0.0.1", "/"));
  expect_allows_all(all);
}

TEST(Draft, JoinsVeryManyAddresses) {
  std::vector<Observation> all;
  for (int i = 0; i < 200; ++i) {
    Observation observation = seen("GET", "a.example", "/");
    observation.upstream = IpAddress::from_v4({10, static_cast<std::uint8_t>(i), 0, 1});
    all.push_back(observation);
    observation.upstream =
        IpAddress::from_v6({0xfd, static_cast<std::uint8_t>(i), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
    all.push_back(observation);
  }
  const std::string yaml = expect_allows_all(all);
  EXPECT_THAT(yaml, HasSubstr("10.0.0.0/8  # private"));
}

class DraftProperty : public testing::Test {
 protected:
  std::mt19937_64 random_{std::random_device{}()};

  void SetUp() override {
    const std::uint64_t seed = std::random_device{}();
    random_.seed(seed);
    RecordProperty("seed", std::to_string(seed));
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  }

  std::size_t below(std::size_t end) { return std::uniform_int_distribution<std::size_t>(0, end - 1)(random_); }
  const std::string& one_of(const std::vector<std::string>& words) { return words[below(words.size())]; }

  std::string path() {
    static const std::vector<std::string> kSegments = {"v1",
                                                       "users",
                                                       "42",
                                                       "a,b",
                                                       "%20",
                                                       "",
                                                       "..x",
                                                       "it's",
                                                       "%2F",
                                                       "x%5Cy",
                                                       "550e8400-e29b-41d4-a716-446655440000",
                                                       "{id}",
                                                       ";a=b",
                                                       "*",
                                                       "~",
                                                       "null",
                                                       "a:b",
                                                       "#"};
    std::string out;
    const std::size_t segments = 1 + below(5);
    for (std::size_t i = 0; i < segments; ++i) {
      std::string segment =
          below(4) == 0 ? "s" + std::string(1, static_cast<char>('a' + below(20))) : one_of(kSegments);
      if (segment == "#" || (i == 0 && segment.empty() && segments > 1)) segment = "first";
      out += "/" + segment;
    }
    return out;
  }

  Observation observation() {
    static const std::vector<std::string> kHosts = {"a.example",   "b.example", "*.example", "any", "10.0.0.7",
                                                    "2001:db8::1", "true",      "x_y.test",  "1.e5"};
    static const std::vector<std::string> kMethods = {"GET", "POST", "PUT", "DELETE", "PURGE", "get", "A'B", "X!"};
    static const std::vector<std::string> kAddresses = {"10.1.2.3",  "93.184.216.34",    "fd00::7",
                                                        "127.0.0.1", "64:ff9b::a01:203", "169.254.169.254"};
    Observation out = seen(one_of(kMethods), one_of(kHosts), path());
    out.port = std::vector<std::uint16_t>{443, 80, 8443}[below(3)];
    out.scheme = below(2) == 0 ? Scheme::http : Scheme::https;
    out.inspected = below(40) != 0;
    out.tcp = !out.inspected && below(2) == 0;
    if (below(3) == 0) out.upstream = IpAddress::parse(one_of(kAddresses));
    return out;
  }
};

TEST_F(DraftProperty, AllowsWhateverRandomSetWasSeen) {
  for (int round = 0; round < 25; ++round) {
    Draft draft;
    std::vector<Observation> all;
    const std::size_t size = 1 + below(200);
    for (std::size_t i = 0; i < size; ++i) {
      const Observation made = observation();
      // What no policy can say is left out by the draft; here it is left out of what must be allowed.
      Draft alone;
      alone.add(made);
      const auto snapshot = load_clean(alone.to_yaml("f", "now"));
      ASSERT_NE(snapshot, nullptr);
      if (!snapshot->endpoints().empty()) all.push_back(made);
      draft.add(made);
    }
    const auto snapshot = load_clean(draft.to_yaml("f", "now"));
    ASSERT_NE(snapshot, nullptr);
    // An uninspected connection makes its whole host and port uninspected.
    for (const Observation& made : all) {
      expect_allowed(*snapshot, made);
      if (HasFailure()) {
        std::printf("%s\n", draft.to_yaml("f", "now").c_str());
        return;
      }
    }
  }
}

TEST_F(DraftProperty, StaysInBoundsWhateverComes) {
  Draft draft;
  std::vector<Observation> some;
  for (int i = 0; i < 30'000; ++i) {
    // Fewer hosts than a policy may have, but very many paths, deep and wide.
    std::string path;
    for (std::size_t depth = 1 + below(12); depth > 0; --depth)
      path += "/" + std::string(1, static_cast<char>('g' + below(18)));
    Observation made = seen("GET", "h" + std::to_string(below(1'500)) + ".example", path);
    draft.add(made);
    if (i % 100 == 0) some.push_back(std::move(made));
  }
  const std::string yaml = draft.to_yaml("f", "now");
  EXPECT_LE(yaml.size(), limits::kPolicyBytesMax);
  const auto snapshot = load_clean(yaml);
  ASSERT_NE(snapshot, nullptr);
  for (const Observation& made : some) expect_allowed(*snapshot, made);
}

TEST(Draft, LeavesOutHostsBeyondWhatAPolicyMayHave) {
  Draft draft;
  for (int i = 0; i < 5'000; ++i) draft.add(seen("GET", "h" + std::to_string(i) + ".example", "/"));
  const std::string yaml = draft.to_yaml("f", "now");
  EXPECT_THAT(yaml, HasSubstr("no room: 2952 exchanges."));
  const auto snapshot = load_clean(yaml);
  ASSERT_NE(snapshot, nullptr);
  EXPECT_EQ(snapshot->endpoints().size(), limits::kPolicyEndpointsMax / 2);
}

TEST(Draft, LeavesOutTheLeastSeenHostsWhereTheDocumentWouldBeTooLarge) {
  Draft draft;
  const std::string label(60, 'a');
  for (int i = 0; i < 1'000; ++i) {
    Observation made =
        seen("GET", label + "." + label + "." + label + ".h" + std::to_string(i), "/" + std::string(120, 'g'));
    for (int j = 0; j < 32; ++j) {
      made.upstream = IpAddress::from_v4({10, 0, 0, static_cast<std::uint8_t>(j)});
      made.count = static_cast<std::uint64_t>(i + 1);
      draft.add(made);
    }
  }
  const std::string yaml = draft.to_yaml("f", "now");
  EXPECT_LE(yaml.size(), limits::kPolicyBytesMax);
  const auto snapshot = load_clean(yaml);
  ASSERT_NE(snapshot, nullptr);
  EXPECT_TRUE(snapshot->resolves(label + "." + label + "." + label + ".h999"));
  EXPECT_FALSE(snapshot->resolves(label + "." + label + "." + label + ".h0"));
  EXPECT_THAT(yaml, HasSubstr("there was no room"));
}

}  // namespace
}  // namespace sallyport::document
