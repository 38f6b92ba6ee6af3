#include "proxy/http1/syntax.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>

namespace sallyport::http1 {
namespace {

// Many bytes are looked at together: each byte at each place of each length, in memory that ends where the text ends.
template <class Check>
void for_each_text(std::string_view usual, Check check) {
  for (std::size_t size = 1; size <= 40; ++size) {
    const auto text = std::make_unique<char[]>(size);
    for (std::size_t i = 0; i < size; ++i) text[i] = usual[i % usual.size()];
    for (std::size_t place = 0; place < size; ++place) {
      const char before = text[place];
      for (int byte = 0; byte < 256; ++byte) {
        text[place] = static_cast<char>(byte);
        check(std::string_view(text.get(), size));
      }
      text[place] = before;
    }
  }
}

TEST(Syntax, TokensAreWhatTheirBytesAre) {
  EXPECT_FALSE(is_token(""));
  for (std::string_view usual : {"Content-Type0", "!#$%&'*+.^_`|~"}) {
    for_each_text(usual, [](std::string_view text) {
      ASSERT_EQ(is_token(text), std::ranges::all_of(text, is_token_byte)) << text;
    });
  }
}

TEST(Syntax, ValuesAreWhatTheirBytesAre) {
  EXPECT_TRUE(is_value(""));
  for_each_text("a \tz\x80\xff,", [](std::string_view text) {
    ASSERT_EQ(is_value(text), std::ranges::all_of(text, is_value_byte)) << text;
    const auto* const end = std::ranges::find_if_not(text, is_value_byte);
    ASSERT_EQ(find_value_end(text.data(), text.data() + text.size()), text.data() + (end - text.begin())) << text;
  });
}

TEST(Syntax, FieldLinesEndTheNameAtItsFirstOtherByte) {
  for_each_text("X-Name_", [](std::string_view text) {
    const std::string line = std::string(text) + ": v\r\n";
    const char* at = line.data();
    request::Header field;
    std::string_view wrong;
    const auto end = static_cast<std::size_t>(std::ranges::find_if_not(line, is_token_byte) - line.begin());
    const bool good = end > 0 && line[end] == ':' && line.find_first_of("\r\n") == line.size() - 2 &&
                      std::ranges::all_of(line.substr(0, line.size() - 2), is_value_byte);
    ASSERT_EQ(read_field_line(at, line.data() + line.size(), field, wrong) == Parse::complete, good) << line;
    if (good) ASSERT_EQ(field.name, line.substr(0, end));
  });
}

}  // namespace
}  // namespace sallyport::http1
