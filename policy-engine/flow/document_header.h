#pragma once
// What the documents of flow tracking have in common: apiVersion, kind and a name.

#include <google/protobuf/message.h>

#include <string>
#include <string_view>

#include "policy-engine/api/egress_policy.pb.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/places.h"

namespace sallyport::flow {

// What a name that is none is told.
inline constexpr std::string_view kSubdomainHint =
    "up to 253 of a-z, 0-9, '.' and '-', starting and ending with a letter or digit";

// What a document says that it is; empty: nothing, or it is no YAML.
std::string kind_of(std::string_view yaml);

struct DocumentHeader {
  const google::protobuf::Message& document;  // its fields 1, 2 and 3 are the next three
  const std::string& api_version;
  const std::string& kind;
  const policy::v1alpha1::Metadata& metadata;
  std::string_view expected_kind;
};

// `written`: the reader of the YAML has said what is missing already.
void check_document_header(const DocumentHeader& header, const document::Places& places,
                           document::Diagnostics& diagnostics, bool written);

}  // namespace sallyport::flow
