// API actions: a request has one, none, or is refused; and what was found does not change when the request is written
// in another way that means the same to every server.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "policy-engine/action/action.h"
#include "policy-engine/action/form_fields.h"
#include "policy-engine/action/json_text.h"
#include "tests/fuzz/require.h"

namespace sallyport::action {
namespace {

using fuzz::require;

constexpr std::string_view kHex = "0123456789ABCDEF";

Source source_of(unsigned way) {
  constexpr std::array<Protocol, 8> kProtocols = {Protocol::aws_json, Protocol::aws_query, Protocol::graphql,
                                                  Protocol::json_rpc, Protocol::soap,      Protocol::header,
                                                  Protocol::form,     Protocol::json};
  Source source{kProtocols[way % kProtocols.size()], {}, {}};
  if (source.protocol == Protocol::header) source.name = "X-Op";
  if (source.protocol == Protocol::form) source.name = "op";
  if (source.protocol == Protocol::json) source.pointer = {"a", "0", "op"};
  return source;
}

// "?query\nName: value\n…\n\nbody".
struct Input {
  request::HeaderList headers;
  std::string_view query, body;
};

void split(std::string_view text, Input& input) {
  const std::size_t head = text.find("\n\n");
  input.body = head == std::string_view::npos ? std::string_view() : text.substr(head + 2);
  std::string_view lines = text.substr(0, head);
  while (!lines.empty()) {
    const std::string_view line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(line.size() + 1, lines.size()));
    const std::size_t colon = line.find(": ");
    if (line.starts_with('?')) {
      input.query = line.substr(1);
    } else if (colon != std::string_view::npos) {
      input.headers.add(line.substr(0, colon), line.substr(colon + 2));
    }
  }
}

// Every byte of names and values as an escape.
std::string escaped(std::string_view form) {
  std::string out;
  for (const char c : form) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '&' || c == ';' || c == '=' || c == '%' || c == '+') {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

void check_form(std::string_view text) {
  FormField plain, other;
  const bool found = find_field(text, "op", plain).has_value();
  if (!found || text.find('%') != std::string_view::npos) return;
  require(
      find_field(escaped(text), "op", other).has_value() && other.count == plain.count && other.value == plain.value,
      "escapes change nothing");
}

// The string that a member is; empty where there is none.
std::string text_of(const std::optional<JsonValue>& value) { return value ? value->text() : std::string(); }

void check_json(std::string_view text) {
  const auto value = parse_json(text);
  const std::string padded = " \r\n[\t" + std::string(text) + "\n,\"x\"] ";
  const auto inside = parse_json(padded);
  const auto opening = std::ranges::count_if(text, [](char c) { return c == '[' || c == '{'; });
  const bool may_be_too_deep = static_cast<std::size_t>(opening) >= limits::kActionJsonDepthMax;
  require(!value || inside || may_be_too_deep, "what is JSON is JSON inside a list");
  if (!value || !inside) return;
  require(text_of(inside->element(1)) == "x", "an element ends where it ends");
  const std::optional<JsonValue> element = inside->element(0);
  require(element.has_value(), "an element is there");
  if (!element) return;
  require(element->kind() == value->kind() && element->text() == value->text(), "a list changes nothing");
  const auto member = value->member("op"), again = element->member("op");
  require(member.has_value() == again.has_value(), "a list changes nothing for a member");
  if (!member || !again) return;
  require(member->has_value() == again->has_value() && text_of(*member) == text_of(*again), "nor for its text");
}

void check(std::string_view text) {
  if (text.empty()) return;
  const Source source = source_of(static_cast<unsigned char>(text.front()));
  Input input;
  split(text.substr(1), input);
  const auto found = find_action(source, {input.headers, input.query, input.body});
  require(!found || found->empty() || is_action(*found), "an action is one that a policy could name");
  check_form(input.body);
  check_json(input.body);
}

}  // namespace
}  // namespace sallyport::action

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sallyport::action::check({reinterpret_cast<const char*>(data), size});
  return 0;
}
