#pragma once
// Finds the word that was probably meant.

#include <span>
#include <string>
#include <string_view>

namespace sallyport::document {

// The candidate nearest to `word`, without regard to case, '_' and '-', if it is near enough to be a slip of the hand:
// one edit for each three letters, at least one (an edit inserts, deletes, replaces or swaps neighbours). Empty if none
// is.
std::string_view did_you_mean(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace sallyport::document
