#include "policy-engine/flow/yaml_scalar.h"

#include <algorithm>

#include "policy-engine/document/yaml_tree.h"

namespace sallyport::flow {

std::string scalar(std::string_view text, bool in_list) {
  constexpr std::string_view kFree = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-";
  const bool null = text == "null" || text == "Null" || text == "NULL" || text == "~";
  bool plain = !text.empty() && !null && document::plain_type(text) == document::PlainType::string;
  plain = plain && kFree.find(text.front()) < kFree.size() - 4 && text.back() != ' ' && text.back() != ':';
  plain = plain && text.find(": ") == std::string_view::npos && text.find(" #") == std::string_view::npos;
  plain = plain && std::ranges::all_of(text, [&](char c) {
            return in_list ? kFree.find(c) != std::string_view::npos : c >= ' ' && c <= '~';
          });
  if (plain) return std::string(text);
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

}  // namespace sallyport::flow
