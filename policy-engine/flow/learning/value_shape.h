#pragma once
// What the form of a path segment, a query value or a host label says: which parts of it stand for one thing of many.

#include <string>
#include <string_view>
#include <vector>

namespace sallyport::flow::learning {

struct Shape {
  std::string text;       // in the language of pattern.h: "part-{int}", "{uuid}.jpg", or the value itself
  bool variable = false;  // there is a placeholder in it
  bool strong = false;    // one that nobody would choose as a name: a UUID, a date, a long hash, a long number
};

// Of one value alone. Two values with the same text may be two of many. "v1" and "s3" are names.
Shape shape_of(std::string_view value);

// `text` as a literal in a pattern.
std::string escaped(std::string_view text);

// What values that have no form in common become: what they begin and end with, cut at a separator, around "{word}", or
// "{any}" where one has other bytes than a word.
std::string joined_text(const std::vector<std::string_view>& values);

// The part of a value up to its first separator and with it; empty if there is none. Values are joined with those that
// begin alike first: the longest common prefix of the paper, at separators.
std::string_view stem_of(std::string_view value);

// Whether it is a number or a hash of eight digits or more.
bool is_long_identifier(std::string_view text);

// Whether no person would choose it as the label of a host: digits among letters, or no vowel.
bool looks_random(std::string_view text);

}  // namespace sallyport::flow::learning
