#include "policy-engine/flow/pattern_match.h"

#include <algorithm>
#include <cstring>

namespace sallyport::flow {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '~' ||
         c == '-';
}

// How many bytes at `at` are one unit of `wanted`: 3 for an escape, which only {any} takes; 0 where it does not go on.
std::size_t unit_at(std::string_view text, std::size_t at, Class wanted, Part part) {
  const char c = text[at];
  if (part == Part::host && (c == '.' || c == ':')) return 0;
  switch (wanted) {
    case Class::integer:
      return is_digit(c) ? 1 : 0;
    case Class::hex:
      return is_hex(c) ? 1 : 0;
    case Class::word:
      return is_word(c) ? 1 : 0;
    case Class::any:
      // Bytes that no canonical target has match nothing: whoever made the operation has not looked at it.
      if (c <= ' ' || c > '~' || c == separator_of(part)) return 0;
      if (c != '%') return 1;
      return at + 2 < text.size() && is_hex(text[at + 1]) && is_hex(text[at + 2]) ? 3 : 0;
    case Class::uuid:
    case Class::date:
      break;
  }
  return 0;
}

std::size_t units_min(Class wanted) { return wanted == Class::hex ? 4 : 1; }

bool uuid_at(std::string_view text, std::size_t at) {
  constexpr std::string_view kForm = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  if (text.size() - at < kForm.size()) return false;
  for (std::size_t i = 0; i < kForm.size(); ++i) {
    const char c = text[at + i];
    if (kForm[i] == '-' ? c != '-' : !is_hex(c)) return false;
  }
  return true;
}

// Two digits from `low` to `high`, after which `at` stands behind them.
bool take_number(std::string_view text, std::size_t& at, int low, int high) {
  if (text.size() - at < 2 || !is_digit(text[at]) || !is_digit(text[at + 1])) return false;
  const int value = (text[at] - '0') * 10 + (text[at + 1] - '0');
  if (value < low || value > high) return false;
  at += 2;
  return true;
}

bool take(std::string_view text, std::size_t& at, std::string_view wanted) {
  if (!text.substr(at).starts_with(wanted)) return false;
  at += wanted.size();
  return true;
}

void take_colon(std::string_view text, std::size_t& at) {
  if (!take(text, at, ":")) take(text, at, "%3A");
}

// Calls `end` behind a time's zone, and without one.
template <class End>
void zone_ends(std::string_view text, std::size_t at, End& end) {
  end(at);
  if (std::size_t behind = at; take(text, behind, "Z")) end(behind);
  std::size_t behind = at;
  if (!take(text, behind, "+") && !take(text, behind, "-") && !take(text, behind, "%2B")) return;
  if (!take_number(text, behind, 0, 23)) return;
  take_colon(text, behind);
  if (take_number(text, behind, 0, 59)) end(behind);
}

template <class End>
void time_ends(std::string_view text, std::size_t at, End& end) {
  if (!take_number(text, at, 0, 23)) return;
  take_colon(text, at);
  if (!take_number(text, at, 0, 59)) return;
  zone_ends(text, at, end);
  take_colon(text, at);
  if (!take_number(text, at, 0, 60)) return;
  zone_ends(text, at, end);
  if (!take(text, at, ".")) return;
  for (int digits = 0; digits < 9 && at < text.size() && is_digit(text[at]); ++digits) zone_ends(text, ++at, end);
}

// Calls `end` for each place where a date that begins at `at` may end (RFC 3339, and ISO 8601 without separators).
template <class End>
void date_ends(std::string_view text, std::size_t at, End& end) {
  if (text.size() - at < 8 || !std::ranges::all_of(text.substr(at, 4), is_digit)) return;
  at += 4;
  const bool dashes = take(text, at, "-");
  if (!take_number(text, at, 1, 12)) return;
  if (dashes && !take(text, at, "-")) return;
  if (!take_number(text, at, 1, 31)) return;
  end(at);
  if (take(text, at, "T")) time_ends(text, at, end);
}

bool whole_placeholder(std::string_view text, Class wanted, Part part) {
  if (wanted == Class::uuid) return text.size() == 36 && uuid_at(text, 0);
  if (wanted == Class::date) {
    bool found = false;
    auto end = [&](std::size_t at) { found |= at == text.size(); };
    date_ends(text, 0, end);
    return found;
  }
  std::size_t units = 0;
  for (std::size_t at = 0; at < text.size(); ++units) {
    const std::size_t size = unit_at(text, at, wanted, part);
    if (size == 0) return false;
    at += size;
  }
  return units >= units_min(wanted);
}

// The positions of a text up to which some beginning of the pieces matches.
class Reach {
 public:
  explicit Reach(std::size_t size) : words_(size / 64 + 1) { clear(); }

  void clear() { std::memset(bits_.data(), 0, words_ * sizeof bits_[0]); }
  void set(std::size_t at) { bits_[at / 64] |= std::uint64_t{1} << (at % 64); }
  bool has(std::size_t at) const { return (bits_[at / 64] >> (at % 64) & 1) != 0; }
  bool none() const {
    return std::ranges::all_of(std::span(bits_).first(words_), [](std::uint64_t word) { return word == 0; });
  }

 private:
  std::size_t words_;
  std::array<std::uint64_t, PlainText::kBytesMax / 64 + 1> bits_;
};

