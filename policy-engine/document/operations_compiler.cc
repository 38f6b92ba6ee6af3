#include "policy-engine/document/operations_compiler.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/names.h"
#include "policy-engine/request/head.h"

namespace sallyport::document {
namespace {

namespace api = sallyport::policy::v1alpha1;

using action::Source;

action::Protocol protocol_of(api::OperationsPreset preset) {
  switch (preset) {
    case api::OPERATIONS_PRESET_AWS_JSON:
      return action::Protocol::aws_json;
    case api::OPERATIONS_PRESET_AWS_QUERY:
      return action::Protocol::aws_query;
    case api::OPERATIONS_PRESET_GRAPHQL:
      return action::Protocol::graphql;
    case api::OPERATIONS_PRESET_JSON_RPC:
      return action::Protocol::json_rpc;
    case api::OPERATIONS_PRESET_SOAP:
      return action::Protocol::soap;
    default:
      return action::Protocol::none;
  }
}

// What a codec takes out of the head, or the guard out of what the function sends: an action there is never seen.
bool is_never_seen(std::string_view header) {
  constexpr std::array<std::string_view, 10> kOwned = {
      "host",       "content-length", "transfer-encoding", "te",      "connection",
      "keep-alive", "upgrade",        "proxy-connection",  "trailer", "expect"};
  const bool ours = header.size() > 10 && request::name_equals(header.substr(0, 10), "sallyport-");
  return ours || std::ranges::any_of(kOwned, [&](std::string_view one) { return request::name_equals(header, one); });
}

bool is_form_name(std::string_view name) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= limits::kActionBytesMax && std::ranges::all_of(name, good);
}

}  // namespace

Source compile_operations(const api::Operations& source, const Places& places, Diagnostics& diagnostics) {
  Source out;
  const Place place = places.of(source, static_cast<int>(source.source_case()));
  switch (source.source_case()) {
    case api::Operations::kPreset:
      out.protocol = protocol_of(source.preset());
      break;
    case api::Operations::kHeader:
      out.protocol = action::Protocol::header;
      out.name = source.header();
      if (!is_token(out.name) || is_never_seen(out.name)) {
        diagnostics.error(place, "the header " + quoted(out.name) + " cannot tell an action",
                          "a name such as X-Action");
      }
      break;
    case api::Operations::kForm:
      out.protocol = action::Protocol::form;
      out.name = source.form();
      if (!is_form_name(out.name)) {
        diagnostics.error(place, "the form field " + quoted(out.name) + " is not valid",
                          "letters, digits, '_' and '-', as in Action");
      }
      break;
    case api::Operations::kJson: {
      out.protocol = action::Protocol::json;
      auto pointer = action::parse_pointer(source.json());
      if (pointer) {
        out.pointer = std::move(*pointer);
      } else {
        diagnostics.error(place, quoted(source.json()) + " is not a JSON pointer: " + pointer.error().text,
                          "/request/method, say");
      }
      break;
    }
    case api::Operations::SOURCE_NOT_SET:
      break;  // the reader of the document has said so
  }
  return out;
}

std::vector<std::string> compile_actions(const api::Rule& source, bool has_operations, const Places& places,
                                         Diagnostics& diagnostics) {
  constexpr int kField = api::Rule::kActionsFieldNumber;
  std::vector<std::string> out(source.actions().begin(), source.actions().end());
  if (out.empty()) return out;
  if (!has_operations) {
    diagnostics.error(places.of(source, kField), "the rule has actions, but its endpoint does not say where they stand",
                      "operations: aws-json, say");
  }
  if (out.size() > limits::kPolicyActionsPerRuleMax) {
    diagnostics.error(places.of(source, kField),
                      "the rule has more than " + std::to_string(limits::kPolicyActionsPerRuleMax) + " actions",
                      "a rule without actions has every one");
    return {};
  }
  for (int i = 0; i < source.actions_size(); ++i) {
    if (action::is_action(source.actions(i))) continue;
    diagnostics.error(places.of(source, kField, i), "no request has the action " + quoted(source.actions(i)),
                      "up to " + std::to_string(limits::kActionBytesMax) +
                          " printable ASCII characters without spaces, quotes, commas, semicolons and backslashes");
  }
  return out;
}

}  // namespace sallyport::document
