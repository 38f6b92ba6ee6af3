#include "proxy/http1/syntax.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace sallyport::http1 {
namespace {

// Marks with 0x80 each byte of `word` below 0x20 or equal to 0x7F. Exact up to the lowest mark; bytes above it may be
// marked wrongly, as borrows run upwards.
std::uint64_t mark_controls(std::uint64_t word) {
  constexpr std::uint64_t kOnes = 0x0101010101010101;
  const std::uint64_t below = (word - kOnes * 0x20) & ~word;
  const std::uint64_t flipped = word ^ (kOnes * 0x7f);
  const std::uint64_t equal = (flipped - kOnes) & ~flipped;
  return (below | equal) & (kOnes * 0x80);
}

#ifdef __SSE2__
// One bit for each byte that may not stand in a value.
unsigned mark_controls(__m128i bytes) {
  const __m128i below = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
  const __m128i tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t'));
  const __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
  return static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, below), del)));
}

// One bit for each letter, digit and hyphen: nearly all that names of fields are made of.
unsigned mark_usual(__m128i bytes) {
  const auto within = [](__m128i values, char first, char last) {
    return _mm_and_si128(_mm_cmpgt_epi8(values, _mm_set1_epi8(static_cast<char>(first - 1))),
                         _mm_cmplt_epi8(values, _mm_set1_epi8(static_cast<char>(last + 1))));
  };
  const __m128i letter = within(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 'z');
  const __m128i hyphen = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-'));
  return static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(letter, hyphen), within(bytes, '0', '9'))));
}

__m128i load16(const char* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); }

// All bytes of a text of 1 to 15, some of them twice: what holds for each of these holds for the text.
__m128i load_short(std::string_view text) {
  const char* const at = text.data();
  const std::size_t size = text.size();
  if (size >= 8) {
    return _mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)),
                              _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at + size - 8)));
  }
  if (size >= 4) {
    std::array<int, 2> ends;
    std::memcpy(&ends[0], at, 4);
    std::memcpy(&ends[1], at + size - 4, 4);
    return _mm_set_epi32(ends[1], ends[0], ends[1], ends[0]);
  }
  const char first = at[0];
  return _mm_set_epi8(at[size / 2], at[size - 1], first, first, first, first, first, first, first, first, first, first,
                      first, first, first, first);
}

// Whether `holds` for all bytes of the text, asked of sixteen at a time; the last may overlap those before.
template <class Holds>
bool holds_for_all(std::string_view text, Holds holds) {
  if (text.size() < 16) return text.empty() || holds(load_short(text));
  const char* const last = text.data() + text.size() - 16;
  for (const char* at = text.data(); at < last; at += 16) {
    if (!holds(load16(at))) return false;
  }
  return holds(load16(last));
}
#endif

// The first byte of [at, end) that may not stand in a token, or `end`.
const char* find_token_end(const char* at, const char* end) {
#ifdef __SSE2__
  while (end - at >= 16) {
    const unsigned others = ~mark_usual(load16(at)) & 0xffffU;
    if (others == 0) {
      at += 16;
      continue;
    }
    at += std::countr_zero(others);
    if (!is_token_byte(*at)) return at;
    ++at;
  }
#endif
  while (at != end && is_token_byte(*at)) ++at;
  return at;
}

std::string_view name_what_is_wrong(const char* begin, const char* at) {
  if (at == begin && is_space(*at)) return "a field line begins with whitespace (a folded line is not allowed)";
  if (at == begin && *at == ':') return "a field has no name";
  if (is_space(*at)) return "whitespace stands before the colon of a field";
  if (*at == '\r' || *at == '\n') return "a field line has no colon";
  return "a field name has a byte that is not allowed";
}

}  // namespace

bool is_token(std::string_view text) {
  if (text.empty()) return false;
#ifdef __SSE2__
  if (holds_for_all(text, [](__m128i bytes) { return mark_usual(bytes) == 0xffffU; })) return true;
#endif
  return std::ranges::all_of(text, is_token_byte);
}

bool is_value(std::string_view text) {
#ifdef __SSE2__
  return holds_for_all(text, [](__m128i bytes) { return mark_controls(bytes) == 0; });
#else
  return std::ranges::all_of(text, is_value_byte);
#endif
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

const char* find_value_end(const char* at, const char* end) {
#ifdef __SSE2__
  while (end - at >= 16) {
    const unsigned marks = mark_controls(load16(at));
    if (marks != 0) return at + std::countr_zero(marks);
    at += 16;
  }
#endif
  while (end - at >= 8) {
    std::uint64_t word;
    std::memcpy(&word, at, sizeof word);
    const std::uint64_t marks = mark_controls(word);
    if (marks == 0) {
      at += 8;
      continue;
    }
    if constexpr (std::endian::native == std::endian::little) {
      at += std::countr_zero(marks) / 8;
    } else {
      while (is_value_byte(*at) && *at != '\t') ++at;
    }
    if (*at != '\t') return at;
    ++at;
  }
  while (at != end && is_value_byte(*at)) ++at;
  return at;
}

Parse read_literal(const char*& at, const char* end, std::string_view literal) {
  const std::size_t size = std::min(literal.size(), static_cast<std::size_t>(end - at));
  if (std::string_view(at, size) != literal.substr(0, size)) return Parse::error;
  if (size < literal.size()) return Parse::incomplete;
  at += size;
  return Parse::complete;
}

Parse read_field_line(const char*& at, const char* end, request::Header& field, std::string_view& wrong) {
  const char* p = find_token_end(at, end);
  if (p == end) return Parse::incomplete;
  if (*p != ':' || p == at) {
    wrong = name_what_is_wrong(at, p);
    return Parse::error;
  }
  field.name = {at, p};
  ++p;
  while (p != end && is_space(*p)) ++p;
  const char* value_end = find_value_end(p, end);
  const char* const line_end = value_end;
  if (line_end == end) return Parse::incomplete;
  if (*line_end != '\r') {
    wrong = *line_end == '\n' ? "a line ends with LF alone" : "a field value has a control character";
    return Parse::error;
  }
  if (end - line_end < 2) return Parse::incomplete;
  if (line_end[1] != '\n') {
    wrong = "a field value has a CR that does not end its line";
    return Parse::error;
  }
  while (value_end != p && is_space(value_end[-1])) --value_end;
  field.value = {p, value_end};
  at = line_end + 2;
  return Parse::complete;
}

}  // namespace sallyport::http1
