#include "proxy/guard/explicit_proxy.h"

#include <gtest/gtest.h>

namespace sallyport::guard {
namespace {

const net::LocalAddr kHere{*request::IpAddress::parse("127.0.0.1"), 3128};

std::string connect(std::string_view target, std::string_view host = {}) {
  request::RequestHead head;
  head.method = "CONNECT";
  head.target = target;
  head.authority = host;
  const auto found = destination_of_connect(head, kHere);
  if (!found) return std::string(to_string(found.error().reason));
  return found->host.name + " " + std::to_string(found->port);
}

std::string get(std::string_view target) {
  request::RequestHead head;
  head.method = "GET";
  head.target = target;
  const auto found = facts_of_absolute_form(head, kHere);
  if (!found) return std::string(to_string(found.error().reason));
  EXPECT_TRUE(found->one_host && found->scheme == request::Scheme::http);
  return found->host.name + " " + std::to_string(found->port);
}

TEST(ExplicitProxy, ConnectNamesHostAndPort) {
  EXPECT_EQ(connect("API.example.com.:443"), "api.example.com 443");
  EXPECT_EQ(connect("api.example.com:8443", "api.example.com:8443"), "api.example.com 8443");
  EXPECT_EQ(connect("api.example.com:8443", "api.example.com"), "api.example.com 8443");
  EXPECT_EQ(connect("[2001:DB8::1]:443"), "2001:db8::1 443");
  for (const std::string_view target :
       {"api.example.com", "api.example.com:", "api.example.com:0", "api.example.com:65536", ":443", "443", "/", "*",
        "http://api.example.com:443", "user@api.example.com:443", "api.example.com:443/", "2001:db8::1:443",
        "0x7f.1:443", "a..b:443", "a b:443", "[api.example.com]:443", "api.example.com:0443"}) {
    EXPECT_EQ(connect(target), "malformed-target") << target;
  }
}

TEST(ExplicitProxy, HostMaySayNothingElse) {
  EXPECT_EQ(connect("api.example.com:443", "other.example.com"), "host-mismatch");
  EXPECT_EQ(connect("api.example.com:443", "api.example.com:80"), "host-mismatch");
  EXPECT_EQ(connect("api.example.com:443", "api.example.com:"), "malformed-target");
}

TEST(ExplicitProxy, ItselfIsNoDestination) {
  for (const std::string_view target : {"127.0.0.1:3128", "127.9.9.9:3128", "[::1]:3128", "0.0.0.0:3128"}) {
    EXPECT_EQ(connect(target), "loop") << target;
    EXPECT_EQ(get("http://" + std::string(target) + "/"), "loop") << target;
  }
  EXPECT_EQ(connect("127.0.0.1:3129"), "127.0.0.1 3129") << "the policy decides";
}

TEST(ExplicitProxy, OtherRequestsAreInAbsoluteForm) {
  EXPECT_EQ(get("http://API.example.com/x?y"), "api.example.com 80");
  EXPECT_EQ(get("HTTP://api.example.com:8080"), "api.example.com 8080");
  for (const std::string_view target : {"/", "/x", "*", "https://api.example.com/", "http://", "http://a..b/",
                                        "http://user@a.example/", "http://a.example:/", "ftp://a.example/"}) {
    EXPECT_EQ(get(target), "malformed-target") << target;
  }
}

}  // namespace
}  // namespace sallyport::guard
