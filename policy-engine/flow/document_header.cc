#include "policy-engine/flow/document_header.h"

#include "policy-engine/document/names.h"
#include "policy-engine/document/yaml_tree.h"

namespace sallyport::flow {

using document::quoted;

namespace {

constexpr std::string_view kApiVersion = "sallyport.dev/v1alpha1";
constexpr int kApiVersionField = 1, kKindField = 2, kMetadataField = 3;

}  // namespace

std::string kind_of(std::string_view yaml) {
  document::Diagnostics ignored("");  // whoever reads the document says them
  const auto tree = document::parse_yaml(yaml, ignored);
  for (std::size_t i = 0; tree && i < tree->keys.size(); ++i) {
    if (tree->keys[i].text == "kind") return tree->items[i].text;
  }
  return {};
}

void check_document_header(const DocumentHeader& header, const document::Places& places,
                           document::Diagnostics& diagnostics, bool written) {
  const bool version_there = !header.api_version.empty() || !written;
  if (version_there && header.api_version != kApiVersion) {
    diagnostics.error(places.of(header.document, kApiVersionField),
                      "apiVersion " + quoted(header.api_version) + " is not known",
                      "this version reads " + std::string(kApiVersion));
  }
  const bool kind_there = !header.kind.empty() || !written;
  if (kind_there && header.kind != header.expected_kind) {
    diagnostics.error(places.of(header.document, kKindField), "the kind is " + quoted(header.kind),
                      "it must be " + std::string(header.expected_kind));
  }
  const bool metadata_there = places.given(header.document, kMetadataField) && !places.broken(header.metadata);
  if (written && !metadata_there) return;
  if (!document::is_subdomain(header.metadata.name())) {
    diagnostics.error(places.of(header.metadata, policy::v1alpha1::Metadata::kNameFieldNumber),
                      "the name " + quoted(header.metadata.name()) + " is not valid", kSubdomainHint);
  }
}

}  // namespace sallyport::flow
