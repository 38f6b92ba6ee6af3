#include "policy-engine/document/yaml_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "base/limits.h"

namespace sallyport::document {
namespace {

using testing::HasSubstr;

std::string error_of(std::string_view text) {
  Diagnostics diagnostics("p.yaml");
  const auto tree = parse_yaml(text, diagnostics);
  const auto found = diagnostics.take();
  EXPECT_EQ(tree.has_value(), found.empty()) << text.substr(0, 100);
  EXPECT_LE(found.size(), 1U);
  return found.empty() ? "" : found[0].to_string();
}

TEST(YamlTree, KnowsThePlaceOfEveryNode) {
  Diagnostics diagnostics("p.yaml");
  const auto tree = parse_yaml("# comment\na: 1\nb:\n  - {c: 'd e'}\n", diagnostics);
  ASSERT_TRUE(tree.has_value());
  ASSERT_EQ(tree->kind, YamlNode::Kind::map);
  ASSERT_EQ(tree->keys.size(), 2U);
  EXPECT_EQ(tree->keys[0].place, (Place{2, 1}));
  EXPECT_EQ(tree->items[0].place, (Place{2, 4}));
  EXPECT_TRUE(tree->items[0].plain);
  const YamlNode& element = tree->items[1].items.at(0);
  EXPECT_EQ(element.place, (Place{4, 5}));
  EXPECT_EQ(element.items.at(0).place, (Place{4, 9}));
  EXPECT_EQ(element.items.at(0).text, "d e");
  EXPECT_FALSE(element.items.at(0).plain);
}

TEST(YamlTree, RefusesWhatOnlySomeReadersUnderstandAlike) {
  EXPECT_THAT(error_of("a: &x 1\n"), HasSubstr("p.yaml:1:4: error: anchors are not supported"));
  EXPECT_THAT(error_of("a: &x [1]\nb: *x\n"), HasSubstr("anchors are not supported"));
  EXPECT_THAT(error_of("a: *x\n"), HasSubstr("p.yaml:1:4: error: this is not YAML"));
  EXPECT_THAT(error_of("a: !!int 1\n"), HasSubstr("tags are not supported"));
  EXPECT_THAT(error_of("a: !secret {b: c}\n"), HasSubstr("tags are not supported"));
  EXPECT_THAT(error_of("? [a]\n: b\n"), HasSubstr("a key must be a word"));
  EXPECT_THAT(error_of("~: b\n"), HasSubstr("a key must be a word"));
}

TEST(YamlTree, RefusesASecondDocument) {
  EXPECT_THAT(error_of("a: 1\n---\nb: 1\n"), HasSubstr("a second YAML document starts here"));
  EXPECT_EQ(error_of("---\na: 1\n...\n"), "");
}

TEST(YamlTree, ABillionLaughsEndAtTheFirstAnchor) {
  std::string bomb = "a0: &a0 [x, x]\n";
  for (int i = 1; i < 64; ++i) {
    const std::string last = std::to_string(i - 1), now = std::to_string(i);
    bomb += "a" + now + ": &a" + now + " [*a" + last + ", *a" + last + "]\n";
  }
  EXPECT_THAT(error_of(bomb), HasSubstr("p.yaml:1:5: error: anchors are not supported"));
}

TEST(YamlTree, RefusesBytesThatYamlReadersTakeDifferently) {
  EXPECT_EQ(error_of("a: b\nc: \xff\n"), "p.yaml:2:4: error: the file is not UTF-8 (hint: save it as UTF-8)");
  EXPECT_THAT(error_of("a: \xc0\xaf"), HasSubstr("not UTF-8"));          // overlong
  EXPECT_THAT(error_of("a: \xed\xa0\x80"), HasSubstr("not UTF-8"));      // a surrogate
  EXPECT_THAT(error_of("a: \xf4\x90\x80\x80"), HasSubstr("not UTF-8"));  // above U+10FFFF
  EXPECT_THAT(error_of("a: \xe2\x82"), HasSubstr("not UTF-8"));          // cut off
  EXPECT_THAT(error_of(std::string_view("a: b\0c", 6)), HasSubstr("p.yaml:1:5: error: a control character"));
  // yaml-cpp would end the file here without a word.
  EXPECT_THAT(error_of("a: b\n\x04\nc: d\n"), HasSubstr("p.yaml:2:1: error: a control character"));
  EXPECT_THAT(error_of("a: b\rc: d\n"), HasSubstr("control character"));
  EXPECT_EQ(error_of("a: b\r\nc: \xc3\xa4\r\n"), "");
}

TEST(YamlTree, RefusesTooMuch) {
  EXPECT_THAT(error_of(std::string(limits::kPolicyBytesMax + 1, ' ')), HasSubstr("larger than 1048576 bytes"));
  std::string deep;
  for (std::size_t i = 0; i <= limits::kPolicyDepthMax; ++i) deep += "[";
  EXPECT_THAT(error_of(deep + std::string(deep.size(), ']')), HasSubstr("nested deeper than 32"));
  std::string wide = "[";
  for (std::size_t i = 0; i < limits::kPolicyNodesMax; ++i) wide += "a,";
  EXPECT_THAT(error_of(wide + "]"), HasSubstr("more than 262144 values"));
}

TEST(YamlTree, SaysWhatAnEmptyFileLacks) {
  EXPECT_THAT(error_of(""), HasSubstr("p.yaml: error: the file is empty"));
  EXPECT_THAT(error_of("# only a comment\n"), HasSubstr("the file is empty"));
}

TEST(YamlTree, WhatTheLibraryRepeatsOfTheFileIsPrintable) {
  EXPECT_THAT(error_of("\"\\"), HasSubstr("unknown escape character: \\x04"));
}

TEST(YamlTree, HelpsWithTheUsualSlips) {
  EXPECT_THAT(error_of("host: *.example.com\n"), HasSubstr("needs quotes"));
  EXPECT_THAT(error_of("a:\n\tb: c\n"), HasSubstr("indent with spaces"));
}

// Hostile shapes at full size: each must end in an error or a tree, in time that a reload can bear.
TEST(YamlTree, EndsSoonOnHostileShapes) {
  for (const std::string_view unit :
       {"[", "{", "- ",  "? ", "a: ",   "[a,",  "{a: ", "'",  "\"", "\\", "&",    "*",
        "!", "%", "|\n", "#",  "---\n", "a:\n", "\n ",  "{}", "[]", ",",  "<<: ", "\xef\xbb\xbf"}) {
    std::string text;
    while (text.size() + unit.size() <= 64 * 1024) text += unit;
    const auto start = std::chrono::steady_clock::now();
    Diagnostics diagnostics("p.yaml");
    const bool parsed = parse_yaml(text, diagnostics).has_value();
    EXPECT_EQ(parsed, !diagnostics.has_errors()) << unit;
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
    EXPECT_LT(took.count(), 5000) << unit;
  }
}

TEST(PlainType, TakesWhatAnyReaderTakesForABooleanOrANumber) {
  for (const std::string_view text : {"true", "False", "YES", "no", "On", "off", "y", "N"}) {
    EXPECT_EQ(plain_type(text), PlainType::boolean) << text;
  }
  for (const std::string_view text : {"0", "443", "-1", "+2", "1.5", "1.", ".5", "1e3", "1.e5", "0x1f", "0o17", "1_000",
                                      "1:30", ".inf", "-.INF", ".nan", "12:30:45.5"}) {
    EXPECT_EQ(plain_type(text), PlainType::number) << text;
  }
  for (const std::string_view text : {"", "yess", "nothing", "1.2.3.4", "10.0.0.0/8", "a1", "1a", ".", "e3", "0x", "-",
                                      "::1", "GET", "/1", "1e", "0xg"}) {
    EXPECT_EQ(plain_type(text), text == "0x" ? PlainType::number : PlainType::string) << text;
  }
}

}  // namespace
}  // namespace sallyport::document
