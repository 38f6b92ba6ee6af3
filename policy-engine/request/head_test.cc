#include "policy-engine/request/head.h"

#include <gtest/gtest.h>

#include <string>

namespace sallyport::request {
namespace {

TEST(NameEquals, IgnoresTheCaseOfLettersOnly) {
  EXPECT_TRUE(name_equals("Content-Type", "content-TYPE"));
  EXPECT_TRUE(name_equals("", ""));
  EXPECT_FALSE(name_equals("Content-Type", "Content-Typ"));
  EXPECT_FALSE(name_equals("x-a", "x-b"));
  // Pairs that differ in bit 0x20 and are no letters.
  EXPECT_FALSE(name_equals("a^", "a~"));
  EXPECT_FALSE(name_equals("a@", "a`"));
  EXPECT_FALSE(name_equals("-", "\r"));
}

TEST(NameEquals, AgreesWithTheDefinitionForEveryPairOfBytes) {
  const auto fold = [](int c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; };
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const char x = static_cast<char>(a);
      const char y = static_cast<char>(b);
      EXPECT_EQ(name_equals({&x, 1}, {&y, 1}), fold(a) == fold(b)) << a << " " << b;
    }
  }
}

TEST(HeaderList, KeepsOrderAndSpellingAndFindsTheFirst) {
  HeaderList headers;
  headers.add("Accept", "a");
  headers.add("X-One", "1");
  headers.add("accept", "b");
  ASSERT_EQ(headers.size(), 3u);
  EXPECT_EQ(headers[0].name, "Accept");
  EXPECT_EQ(headers[2].name, "accept");
  ASSERT_NE(headers.find("ACCEPT"), nullptr);
  EXPECT_EQ(headers.find("ACCEPT")->value, "a");
  EXPECT_EQ(headers.count("accept"), 2u);
  EXPECT_EQ(headers.find("absent"), nullptr);
}

TEST(HeaderList, ErasesEveryFieldOfAName) {
  HeaderList headers;
  headers.add("A", "1");
  headers.add("B", "2");
  headers.add("a", "3");
  headers.erase("A");
  ASSERT_EQ(headers.size(), 1u);
  EXPECT_EQ(headers[0].name, "B");
  headers.erase_at(0);
  EXPECT_TRUE(headers.empty());
}

TEST(HeaderList, OwnedValuesStayWhereTheyAreWhileTheListGrows) {
  HeaderList headers;
  for (int i = 0; i < 100; ++i) headers.add_owned("X", std::to_string(i));                          // short strings
  for (int i = 0; i < 100; ++i) headers.add_owned("Y", std::string(100, 'y') + std::to_string(i));  // long ones
  for (std::size_t i = 0; i < 100; ++i) {
    EXPECT_EQ(headers[i].value, std::to_string(i));
    EXPECT_EQ(headers[100 + i].value, std::string(100, 'y') + std::to_string(i));
  }
}

TEST(HeaderList, ReplacesAValueInItsPlace) {
  const std::string original = "Bearer placeholder";
  HeaderList headers;
  headers.add("A", "1");
  headers.add("Authorization", original);
  headers.replace_value(1, "Bearer real");
  headers.replace_value(1, "Bearer other");
  EXPECT_EQ(headers[1].name, "Authorization");
  EXPECT_EQ(headers[1].value, "Bearer other");
  EXPECT_EQ(original, "Bearer placeholder");
  EXPECT_EQ(headers[0].value, "1");
}

TEST(HeaderList, ClearForgetsEverythingAndTheListIsUsableAgain) {
  HeaderList headers;
  headers.add_owned("A", "secret");
  headers.clear();
  EXPECT_TRUE(headers.empty());
  headers.add("B", "2");
  EXPECT_EQ(headers.size(), 1u);
  EXPECT_EQ(headers.begin()->name, "B");
}

}  // namespace
}  // namespace sallyport::request
