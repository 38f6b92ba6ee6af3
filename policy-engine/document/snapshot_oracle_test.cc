// Every small policy against every small request, compared with an evaluator that is slow and obviously right.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy-engine/document/test_support.h"

namespace sallyport::document {
namespace {

using request::Scheme;

struct PlainRule {
  std::vector<std::string> methods;
  std::string kind, path;
};

struct PlainEndpoint {
  std::string host;
  std::vector<int> ports;  // empty: any
  Scheme scheme = Scheme::https;
  bool inspected = true;
  bool merge = false;
  std::vector<PlainRule> rules;
};

struct PlainRequest {
  Scheme scheme;
  std::string host;
  int port;
  std::string method, path;
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts{""};
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// How closely a pattern fits: more than any wildcard for an exact host, a wildcard's labels, 0 for any; -1 for not at
// all.
int fit(const std::string& pattern, const std::string& host) {
  if (pattern == "any") return 0;
  if (pattern == host) return 1'000;
  const auto wanted = split(pattern, '.'), have = split(host, '.');
  if (wanted[0] != "*" || have.size() < wanted.size()) return -1;
  const auto tail = static_cast<std::ptrdiff_t>(wanted.size() - 1);
  return std::equal(wanted.begin() + 1, wanted.end(), have.end() - tail) ? static_cast<int>(tail) : -1;
}

bool path_fits(const PlainRule& rule, const std::string& path) {
  if (rule.kind == "exact") return rule.path == path;
  if (rule.path == "/") return true;
  auto wanted = split(rule.path, '/'), have = split(path, '/');
  if (wanted.back().empty()) {  // "/a/": one segment more, whatever it is
    wanted.pop_back();
    if (have.size() <= wanted.size()) return false;
  }
  return have.size() >= wanted.size() && std::equal(wanted.begin(), wanted.end(), have.begin());
}

bool rule_fits(const PlainRule& rule, const PlainRequest& request) {
  const bool any = rule.methods == std::vector<std::string>{"any"};
  return (any || std::ranges::count(rule.methods, request.method) > 0) && path_fits(rule, request.path);
}

struct Answer {
  std::string connection;
  std::string request;
  bool operator==(const Answer&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Answer& answer) {
  return out << answer.connection << " | " << answer.request;
}

Answer oracle(const std::vector<PlainEndpoint>& policy, const PlainRequest& request) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < policy.size(); ++i) {
    if (fit(policy[i].host, request.host) >= 0) order.push_back(i);
  }
  if (order.empty()) return {"host-not-allowed", "host-not-allowed"};
  std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(-fit(policy[i].host, request.host), i); });
  std::erase_if(order, [&](std::size_t i) {
    return !policy[i].ports.empty() && std::ranges::count(policy[i].ports, request.port) == 0;
  });
  if (order.empty()) return {"port-not-allowed", "port-not-allowed"};
  // Uninspected endpoints count only where no inspected one comes before them.
  if (!policy[order[0]].inspected) {
    const std::string name = "e" + std::to_string(order[0]);
    return {"pass " + name, "allow " + name + " -1"};
  }
  std::erase_if(order, [&](std::size_t i) { return !policy[i].inspected || policy[i].scheme != request.scheme; });
  if (order.empty()) return {"port-not-allowed", "port-not-allowed"};
  const std::string connection = "intercept e" + std::to_string(order[0]);
  std::erase_if(order, [&, first = order[0]](std::size_t i) { return policy[i].merge != policy[first].merge; });
  bool has_method = false;
  for (const std::size_t i : order) {
    for (std::size_t r = 0; r < policy[i].rules.size(); ++r) {
      const PlainRule& rule = policy[i].rules[r];
      if (rule_fits(rule, request)) return {connection, "allow e" + std::to_string(i) + " " + std::to_string(r)};
      has_method |= rule.methods[0] == "any" || std::ranges::count(rule.methods, request.method) > 0;
    }
  }
  return {connection, has_method ? "path-not-allowed" : "method-not-allowed"};
}

// Endpoints that load_policy refuses beside each other.
bool conflict(const PlainEndpoint& a, const PlainEndpoint& b) {
  if (a.host != b.host) return false;
  const bool overlap = a.ports.empty() || b.ports.empty() ||
                       std::ranges::any_of(a.ports, [&](int port) { return std::ranges::count(b.ports, port) > 0; });
  if (!overlap) return false;
  if (a.inspected != b.inspected) return true;
  return a.inspected && a.scheme == b.scheme && a.merge != b.merge;
}

