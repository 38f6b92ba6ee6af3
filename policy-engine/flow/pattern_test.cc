#include "policy-engine/flow/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <re2/re2.h>

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/flow/graph_symbols.h"

namespace sallyport::flow {
namespace {

using testing::HasSubstr;

Pattern pattern_of(std::string_view text, std::string_view action = "") {
  auto pattern = parse_pattern(text, action);
  EXPECT_TRUE(pattern) << text << ": " << (pattern ? "" : pattern.error().text);
  return pattern ? *pattern : Pattern();
}

std::string refusal_of(std::string_view text) {
  const auto pattern = parse_pattern(text, "");
  EXPECT_FALSE(pattern) << text;
  return pattern ? "" : pattern.error().text;
}

// "GET host/path?query" as the operation that it is.
Operation operation_of(std::string_view text) {
  Operation out;
  const std::size_t space = text.find(' ');
  out.method = text.substr(0, space);
  text.remove_prefix(space + 1);
  const std::size_t path = text.find('/', text.starts_with("http://") ? 7 : 0);
  out.host = text.substr(0, path);
  const std::size_t query = std::min(text.find('?'), text.size());
  out.path = text.substr(path, query - path);
  if (query < text.size()) out.query = text.substr(query + 1);
  return out;
}

bool matches(std::string_view pattern, std::string_view operation) {
  return pattern_of(pattern).matches(operation_of(operation));
}

TEST(Pattern, IsWrittenAsItWasRead) {
  for (const char* text : {
           "GET api.example.com/",
           "GET api.example.com/orders/{int}",
           "PROPFIND http://dav.example.com:8080/a/*",
           "PUT s3.amazonaws.com/photos/{uuid}/*",
           "GET hooks-{word}.example.com/x",
           "GET {hex}.example.com:8443/x",
           "GET [2001:db8::1]:8443/x",
           "GET 192.0.2.1/x",
           "GET a.com/?list-type=2&prefix={word}/{int}",
           "GET a.com/?*",
           "GET a.com/x*?uploads",
           "GET a.com/%7B%2A%7D?q=%2A",
           "GET a.com/{date}-{int}.{any}",
       }) {
    EXPECT_EQ(pattern_of(text).to_string(), text);
  }
}

TEST(Pattern, RefusesWhatNoRequestCouldBeAndSaysWhatToWrite) {
  EXPECT_THAT(refusal_of(""), HasSubstr("at byte 1: a pattern is a method"));
  EXPECT_THAT(refusal_of("a.com/"), HasSubstr("write 'GET api.example.com/orders/{int}'"));
  EXPECT_THAT(refusal_of("get a.com/"), HasSubstr("'get' is no method"));
  EXPECT_THAT(refusal_of("* a.com/"), HasSubstr("'*' is no method"));
  EXPECT_THAT(refusal_of("GET https://a.com/"), HasSubstr("at byte 5: https is meant"));
  EXPECT_THAT(refusal_of("GET a.com"), HasSubstr("at byte 10: there is no path"));
  EXPECT_THAT(refusal_of("GET a.com?x=1"), HasSubstr("at byte 10: there is no path"));
  EXPECT_THAT(refusal_of("GET A.com/"), HasSubstr("write it as in 'a.com'"));
  EXPECT_THAT(refusal_of("GET a.com:443/"), HasSubstr("443 is the port"));
  EXPECT_THAT(refusal_of("GET http://a.com:80/"), HasSubstr("80 is the port"));
  EXPECT_THAT(refusal_of("GET a.com:{int}/"), HasSubstr("a port must be a number"));
  EXPECT_THAT(refusal_of("GET a..com/"), HasSubstr("empty label"));
  EXPECT_THAT(refusal_of("GET *.a.com/"), HasSubstr("'*' stands at the very end"));
  EXPECT_THAT(refusal_of("GET {word}-{int}.a.com/"), HasSubstr("at most one placeholder"));
  EXPECT_THAT(refusal_of("GET a.com/{wrd}"), HasSubstr("at byte 11: there is no placeholder {wrd}: write {word}"));
  EXPECT_THAT(refusal_of("GET a.com/{x"), HasSubstr("is not closed: write %7B"));
  EXPECT_THAT(refusal_of("GET a.com/x}"), HasSubstr("write %7D"));
  EXPECT_THAT(refusal_of("GET a.com/*/x"), HasSubstr("write {any} for one segment"));
  EXPECT_THAT(refusal_of("GET a.com/{int}{word}"), HasSubstr("side by side"));
  EXPECT_THAT(refusal_of("GET a.com/../x"), HasSubstr("climbs over its root"));
  EXPECT_THAT(refusal_of("GET a.com/a/./x"), HasSubstr("write it as in '/a/x'"));
  EXPECT_THAT(refusal_of("GET a.com/%7e"), HasSubstr("write it as in '/~'"));
  EXPECT_THAT(refusal_of("GET a.com/a%{int}"), HasSubstr("not followed by two hex digits"));
  EXPECT_THAT(refusal_of("GET a.com/a b"), HasSubstr("write it as an escape"));
  EXPECT_THAT(refusal_of("GET a.com/\xc3\xa4"), HasSubstr("write it as an escape"));
  EXPECT_THAT(refusal_of("GET a.com/?"), HasSubstr("the query is empty"));
  EXPECT_THAT(refusal_of("GET a.com/?{word}=1"), HasSubstr("a placeholder stands for a value"));
  EXPECT_THAT(refusal_of("GET a.com/?a=1&&b=2"), HasSubstr("remove one '&'"));
  EXPECT_THAT(refusal_of("GET a.com/?a=1*"), HasSubstr("alone for a query"));
  EXPECT_THAT(refusal_of("GET a.com/" + std::string(5'000, 'a')), HasSubstr("longer than 4096 bytes"));
}

TEST(Pattern, PlaceholdersStandForTheirClassAlone) {
  struct Case {
    const char* word;
    std::vector<const char*> values, others;
  };
  const std::vector<Case> cases = {
      {"int", {"0", "007", "123456789012345678901234567890"}, {"", "-1", "1.0", "1a", "%31", "1%2F2", "1/2"}},
      {"uuid",
       {"f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"},
       {"", "f81d4fae7dec11d0a76500a0c91e6bf6", "f81d4fae-7dec-11d0-a765-00a0c91e6bf",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf66", "g81d4fae-7dec-11d0-a765-00a0c91e6bf6"}},
      {"hex", {"dead", "00ff00FF"}, {"", "abc", "xyzw", "dead-beef"}},
      {"date",
       {"2024-01-31", "20240131", "2024-12-01T23:59:60Z", "20240131T000000Z", "2024-01-31T12%3A00%3A00.123%2B02%3A00",
        "2024-01-31T12:00-0800"},
       {"", "2024-13-01", "2024-00-10", "2024-01-32", "2024-0131", "202401", "2024-01-31T", "2024-01-31T25:00",
        "2024-01-31 12:00", "2024-01-31T12:00:00."}},
      {"word", {"a", "A-Z_.~9"}, {"", "a b", "a%20b", "a%2Fb", "a/b", "a+b", "a@b", "a:b"}},
      {"any", {"a", "a%2Fb", "a@b:c", "{x}*", "%25"}, {"", "a/b", "%", "a%2", "\x01", "\xff"}},
  };
  for (const Case& c : cases) {
    const std::string text = std::string("GET a.com/x/{") + c.word + "}";
    for (const char* value : c.values) EXPECT_TRUE(matches(text, std::string("GET a.com/x/") + value)) << text << value;
    for (const char* value : c.others)
      EXPECT_FALSE(matches(text, std::string("GET a.com/x/") + value)) << text << value;
  }
}

TEST(Pattern, ValuesOfAQueryDoNotReachIntoTheNext) {
  EXPECT_TRUE(matches("GET a.com/?k={any}&l=1", "GET a.com/?k=a/b&l=1"));
  EXPECT_FALSE(matches("GET a.com/?k={any}", "GET a.com/?k=a&admin=1"));
  EXPECT_FALSE(matches("GET a.com/?k={any}", "GET a.com/?k="));
  EXPECT_FALSE(matches("GET a.com/?k={any}", "GET a.com/"));
  EXPECT_FALSE(matches("GET a.com/", "GET a.com/?k=1"));
  EXPECT_TRUE(matches("GET a.com/?*", "GET a.com/"));
  EXPECT_TRUE(matches("GET a.com/?*", "GET a.com/?k=1&k=2"));
}

TEST(Pattern, HostsMatchLabelByLabel) {
  EXPECT_TRUE(matches("GET {word}.com/", "GET a.com/"));
  EXPECT_FALSE(matches("GET {word}.com/", "GET evil.a.com/"));
  EXPECT_FALSE(matches("GET {any}.com/", "GET evil.a.com/"));
  EXPECT_FALSE(matches("GET {word}.com/", "GET .com/"));
  EXPECT_FALSE(matches("GET a.{word}/", "GET a.com:8443/"));
  EXPECT_FALSE(matches("GET a.{any}/", "GET a.com:8443/"));
  EXPECT_FALSE(matches("GET a.com/", "GET http://a.com/"));
  EXPECT_FALSE(matches("GET http://a.com/", "GET a.com/"));
  EXPECT_FALSE(matches("GET {any}/", "GET http://a/"));
  EXPECT_TRUE(matches("GET hooks-{hex}.a.com:8443/", "GET hooks-0a1b2c.a.com:8443/"));
}

TEST(Pattern, AnEndThatIsOpenTakesEverythingBehindIt) {
  EXPECT_TRUE(matches("GET a.com/x/*", "GET a.com/x/"));
  EXPECT_TRUE(matches("GET a.com/x/*", "GET a.com/x/a/b//c%2F"));
  EXPECT_FALSE(matches("GET a.com/x/*", "GET a.com/x"));
  EXPECT_TRUE(matches("GET a.com/x*", "GET a.com/xyz/1"));
  EXPECT_TRUE(matches("GET a.com/{int}-*", "GET a.com/12-"));
  EXPECT_FALSE(matches("GET a.com/{int}-*", "GET a.com/-"));
}

TEST(Pattern, EscapesStandForBothFormsOfTheBytesThatPatternsUse) {
  for (const char* path : {"%7Bx%7D%2A", "{x}*", "%7Bx}*"}) {
    EXPECT_TRUE(matches("GET a.com/%7Bx%7D%2A", std::string("GET a.com/") + path)) << path;
    EXPECT_TRUE(matches("GET a.com/?q=%7Bx%7D%2A", std::string("GET a.com/?q=") + path)) << path;
  }
  EXPECT_FALSE(matches("GET a.com/%7Bx%7D", "GET a.com/%7Bx"));
}

TEST(Pattern, AnEscapeIsNotSplit) {
  EXPECT_FALSE(matches("GET a.com/{any}20", "GET a.com/a%20"));
  EXPECT_FALSE(matches("GET a.com/{any}0-{any}", "GET a.com/%20-x"));
  EXPECT_TRUE(matches("GET a.com/{any}20", "GET a.com/a%2020"));
}

TEST(Pattern, TheActionMustBeTheSame) {
  const Operation put{"POST", "a.com", "/", "", "PutItem"}, none{"POST", "a.com", "/", "", ""};
  EXPECT_TRUE(pattern_of("POST a.com/", "PutItem").matches(put));
  EXPECT_FALSE(pattern_of("POST a.com/", "PutItem").matches(none));
  EXPECT_FALSE(pattern_of("POST a.com/").matches(put));
}

TEST(Pattern, TextOfAnOperationMatchesItAlone) {
  for (const char* text : {"GET a.com/x*{y}/%20?q={}&r=*", "PUT http://a.com:81/", "GET a.com/?a"}) {
    const Operation operation = operation_of(text);
    EXPECT_TRUE(pattern_of(pattern_text(operation)).matches(operation)) << pattern_text(operation);
  }
}

TEST(Pattern, TheMostSpecificComesFirst) {
  const std::vector<const char*> order = {
      "GET a.com/b/c",     "GET a.com/b/{date}", "GET a.com/b/{uuid}", "GET a.com/b/{int}-x",
      "GET a.com/b/{int}", "GET a.com/b/{hex}",  "GET a.com/b/{word}", "GET a.com/b/{any}",
      "GET a.com/b/*",     "GET a.com/{word}/c", "GET a.com/*",        "GET {word}.com/b/c",
  };
  for (std::size_t i = 0; i < order.size(); ++i) {
    for (std::size_t j = 0; j < order.size(); ++j) {
      EXPECT_EQ(more_specific(pattern_of(order[i]), pattern_of(order[j])), i < j) << order[i] << " " << order[j];
    }
  }
}

// The same pattern as an expression for RE2, which is slow to make and obviously right.
std::string expression_of(const std::vector<Piece>& pieces, std::string_view not_any) {
  const std::string sign = "(?:[+-]|%2B)", colon = "(?::|%3A)?";
  const std::string zone = "(?:Z|" + sign + "(?:[01][0-9]|2[0-3])" + colon + "[0-5][0-9])?";
  const std::string time =
      "(?:[01][0-9]|2[0-3])" + colon + "[0-5][0-9](?:" + colon + "(?:[0-5][0-9]|60)(?:\\.[0-9]{1,9})?)?" + zone;
  const std::string month = "(?:0[1-9]|1[0-2])", day = "(?:0[1-9]|[12][0-9]|3[01])";
  std::string out;
  for (const Piece& piece : pieces) {
    if (!piece.literal.empty()) {
      std::string literal = re2::RE2::QuoteMeta(piece.literal);
      RE2::GlobalReplace(&literal, R"(\\%2A)", R"((?:\\*|%2A))");
      RE2::GlobalReplace(&literal, R"(\\%7B)", R"((?:\\{|%7B))");
      RE2::GlobalReplace(&literal, R"(\\%7D)", R"((?:\\}|%7D))");
      out += literal;
      continue;
    }
    switch (piece.placeholder) {
      case Class::integer:
        out += "[0-9]+";
        break;
      case Class::uuid:
        out += "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
        break;
      case Class::hex:
        out += "[0-9a-fA-F]{4,}";
        break;
      case Class::date:
        out += "[0-9]{4}(?:" + month + day + "|-" + month + "-" + day + ")(?:T" + time + ")?";
        break;
      case Class::word:
        out += not_any == ".:" ? "[A-Za-z0-9_~-]+" : "[A-Za-z0-9._~-]+";
        break;
      case Class::any:
        out += "(?:[^\\x00- \\x7f-\\xff%" + std::string(not_any) + "]|%[0-9A-Fa-f]{2})+";
        break;
    }
  }
  return out;
}

class SlowPattern {
 public:
  explicit SlowPattern(const Pattern& pattern)
      : pattern_(pattern),
        host_((pattern.plain_http ? "http://" : "") + expression_of(pattern.host, ".:"), latin1()),
        path_(expression_of(pattern.path, "/") + (pattern.open_path ? "(?s:.*)" : ""), latin1()),
        query_(pattern.any_query ? "(?s:.*)" : expression_of(pattern.query, "&"), latin1()) {
    EXPECT_TRUE(host_.ok() && path_.ok() && query_.ok()) << path_.pattern();
  }

  bool matches(const Operation& operation) const {
    return pattern_.method == operation.method && pattern_.action == operation.action &&
           RE2::FullMatch(operation.host, host_) && RE2::FullMatch(operation.path, path_) &&
           RE2::FullMatch(operation.query, query_);
  }

 private:
  static RE2::Options latin1() {
    RE2::Options options;
    options.set_encoding(RE2::Options::EncodingLatin1);
    return options;
  }

  const Pattern& pattern_;
  RE2 host_, path_, query_;
};

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}
  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(engine_); }
  const char* one(const std::vector<const char*>& of) { return of[below(of.size())]; }

 private:
  std::mt19937_64 engine_;
};

const std::vector<const char*> kPlaceholders = {"{int}", "{uuid}", "{hex}", "{date}", "{word}", "{any}"};
const std::vector<const char*> kLiterals = {"a", "b-", "1", "%20", "%2A", "%7B", "-", "20", ".", "x/", "y_", "T"};
const std::vector<const char*> kValues = {"7",
                                          "20240131",
                                          "2024-01-31T10:00Z",
                                          "beef",
                                          "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
                                          "w-d.x",
                                          "%2F",
                                          "%41%20",
                                          "*",
                                          "{",
                                          "/",
                                          "&",
                                          "",
                                          "%2A",
                                          "~"};

// Texts that often match: placeholders become values, and now and then something else happens.
std::string value_for(std::string_view pattern, Dice& dice) {
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '{') {
      out += dice.one(kValues);
      i = pattern.find('}', i);
    } else if (pattern[i] == '*') {
      for (std::size_t n = dice.below(3); n > 0; --n) out += dice.one(kValues);
    } else {
      out += pattern[i];
    }
    if (dice.below(60) == 0) out += dice.one(kValues);
  }
  return out;
}

std::string random_pattern(Dice& dice, std::size_t pieces = 6) {
  std::string text = "GET ";
  if (dice.below(8) == 0) text += "http://";
  text += dice.one({"a.com", "b.com", "{word}.com", "x-{any}.a.com", "{hex}.{int}.b.com", "a.com:81"});
  text += "/";
  bool literal = true;
  for (std::size_t n = dice.below(pieces + 1); n > 0; --n) {
    if (literal && dice.below(2) == 0) {
      text += dice.one(kPlaceholders);
      literal = false;
    } else {
      text += dice.one(kLiterals);
      literal = true;
    }
  }
  if (dice.below(4) == 0) text += "*";
  if (dice.below(3) == 0)
    text += dice.one({"?*", "?k={any}", "?k={word}&l={int}-{int}", "?k", "?k=a{any}b{any}c", "?k=1"});
  return text;
}

TEST(Pattern, AgreesWithRegularExpressions) {
  const std::uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Dice dice(seed);
  std::size_t matched = 0;
  for (int i = 0; i < 1'000; ++i) {
    const std::string text = random_pattern(dice);
    const auto pattern = parse_pattern(text, "");
    if (!pattern) continue;  // as "/." or "//" come about
    EXPECT_EQ(pattern->to_string(), text);
    const SlowPattern slow(*pattern);
    for (int j = 0; j < 8; ++j) {
      const std::string value = value_for(text, dice);
      const Operation operation = operation_of(value);
      const bool slowly = slow.matches(operation);
      ASSERT_EQ(pattern->matches(operation), slowly) << text << " on " << value;
      matched += slowly ? 1 : 0;
    }
  }
  EXPECT_GT(matched, 200U);
}

TEST(Pattern, ManyPlaceholdersOnALongTextTakeNoLongerThanItsLength) {
  std::string text = "GET a.com/";
  for (int i = 0; i < 120; ++i) text += "{any}-";
  const std::string path = "/" + std::string(30'000, '-') + "x";
  EXPECT_FALSE(pattern_of(text + "y").matches({"GET", "a.com", path, "", ""}));
  EXPECT_TRUE(pattern_of(text + "{any}").matches({"GET", "a.com", path, "", ""}));
}

TEST(SymbolIndex, FindsTheMostSpecificOfAllThatMatch) {
  const std::uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Dice dice(seed);
  std::size_t several = 0;
  for (int round = 0; round < 40; ++round) {
    SymbolIndex index;
    std::vector<Pattern> patterns;
    for (int i = 0; i < 40; ++i) {
      const auto pattern = parse_pattern(random_pattern(dice, 3), dice.one({"", "", "Do"}));
      if (!pattern) continue;
      const auto same = [&](const Pattern& p) { return !more_specific(p, *pattern) && !more_specific(*pattern, p); };
      if (std::ranges::none_of(patterns, same)) patterns.push_back(*pattern);
    }
    for (std::uint32_t i = 0; i < patterns.size(); ++i) index.add(patterns[i], i);
    for (int i = 0; i < 120; ++i) {
      const std::string value = value_for(patterns[dice.below(patterns.size())].to_string(), dice);
      Operation operation = operation_of(value);
      if (dice.below(3) == 0) operation.action = "Do";
      std::vector<std::uint32_t> expected;
      for (std::uint32_t p = 0; p < patterns.size(); ++p) {
        if (patterns[p].matches(operation)) expected.push_back(p);
      }
      std::ranges::sort(expected, [&](auto a, auto b) { return more_specific(patterns[a], patterns[b]); });
      ASSERT_EQ(index.find_all(operation), expected) << value;
      ASSERT_EQ(index.find(operation), expected.empty() ? SymbolIndex::kNone : expected[0]) << value;
      several += expected.size() > 1 ? 1 : 0;
    }
  }
  EXPECT_GT(several, 100U);
}

}  // namespace
}  // namespace sallyport::flow
