#pragma once
// Text against the pieces of a pattern: what pattern.cc and the index of a graph's symbols share.

#include <array>
#include <span>
#include <string_view>

#include "base/limits.h"
#include "policy-engine/flow/pattern.h"

namespace sallyport::flow {

enum class Part : std::uint8_t { host, path, query };

// What no placeholder of this part stands for, besides the end: the border of its segments.
constexpr char separator_of(Part part) {
  switch (part) {
    case Part::host:
      return '.';
    case Part::path:
      return '/';
    case Part::query:
      return '&';
  }
  return '/';
}

// Whether the text is as patterns write it: without "{", "}" and "*".
bool is_plain(std::string_view text);

// The text as patterns write it: with "{", "}" and "*" as escapes. No text that is plain is copied.
class PlainText {
 public:
  explicit PlainText(std::string_view text);
  PlainText(const PlainText&) = delete;
  PlainText& operator=(const PlainText&) = delete;

  // False: the text is longer than any canonical target, and matches nothing.
  bool fits() const { return fits_; }
  std::string_view view() const { return view_; }

  static constexpr std::size_t kBytesMax = 3 * limits::kRequestTargetBytesMax;

 private:
  void copy(std::string_view text);

  std::string_view view_;
  bool fits_ = true;
  std::array<char, kBytesMax> buffer_;  // not filled before it is needed: most texts never are copied
};

// Whether `text`, which is plain, is what `pieces` stand for as a whole; with `open`, whether it begins so. Its time is
// that of the text's length times the number of pieces, whatever both are; it allocates nothing.
bool match_pieces(std::span<const Piece> pieces, std::string_view text, Part part, bool open);

// How two lists of pieces are ordered by more_specific(): below 0 where `a` comes first, 0 where they are alike.
int compare_pieces(std::span<const Piece> a, bool a_open, std::span<const Piece> b, bool b_open, Part part);

}  // namespace sallyport::flow
