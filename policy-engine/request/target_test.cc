#include "policy-engine/request/target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <random>
#include <string>

#include "base/limits.h"

namespace sallyport::request {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

constexpr TargetOptions kDefault{};
constexpr TargetOptions kSlashes{.encoded_slashes = true};
constexpr TargetOptions kMerge{.merge_slashes = true};

TEST(CanonicalTarget, HasOneFormForEachPath) {
  const struct {
    const char* raw;
    TargetOptions options;
    const char* canonical;
  } cases[] = {
      {"/", kDefault, "/"},
      {"/v1/charges", kDefault, "/v1/charges"},
      {"/v1/charges/", kDefault, "/v1/charges/"},
      // RFC 3986 section 6.2.2: escapes of unreserved characters go, hex digits become upper case.
      {"/%7euser/%41%2d%5F%2e", kDefault, "/~user/A-_."},
      {"/a%3ab%c3%bc", kDefault, "/a%3Ab%C3%BC"},
      {"/%3fx", kDefault, "/%3Fx"},
      {"/%25%32%65", kDefault, "/%252e"},
      {"/%2525", kDefault, "/%2525"},
      // Section 5.2.4, and its examples in section 5.4 with the base resolved by hand.
      {"/a/b/c/./../../g", kDefault, "/a/g"},
      {"/b/c/.", kDefault, "/b/c/"},
      {"/b/c/..", kDefault, "/b/"},
      {"/b/c/../", kDefault, "/b/"},
      {"/b/../g", kDefault, "/g"},
      {"/b/c/g.", kDefault, "/b/c/g."},
      {"/b/c/..g", kDefault, "/b/c/..g"},
      {"/b/c/g;x=1/../y", kDefault, "/b/c/y"},
      {"/b/c/g;x=1/./y", kDefault, "/b/c/g;x=1/y"},
      {"/a/..", kDefault, "/"},
      {"/.", kDefault, "/"},
      {"/./a", kDefault, "/a"},
      {"/.well-known/x", kDefault, "/.well-known/x"},
      {"/...", kDefault, "/..."},
      {"/.../a", kDefault, "/.../a"},
      {"/a/%2e%2e/b", kDefault, "/b"},
      {"/a/%2E/b", kDefault, "/a/b"},
      {"/a/.%2e/b", kDefault, "/b"},
      // Empty segments stay, unless they are merged.
      {"/a//b", kDefault, "/a//b"},
      {"/a//", kDefault, "/a//"},
      {"/a//../b", kDefault, "/a/b"},
      {"/a//b", kMerge, "/a/b"},
      {"/a///b//", kMerge, "/a/b/"},
      {"/a//../b", kMerge, "/b"},
      {"/.//b", kMerge, "/b"},
      {"/a//..", kMerge, "/"},
      // Slashes in escapes stay as they are where they are allowed.
      {"/bucket/a%2fb%5Cc", kSlashes, "/bucket/a%2Fb%5Cc"},
      {"/a%2F%2Fb", kSlashes, "/a%2F%2Fb"},
      {"/a%2F...%2Fb", kSlashes, "/a%2F...%2Fb"},
      {"/a%2F.b", kSlashes, "/a%2F.b"},
      // Parameters are ordinary as long as no dot segment hides in them.
      {"/a;b=1/c", kDefault, "/a;b=1/c"},
      {"/a;..", kDefault, "/a;.."},
      {"/;x", kDefault, "/;x"},
      {"/...;x", kDefault, "/...;x"},
      {"/a..;x", kDefault, "/a..;x"},
      // Queries.
      {"/?", kDefault, "/"},
      {"/a?b=c", kDefault, "/a?b=c"},
      {"/a?b=%7e%2f%00%5c&c=", kDefault, "/a?b=~%2F%00%5C&c="},
      {"/a?x=../..//;?", kDefault, "/a?x=../..//;?"},
      {"/a?\\", kDefault, "/a?\\"},
      {"/a/../b?c/../d", kDefault, "/b?c/../d"},
      {"/a??", kDefault, "/a??"},
      {"/%3F?%3F", kDefault, "/%3F?%3F"},
  };
  for (const auto& test : cases) {
    const Result<Target> target = canonical_target(test.raw, test.options);
    ASSERT_TRUE(target) << test.raw << ": " << target.error().text;
    EXPECT_EQ(target->text, test.canonical) << test.raw;
  }
}

TEST(CanonicalTarget, SplitsPathAndQuery) {
  const Result<Target> target = canonical_target("/a%2db/?x=1?y", kDefault);
  ASSERT_TRUE(target);
  EXPECT_EQ(target->path(), "/a-b/");
  EXPECT_EQ(target->query(), "x=1?y");
  EXPECT_EQ(canonical_target("/a?", kDefault)->query(), "");
  EXPECT_EQ(canonical_target("/a", kDefault)->path(), "/a");
}

TEST(CanonicalTarget, RefusesWhatServersReadInDifferentWays) {
  const struct {
    std::string raw;
    TargetOptions options;
    const char* says;
  } cases[] = {
      {"", kDefault, "begin with '/'"},
      {"*", kDefault, "begin with '/'"},
      {"a", kDefault, "begin with '/'"},
      {"?a", kDefault, "begin with '/'"},
      {"http://example.com/", kDefault, "begin with '/'"},
      {"%2Fa", kDefault, "begin with '/'"},
      {"\\a", kDefault, "begin with '/'"},
      {"/a b", kDefault, "0x20 at offset 2"},
      {"/a\tb", kDefault, "0x09"},
      {"/a\r\nb", kDefault, "0x0D"},
      {"/a\0b"s, kDefault, "0x00"},
      {"/a\x7f", kDefault, "0x7F"},
      {"/\xc3\xbc", kDefault, "0xC3"},
      {"/a?\xc3\xbc", kDefault, "0xC3"},
      {"/a? ", kDefault, "0x20"},
      {"/a#b", kDefault, "0x23"},  // CVE-2021-39156
      {"/a?b#c", kDefault, "0x23"},
      {"/a\\b", kDefault, "0x5C"},
      {"/a\\..\\b", kSlashes, "0x5C"},
      {"/%", kDefault, "two hex digits"},
      {"/%4", kDefault, "two hex digits"},
      {"/%4?1", kDefault, "two hex digits"},
      {"/%g0", kDefault, "two hex digits"},
      {"/%u002e", kDefault, "two hex digits"},
      {"/?%", kDefault, "two hex digits"},
      {"/?%4", kDefault, "at offset 2"},
      {"/a%00", kSlashes, "%00 at offset 2"},
      {"/a%0d%0aX", kDefault, "%0d"},
      {"/a%1f", kDefault, "%1f"},
      {"/a%7F", kDefault, "%7F"},
      {"/a%2fb", kDefault, "%2f"},  // CVE-2021-29492
      {"/a%5Cb", kDefault, "%5C"},
      {"//", kDefault, "begins with '//'"},
      {"//evil.example/a", kDefault, "begins with '//'"},  // CVE-2026-26205
      {"//a", kMerge, "begins with '//'"},
      {"/.//a", kDefault, "begins with '//'"},
      {"/a/..//b", kDefault, "begins with '//'"},
      {"/%2e//b", kDefault, "begins with '//'"},
      {"/..", kDefault, "climbs"},
      {"/../a", kDefault, "climbs"},
      {"/a/../../b", kDefault, "climbs"},
      {"/%2e%2e/b", kDefault, "climbs"},
      {"/a//../../../b", kDefault, "climbs"},
      {"/a/..;/b", kDefault, "segment of dots"},
      {"/a/..;x=1/b", kDefault, "segment of dots"},
      {"/a/.;/b", kDefault, "segment of dots"},
      {"/a/%2e%2e;x", kDefault, "segment of dots"},
      {"/a/..%3b/b", kDefault, "segment of dots"},
      {"/a/..%3Bx", kDefault, "segment of dots"},
      {"/a/..%2fb", kSlashes, "segment of dots"},
      {"/a/b%2F..", kSlashes, "segment of dots"},
      {"/a/b%2F..%2Fc", kSlashes, "segment of dots"},
      {"/a/b%5C.%2Fc", kSlashes, "segment of dots"},
      {"/a/b;x%2F..;y%2Fc", kSlashes, "segment of dots"},
      {"/a/%2F%2e%2e", kSlashes, "segment of dots"},
      {"/" + std::string(limits::kRequestTargetBytesMax, 'a'), kDefault, "too long"},
  };
  for (const auto& test : cases) {
    const Result<Target> target = canonical_target(test.raw, test.options);
    ASSERT_FALSE(target) << test.raw << " became " << target->text;
    EXPECT_EQ(target.error().source, ErrorSource::downstream);
    EXPECT_THAT(target.error().text, HasSubstr(test.says)) << test.raw;
  }
}

// Obvious and slow: what a server sees that first cuts parameters, then takes every slash for one.
bool any_reading_has_dots(std::string_view path) {
  std::string plain;
  for (std::size_t i = 0; i < path.size(); ++i) {
    const std::string_view escape = path.substr(i, 3);
    if (escape == "%2F" || escape == "%5C") {
      plain += '/';
    } else if (escape == "%3B") {
      plain += ';';
    } else {
      plain += path[i];
      continue;
    }
    i += 2;
  }
  plain += '/';
  std::size_t begin = 0;
  for (std::size_t end = plain.find('/'); end != std::string::npos; end = plain.find('/', begin)) {
    std::string_view segment = std::string_view(plain).substr(begin, end - begin);
    segment = segment.substr(0, segment.find(';'));
    if (segment == "." || segment == "..") return true;
    begin = end + 1;
  }
  return false;
}

TEST(CanonicalTarget, IsIdempotentAndLeavesNoDotSegmentForAnyServer) {
  const unsigned seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  const std::string_view pieces[] = {"/",   "/",   "/",   ".",   "..",  "a",   "b",   ";",   "?",
                                     "%2e", "%2E", "%2f", "%2F", "%5c", "%5C", "%3b", "%25", "%41",
                                     "%c3", "~",   "=",   "&",   "%",   "2e",  "\\",  "#"};
  int accepted = 0;
  for (int round = 0; round < 300'000; ++round) {
    std::string raw = "/";
    const std::size_t count = random() % 14;
    for (std::size_t i = 0; i < count; ++i) raw += pieces[random() % std::size(pieces)];
    const TargetOptions options{.encoded_slashes = random() % 2 == 0, .merge_slashes = random() % 2 == 0};
    const Result<Target> once = canonical_target(raw, options);
    if (!once) continue;
    ++accepted;
    const Result<Target> twice = canonical_target(once->text, options);
    ASSERT_TRUE(twice) << raw << " -> " << once->text << " -> " << twice.error().text << " seed " << seed;
    ASSERT_EQ(once->text, twice->text) << raw << " seed " << seed;
    ASSERT_EQ(once->path_size, twice->path_size) << raw << " seed " << seed;
    ASSERT_FALSE(any_reading_has_dots(once->path())) << raw << " -> " << once->text << " seed " << seed;
    ASSERT_FALSE(once->text.starts_with("//")) << raw << " seed " << seed;
    ASSERT_LE(once->text.size(), raw.size()) << raw << " seed " << seed;
    if (options.merge_slashes) {
      ASSERT_EQ(once->path().find("//"), std::string_view::npos) << raw << " seed " << seed;
    }
  }
  EXPECT_GT(accepted, 10'000);
}

TEST(AbsoluteForm, SplitsUrls) {
  const struct {
    const char* raw;
    const char* scheme;
    const char* authority;
    const char* origin;
  } cases[] = {
      {"http://example.com/a?b", "http", "example.com", "/a?b"},
      {"HTTPS://Example.com:8443/", "HTTPS", "Example.com:8443", "/"},
      {"https://example.com", "https", "example.com", "/"},
      {"https://[::1]:8443/a", "https", "[::1]:8443", "/a"},
      {"http://user@example.com/", "http", "user@example.com", "/"},  // parse_authority refuses it
      {"http://a//b", "http", "a", "//b"},                            // canonical_target refuses it
  };
  for (const auto& test : cases) {
    const Result<AbsoluteForm> form = split_absolute_form(test.raw);
    ASSERT_TRUE(form) << test.raw;
    EXPECT_EQ(form->scheme, test.scheme);
    EXPECT_EQ(form->authority, test.authority);
    EXPECT_EQ(form->origin, test.origin);
  }
}

TEST(AbsoluteForm, RefusesOtherForms) {
  for (const char* raw : {"", "*", "/a", "example.com:443", "ftp://a/", "http:/a", "http:a", "://a/", "http://",
                          "http:///a", "http://?a", "http://a?b", "http://a#b", "x/http://a/"}) {
    EXPECT_FALSE(split_absolute_form(raw)) << raw;
  }
}

}  // namespace
}  // namespace sallyport::request
