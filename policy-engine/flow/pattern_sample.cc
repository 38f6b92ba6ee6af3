#include "policy-engine/flow/pattern_sample.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "policy-engine/flow/pattern_match.h"

namespace sallyport::flow {

namespace {

std::string_view value_of(Class placeholder, Part part, bool second) {
  switch (placeholder) {
    case Class::integer:
      return second ? "1234567890123" : "7";
    case Class::uuid:
      return second ? "f81d4fae-7dec-11d0-a765-00a0c91e6bf6" : "00000000-0000-4000-8000-000000000000";
    case Class::hex:
      return second ? "cafe00ffcafe00ff" : "beef";
    case Class::date:
      return second && part != Part::host ? "20240131T101500Z" : "2024-01-31";
    case Class::word:
      if (part == Part::host) return second ? "q-r_s9" : "w";
      return second ? "Q-r_s.t~9" : "w";
    case Class::any:
      if (part == Part::host) return second ? "b_9" : "w";
      return second ? "x%20:y(z)" : "a@b";
  }
  return {};
}

std::string sample_of(const std::vector<Piece>& pieces, Part part, bool second) {
  std::string out;
  for (const Piece& piece : pieces) {
    out += piece.literal.empty() ? value_of(piece.placeholder, part, second) : std::string_view(piece.literal);
  }
  return out;
}

}  // namespace

Sample::Sample(const Pattern& pattern, bool second) : pattern_(pattern) {
  if (pattern.plain_http) host_ = "http://";
  host_ += sample_of(pattern.host, Part::host, second);
  path_ = sample_of(pattern.path, Part::path, second);
  if (pattern.open_path && second) path_ += "zz/%21@/9";
  query_ = pattern.any_query ? (second ? "zz=1&y=%26" : "") : sample_of(pattern.query, Part::query, second);
}

bool is_anybodys(const Pattern& pattern) {
  int labels = 0;
  for (auto piece = pattern.host.rbegin(); piece != pattern.host.rend(); ++piece) {
    if (piece->literal.empty()) return labels < 2;
    labels += static_cast<int>(std::ranges::count(piece->literal, '.'));
    if (labels >= 2) return false;
  }
  return false;
}

}  // namespace sallyport::flow
