#include "policy-engine/action/json_text.h"

#include <gtest/gtest.h>

#include <string>

#include "base/limits.h"

namespace sallyport::action {
namespace {

// The member as text, "-" where there is none, "!" where it is refused.
std::string member(std::string_view json, std::string_view name) {
  const auto value = parse_json(json);
  if (!value) return "not JSON";
  const auto found = value->member(name);
  if (!found) return "!";
  return *found ? (*found)->text() : "-";
}

TEST(JsonText, MembersAreFoundWhateverStandsAround) {
  EXPECT_EQ(member(R"({"a":"x"})", "a"), "x");
  EXPECT_EQ(member(" {\t\"z\" : [1, {\"a\":\"inner\"}, \"]}\"] ,\n\"a\" : \"x\" } \r\n", "a"), "x");
  EXPECT_EQ(member(R"({"b":{"a":"inner"},"c":-1.5e+3,"d":true,"e":null,"a":"x"})", "a"), "x");
  EXPECT_EQ(member(R"({})", "a"), "-");
  EXPECT_EQ(member(R"(["a"])", "a"), "-");
  EXPECT_EQ(member(R"({"q":"\"a\":","a":"x"})", "a"), "x");
}

TEST(JsonText, EscapesAreDecodedInNamesAndValues) {
  EXPECT_EQ(member(R"({"\u0061":"x"})", "a"), "x");
  EXPECT_EQ(member(R"({"a":"\u00e9\ud83d\ude00\n\/\\\""})", "a"), "\xC3\xA9\xF0\x9F\x98\x80\n/\\\"");
}

TEST(JsonText, ANameThatTwoReadersTakeDifferentlyIsRefused) {
  EXPECT_EQ(member(R"({"a":"x","a":"x"})", "a"), "!");
  EXPECT_EQ(member(R"({"a":"x","\u0061":"y"})", "a"), "!");
  EXPECT_EQ(member(R"({"a":"x","A":"y"})", "a"), "!") << "Go compares without regard to case";
  EXPECT_EQ(member(R"({"A":"y"})", "a"), "!");
  EXPECT_EQ(member(R"({"a\u0000b":"y","a":"x"})", "a"), "!") << "C ends at a NUL";
  EXPECT_EQ(member(R"({"\u017f":"y"})", "s"), "!") << "Go folds the long s";
  EXPECT_EQ(member("{\"\xE2\x84\xAA\":\"y\"}", "k"), "!") << "and the Kelvin sign";
  EXPECT_EQ(member(R"({"b":{"a":"1","a":"2"},"a":"x"})", "a"), "x") << "only the objects on the way count";
}

TEST(JsonText, WhatIsNotJsonIsRefused) {
  for (const std::string_view text : {"",
                                      " ",
                                      "{",
                                      "}",
                                      "[1,]",
                                      "{\"a\":1,}",
                                      "{'a':1}",
                                      "{a:1}",
                                      "[1 2]",
                                      "[1] 2",
                                      "// x\n{}",
                                      "{}/**/",
                                      "\xEF\xBB\xBF{}",
                                      "NaN",
                                      "01",
                                      "1.",
                                      ".5",
                                      "+1",
                                      "1e",
                                      "-",
                                      "tru",
                                      "nullx",
                                      "\"\t\"",
                                      "\"\x80\"",
                                      "\"\xC0\xAF\"",
                                      "\"\xED\xA0\x80\"",
                                      "\"\xF5\x80\x80\x80\"",
                                      "\"\\ud800\"",
                                      "\"\\udc00\"",
                                      "\"\\ud800\\u0041\"",
                                      "\"\\u12g4\"",
                                      "\"\\x41\"",
                                      "\"",
                                      "\"\\",
                                      "\"\\u00",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "[\"\\ud83d\\ude0\"]"}) {
    EXPECT_FALSE(parse_json(text)) << text;
  }
  for (const std::string_view text :
       {"0", "-0", "1e5", "\"\"", "null", "[]", "{}", "[[],{}]", "0.1", "\"\\ud83d\\ude00\""}) {
    EXPECT_TRUE(parse_json(text)) << text;
  }
}

TEST(JsonText, DepthIsBounded) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(parse_json(nested(limits::kActionJsonDepthMax)));
  EXPECT_FALSE(parse_json(nested(limits::kActionJsonDepthMax + 2)));
  EXPECT_FALSE(parse_json(std::string(1 << 20, '[')));
}

TEST(JsonText, ElementsAreFoundByTheirIndex) {
  const auto value = parse_json(R"([ "a" , ["x"], "c" ])");
  ASSERT_TRUE(value);
  EXPECT_EQ(value->element(0)->text(), "a");
  EXPECT_EQ(value->element(1)->kind(), JsonValue::Kind::array);
  EXPECT_EQ(value->element(2)->text(), "c");
  EXPECT_FALSE(value->element(3));
}

}  // namespace
}  // namespace sallyport::action
