#pragma once
// Which segments of a path stand for one thing among many.

#include <string_view>

namespace sallyport::document {

// True for numbers, UUIDs, hashes, dates and the long mixed strings that services make up as names of things; false for
// what looks as if a person had named it ("v1", "oauth2", "thumbnail-generator"). A guess: drafts are read by people.
bool looks_like_identifier(std::string_view segment);

}  // namespace sallyport::document
