#pragma once
// How images are named by what is in them (OCI Image Specification, "Digests"): of the algorithms, the one that
// registries use.

#include <string_view>

namespace sallyport::flow {

inline bool is_image_digest(std::string_view text) {
  constexpr std::string_view kAlgorithm = "sha256:";
  constexpr std::size_t kDigits = 64;
  return text.size() == kAlgorithm.size() + kDigits && text.starts_with(kAlgorithm) &&
         text.find_first_not_of("0123456789abcdef", kAlgorithm.size()) == std::string_view::npos;
}

}  // namespace sallyport::flow