// From `from` over one placeholder made of units. A run of units that began earlier holds every run that began within
// it, so only the first beginning of each run has to be known; a beginning within an escape is none.
void reach_units(std::string_view text, Class wanted, Part part, const Reach& from, Reach& to) {
  const std::size_t least = units_min(wanted);
  std::size_t units = 0;  // since the run began; meaningless outside of one
  bool running = false;
  for (std::size_t at = 0; at < text.size();) {
    if (!running && from.has(at)) {
      running = true;
      units = 0;
    }
    const std::size_t size = unit_at(text, at, wanted, part);
    if (size == 0) {
      running = false;
      ++at;
      continue;
    }
    at += size;
    if (running && ++units >= least) to.set(at);
  }
}

void reach_piece(std::string_view text, const Piece& piece, Part part, const Reach& from, Reach& to) {
  if (piece.literal.empty() && piece.placeholder != Class::uuid && piece.placeholder != Class::date) {
    return reach_units(text, piece.placeholder, part, from, to);
  }
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (!from.has(at)) continue;
    if (!piece.literal.empty()) {
      if (text.substr(at).starts_with(piece.literal)) to.set(at + piece.literal.size());
    } else if (piece.placeholder == Class::uuid) {
      if (uuid_at(text, at)) to.set(at + 36);
    } else {
      auto end = [&](std::size_t behind) { to.set(behind); };
      date_ends(text, at, end);
    }
  }
}

bool match_slowly(std::span<const Piece> pieces, std::string_view text, Part part, bool open) {
  if (text.size() > PlainText::kBytesMax) return false;
  Reach one(text.size()), other(text.size());
  Reach *from = &one, *to = &other;
  from->set(0);
  for (const Piece& piece : pieces) {
    to->clear();
    reach_piece(text, piece, part, *from, *to);
    std::swap(from, to);
  }
  return open ? !from->none() : from->has(text.size());
}

// A byte of a literal, a placeholder, or what comes after the last of them.
struct Unit {
  int rank = 0;
  unsigned char byte = 0;
};

class Units {
 public:
  Units(std::span<const Piece> pieces, bool open, Part part) : pieces_(pieces), open_(open), part_(part) {}

  Unit take() {
    if (pieces_.empty()) return open_ ? Unit{kOpen, 0} : Unit{kEnd, 0};
    const Piece& piece = pieces_.front();
    if (piece.literal.empty()) {
      pieces_ = pieces_.subspan(1);
      return {rank_of(piece.placeholder), 0};
    }
    const char c = piece.literal[at_++];
    if (at_ == piece.literal.size()) {
      at_ = 0;
      pieces_ = pieces_.subspan(1);
    }
    return {c == separator_of(part_) ? kEnd : 0, static_cast<unsigned char>(c)};
  }
  bool done() const { return pieces_.empty(); }

 private:
  static constexpr int kEnd = 7, kOpen = 8;  // the border of a segment is the end of what stands before it

  static int rank_of(Class placeholder) {
    switch (placeholder) {
      case Class::date:
        return 1;
      case Class::uuid:
        return 2;
      case Class::integer:
        return 3;
      case Class::hex:
        return 4;
      case Class::word:
        return 5;
      case Class::any:
        return 6;
    }
    return 6;
  }

  std::span<const Piece> pieces_;
  std::size_t at_ = 0;  // in the literal of the first
  bool open_;
  Part part_;
};

}  // namespace

bool is_plain(std::string_view text) {
  // To the end in any case: without a branch for each byte, compilers look at many at once.
  bool special = false;
  for (const char c : text) special |= c == '{' || c == '}' || c == '*';
  return !special;
}

PlainText::PlainText(std::string_view text) : view_(text) {
  if (!is_plain(text)) copy(text);
}

void PlainText::copy(std::string_view text) {
  fits_ = text.size() <= limits::kRequestTargetBytesMax;
  if (!fits_) return;
  std::size_t size = 0;
  for (const char c : text) {
    if (c != '{' && c != '}' && c != '*') {
      buffer_[size++] = c;
      continue;
    }
    const std::string_view escape = c == '*' ? "%2A" : c == '{' ? "%7B" : "%7D";
    for (const char byte : escape) buffer_[size++] = byte;
  }
  view_ = std::string_view(buffer_.data(), size);
}

bool match_pieces(std::span<const Piece> pieces, std::string_view text, Part part, bool open) {
  if (!pieces.empty() && !pieces.front().literal.empty()) {
    if (!text.starts_with(pieces.front().literal)) return false;
    text.remove_prefix(pieces.front().literal.size());
    pieces = pieces.subspan(1);
  }
  if (pieces.empty()) return open || text.empty();
  if (open) return match_slowly(pieces, text, part, true);
  if (!pieces.back().literal.empty()) {
    if (!text.ends_with(pieces.back().literal)) return false;
    text.remove_suffix(pieces.back().literal.size());
    pieces = pieces.first(pieces.size() - 1);
  }
  if (pieces.size() == 1) return whole_placeholder(text, pieces.front().placeholder, part);
  return match_slowly(pieces, text, part, false);
}

int compare_pieces(std::span<const Piece> a, bool a_open, std::span<const Piece> b, bool b_open, Part part) {
  Units left(a, a_open, part), right(b, b_open, part);
  while (true) {
    const bool left_done = left.done(), right_done = right.done();
    const Unit l = left.take(), r = right.take();
    if (l.rank != r.rank) return l.rank - r.rank;
    if (l.byte != r.byte) return l.byte - r.byte;
    if (left_done || right_done) return 0;
  }
}

}  // namespace sallyport::flow
