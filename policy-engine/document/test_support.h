#pragma once
// What the tests of this folder share.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/document/load.h"

namespace sallyport::document {

// Everything that load_policy says, one line each.
inline std::string diagnostics_text(const LoadResult& result) {
  std::string out;
  for (const Diagnostic& diagnostic : result.diagnostics) out += diagnostic.to_string() + "\n";
  return out;
}

inline std::string diagnose(std::string_view yaml) { return diagnostics_text(load_policy(yaml, "p.yaml", nullptr)); }

// The snapshot of a policy that must have neither errors nor warnings.
inline std::shared_ptr<const Snapshot> load_clean(std::string_view yaml) {
  const LoadResult result = load_policy(yaml, "p.yaml", nullptr);
  EXPECT_EQ(diagnostics_text(result), "") << yaml;
  return result.snapshot;
}

// The lines before spec.endpoints; five of them.
inline const std::string kHead =
    "apiVersion: sallyport.dev/v1alpha1\n"
    "kind: EgressPolicy\n"
    "metadata: {name: shop}\n"
    "spec:\n"
    "  endpoints:\n";

}  // namespace sallyport::document
