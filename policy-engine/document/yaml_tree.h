#pragma once
// YAML text → a plain tree in which every node knows its place. YAML is far larger than a policy needs: what could make
// two readers disagree (anchors, aliases, tags, several documents, odd bytes) is refused here, so that nothing behind
// this file has to think of it.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/document/diagnostics.h"

namespace sallyport::document {

struct YamlNode {
  enum class Kind { null, scalar, sequence, map };
  Kind kind = Kind::null;
  bool plain = false;  // a scalar without quotes
  Place place;
  std::string text;             // of a scalar: UTF-8
  std::vector<YamlNode> keys;   // of a map: scalars, as many as items; may repeat
  std::vector<YamlNode> items;  // of a map: the values; of a sequence: the elements
};

// Reports one error and returns nothing if `text` is not one well-formed YAML document of at most
// limits::kPolicyBytesMax, limits::kPolicyDepthMax and limits::kPolicyNodesMax.
std::optional<YamlNode> parse_yaml(std::string_view text, Diagnostics& diagnostics);

// How a scalar without quotes is understood. As YAML readers differ (1.1 takes `no` for a boolean, 1.2 does not),
// everything that some of them take for a boolean or a number is one here.
enum class PlainType { string, boolean, number };
PlainType plain_type(std::string_view text);

}  // namespace sallyport::document