std::string to_yaml(const std::vector<PlainEndpoint>& policy) {
  std::string out = kHead;
  for (std::size_t i = 0; i < policy.size(); ++i) {
    const PlainEndpoint& endpoint = policy[i];
    out += "  - {name: e" + std::to_string(i) + ", host: '" + endpoint.host + "', ports: [";
    for (const int port : endpoint.ports) out += std::to_string(port) + ",";
    if (endpoint.ports.empty()) out += "any";
    out += "]";
    if (!endpoint.inspected) {
      out += ", inspection: none}\n";
      continue;
    }
    out += endpoint.scheme == Scheme::http ? ", scheme: http" : "";
    out += endpoint.merge ? ", mergeSlashes: true, rules: [" : ", rules: [";
    for (const PlainRule& rule : endpoint.rules) {
      out += "{methods: [";
      for (const std::string& method : rule.methods) out += method + ",";
      out += "], path: {" + rule.kind + ": " + rule.path + "}},";
    }
    out += "]}\n";
  }
  return out;
}

Answer answer(const Snapshot& snapshot, const PlainRequest& request) {
  const Destination to{request.scheme, request.host, static_cast<std::uint16_t>(request.port)};
  const ConnectionDecision connection = snapshot.decide_connection(to);
  const RequestDecision decision = snapshot.decide_request(to, request.method, request.path);
  Answer out;
  switch (connection.action) {
    case ConnectionAction::deny:
      out.connection = sallyport::to_string(connection.reason);
      break;
    case ConnectionAction::intercept:
      out.connection = "intercept " + connection.endpoint->name;
      break;
    case ConnectionAction::pass_through:
      out.connection = "pass " + connection.endpoint->name;
      break;
  }
  out.request = decision.allowed ? "allow " + decision.endpoint->name + " " + std::to_string(decision.rule)
                                 : std::string(sallyport::to_string(decision.reason));
  return out;
}

std::vector<PlainEndpoint> small_endpoints() {
  const PlainRule get_a{{"GET"}, "prefix", "/a"}, get_below{{"GET"}, "prefix", "/a/"},
      put{{"PUT", "MOVE"}, "exact", "/a"};
  const PlainRule all{{"any"}, "prefix", "/"}, exact{{"any"}, "exact", "/a/b"};
  return {
      {"x.y.test", {443}, Scheme::https, true, false, {get_a}},
      {"x.y.test", {443, 80}, Scheme::https, true, false, {put, get_below}},
      {"x.y.test", {}, Scheme::http, true, true, {exact}},
      {"x.y.test", {80}, Scheme::https, false, false, {}},
      {"*.y.test", {443}, Scheme::https, true, false, {all}},
      {"*.y.test", {80}, Scheme::http, true, false, {put}},
      {"*.y.test", {}, Scheme::https, false, false, {}},
      {"*.x.y.test", {443}, Scheme::https, true, true, {get_below}},
      {"any", {443}, Scheme::https, true, false, {get_a, put}},
      {"any", {}, Scheme::https, false, false, {}},
      {"y.test", {443}, Scheme::https, true, false, {exact}},
  };
}

std::vector<PlainRequest> small_requests() {
  std::vector<PlainRequest> out;
  for (const char* host : {"x.y.test", "w.x.y.test", "y.test", "z.test", "192.0.2.1"}) {
    for (const int port : {443, 80}) {
      for (const Scheme scheme : {Scheme::https, Scheme::http}) {
        for (const char* method : {"GET", "PUT", "MOVE", "HEAD"}) {
          for (const char* path : {"/", "/a", "/a/", "/a/b", "/ab"}) out.push_back({scheme, host, port, method, path});
        }
      }
    }
  }
  return out;
}

void compare(const std::vector<PlainEndpoint>& policy, const std::vector<PlainRequest>& requests) {
  const std::string yaml = to_yaml(policy);
  const LoadResult result = load_policy(yaml, "p.yaml", nullptr);
  bool conflicts = false;
  for (std::size_t i = 0; i < policy.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) conflicts |= conflict(policy[i], policy[j]);
  }
  ASSERT_EQ(result.snapshot == nullptr, conflicts) << yaml << diagnostics_text(result);
  if (conflicts) return;
  for (const PlainRequest& request : requests) {
    ASSERT_EQ(answer(*result.snapshot, request), oracle(policy, request))
        << yaml << (request.scheme == Scheme::http ? "http " : "https ") << request.method << " " << request.host << ":"
        << request.port << request.path;
  }
}

TEST(SnapshotOracle, AgreesOnEverySmallPolicy) {
  const auto endpoints = small_endpoints();
  const auto requests = small_requests();
  for (const PlainEndpoint& a : endpoints) {
    compare({a}, requests);
    for (const PlainEndpoint& b : endpoints) {
      compare({a, b}, requests);
      for (const PlainEndpoint& c : endpoints) {
        if (HasFatalFailure()) return;
        compare({a, b, c}, requests);
      }
    }
  }
}

}  // namespace
}  // namespace sallyport::document
