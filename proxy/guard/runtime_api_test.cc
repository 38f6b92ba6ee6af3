#include "proxy/guard/runtime_api.h"

#include <gtest/gtest.h>

namespace sallyport::guard {
namespace {

TEST(RuntimeApi, ItsAddressIsAHostAndAPort) {
  const auto api = parse_runtime_api("127.0.0.1:9001");
  ASSERT_TRUE(api);
  EXPECT_EQ((*api)->authority, "127.0.0.1:9001");
  EXPECT_TRUE((*api)->host.address);
  EXPECT_EQ((*parse_runtime_api("[::1]:9001"))->authority, "[::1]:9001");
  EXPECT_EQ((*parse_runtime_api("RIE.example:80"))->authority, "rie.example:80");
  for (const std::string_view text :
       {"", "127.0.0.1", ":9001", "http://127.0.0.1:9001", "127.0.0.1:0", "a b:1", "::1:9001"}) {
    EXPECT_FALSE(parse_runtime_api(text)) << text;
  }
}

std::string call(std::string_view method, std::string_view path) {
  const RuntimeCall found = runtime_call(method, path);
  switch (found.kind) {
    case RuntimeCall::Kind::next:
      return "next";
    case RuntimeCall::Kind::end:
      return "end " + found.invocation;
    case RuntimeCall::Kind::other:
      break;
  }
  return "other";
}

TEST(RuntimeApi, InvocationsBeginAndEndByTheirPaths) {
  EXPECT_EQ(call("GET", "/2018-06-01/runtime/invocation/next"), "next");
  EXPECT_EQ(call("POST", "/2018-06-01/runtime/invocation/8476a536-e9f4/response"), "end 8476a536-e9f4");
  EXPECT_EQ(call("POST", "/2018-06-01/runtime/invocation/8476a536-e9f4/error"), "end 8476a536-e9f4");
  EXPECT_EQ(call("POST", "/2018-06-01/runtime/init/error"), "other");
  EXPECT_EQ(call("POST", "/2018-06-01/runtime/invocation/next"), "other");
  EXPECT_EQ(call("GET", "/2018-06-01/runtime/invocation/a/response"), "other");
  EXPECT_EQ(call("POST", "/2018-06-01/runtime/invocation/a/b/response"), "other");
  EXPECT_EQ(call("POST", "/2018-06-01/runtime/invocation//response"), "other");
  EXPECT_EQ(call("GET", "/"), "other");
}

std::string of(std::string_view name, std::initializer_list<std::string_view> values, bool trace) {
  request::HeaderList headers;
  for (const std::string_view value : values) headers.add(name, value);
  return (trace ? trace_id_of_xray(headers) : invocation_of(headers)).value_or("-");
}

TEST(RuntimeApi, AnInvocationHasOneId) {
  EXPECT_EQ(of("Lambda-Runtime-Aws-Request-Id", {"8476a536"}, false), "8476a536");
  EXPECT_EQ(of("Lambda-Runtime-Aws-Request-Id", {}, false), "-");
  EXPECT_EQ(of("Lambda-Runtime-Aws-Request-Id", {"a", "b"}, false), "-");
  EXPECT_EQ(of("Lambda-Runtime-Aws-Request-Id", {"a/b"}, false), "-");
}

TEST(RuntimeApi, XRaysTraceIsThatOfTheW3C) {
  const auto trace = [](std::string_view text) { return of("Lambda-Runtime-Trace-Id", {text}, true); };
  EXPECT_EQ(trace("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"),
            "5759e988bd862e3fe1be46a994272793");
  EXPECT_EQ(trace("Parent=53995c3f42cd8ad8;Root=1-5759e988-bd862e3fe1be46a994272793"),
            "5759e988bd862e3fe1be46a994272793");
  for (const std::string_view text :
       {"", "Root=1-5759e988", "Root=2-5759e988-bd862e3fe1be46a994272793", "Root=1-5759e988-BD862E3FE1BE46A994272793",
        "Root=1-5759e988xbd862e3fe1be46a994272793"}) {
    EXPECT_EQ(trace(text), "-") << text;
  }
}

}  // namespace
}  // namespace sallyport::guard
