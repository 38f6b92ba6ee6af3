#include "proxy/guard/operation_label.h"

#include <gtest/gtest.h>

#include "policy-engine/document/load.h"

namespace sallyport::guard {
namespace {

std::shared_ptr<const document::Snapshot> policy() {
  document::LoadResult loaded = document::load_policy(
      "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: test}\nspec:\n  endpoints:\n"
      "  - {name: a, host: a.example, query: sort, mergeSlashes: true, rules: [{methods: [any], path: {prefix: /}}]}\n"
      "  - {name: b, host: b.example, query: keep, ports: [8443], rules: [{methods: [any], path: {prefix: /}}]}\n"
      "  - {name: c, host: c.example, scheme: http, rules: [{methods: [any], path: {prefix: /}}]}\n",
      "test.yaml", nullptr);
  for (const auto& diagnostic : loaded.diagnostics) ADD_FAILURE() << diagnostic.to_string();
  return loaded.snapshot;
}

// A request as the chain leaves it.
Route route(std::string_view target, request::Scheme scheme = request::Scheme::https, std::string host = "a.example",
            std::uint16_t port = 443) {
  Route out;
  request::RequestHead head;
  head.method = "GET";
  head.target = target;
  EXPECT_FALSE(settle({scheme, {std::move(host), std::nullopt}, port}, policy(), head, out));
  return out;
}

std::string label(const Route& route) {
  const OperationLabel made(route, "GET");
  const flow::Operation view = made.view();
  return std::string(view.host) + " " + std::string(view.path) + " " + std::string(view.query);
}

TEST(OperationLabel, SaysSchemeAndPortOnlyWhereTheyAreNotTheUsual) {
  EXPECT_EQ(label(route("/x//./y")), "a.example /x/y ");
  EXPECT_EQ(label(route("/x", request::Scheme::https, "b.example", 8443)), "b.example:8443 /x ");
  EXPECT_EQ(label(route("/x", request::Scheme::http, "c.example", 80)), "http://c.example /x ");
  EXPECT_EQ(label(route("/x", request::Scheme::http, "c.example", 8080)), "http://c.example:8080 /x ");
}

TEST(OperationLabel, TheQueryIsWhatTheEndpointSays) {
  EXPECT_EQ(label(route("/x?b=2&a=1&&a=0")), "a.example /x a=0&a=1&b=2");
  EXPECT_EQ(label(route("/x?b=2&a=1", request::Scheme::https, "b.example", 8443)), "b.example:8443 /x b=2&a=1");
  EXPECT_EQ(label(route("/x?b=2", request::Scheme::http, "c.example", 80)), "http://c.example /x ") << "dropped";
  EXPECT_EQ(query_label("", document::QueryRule::sort), "");
  EXPECT_EQ(query_label("&&", document::QueryRule::sort), "");
}

std::string redirected(int status, std::string_view method, std::initializer_list<std::string_view> locations,
                       std::string_view target = "/dir/page?q=1") {
  request::ResponseHead response;
  response.status = status;
  for (const std::string_view location : locations) response.headers.add("Location", location);
  const auto to = redirect_of(route(target), method, response);
  if (!to) return "-";
  return to->method() + " " + to->host() + to->path() + (to->query().empty() ? "" : "?" + to->query());
}

TEST(OperationLabel, ARedirectLeadsWhereAClientWouldGo) {
  EXPECT_EQ(redirected(302, "GET", {"https://A.example/other"}), "GET a.example/other");
  EXPECT_EQ(redirected(307, "PUT", {"//b.example:8443/other?z=1&a=2"}), "PUT b.example:8443/other?z=1&a=2");
  EXPECT_EQ(redirected(308, "POST", {"/other?z=1&a=2"}), "POST a.example/other?a=2&z=1");
  EXPECT_EQ(redirected(301, "GET", {"next"}), "GET a.example/dir/next");
  EXPECT_EQ(redirected(301, "GET", {"../up#fragment"}), "GET a.example/up");
  EXPECT_EQ(redirected(301, "GET", {"?r=2"}), "GET a.example/dir/page?r=2");
  EXPECT_EQ(redirected(301, "GET", {""}), "GET a.example/dir/page?q=1");
  EXPECT_EQ(redirected(301, "GET", {"http://c.example/x"}), "GET http://c.example/x");
}

TEST(OperationLabel, TheMethodOfARedirectIsTheClients) {
  EXPECT_EQ(redirected(301, "POST", {"/x"}), "GET a.example/x");
  EXPECT_EQ(redirected(302, "POST", {"/x"}), "GET a.example/x");
  EXPECT_EQ(redirected(302, "PUT", {"/x"}), "PUT a.example/x");
  EXPECT_EQ(redirected(303, "PUT", {"/x"}), "GET a.example/x");
  EXPECT_EQ(redirected(303, "HEAD", {"/x"}), "HEAD a.example/x");
}

TEST(OperationLabel, WhatLeadsNowhereIsNoRedirect) {
  EXPECT_EQ(redirected(200, "GET", {"/x"}), "-");
  EXPECT_EQ(redirected(304, "GET", {"/x"}), "-");
  EXPECT_EQ(redirected(302, "GET", {}), "-");
  EXPECT_EQ(redirected(302, "GET", {"/x", "/y"}), "-");
  for (const std::string_view location :
       {"ftp://a.example/x", "https://", "https://user@a.example/", "/a/%00", "/../../..", "https://a.example:0/"}) {
    EXPECT_EQ(redirected(302, "GET", {location}), "-") << location;
  }
}

}  // namespace
}  // namespace sallyport::guard
