#pragma once
// What holds of the diagnostics of every document.

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "policy-engine/document/load.h"
#include "tests/fuzz/require.h"

namespace sallyport::fuzz {

// `compiled`: something came of the text.
inline void check_diagnostics(const std::vector<document::Diagnostic>& diagnostics, bool compiled,
                              std::string_view text) {
  const auto lines = static_cast<int>(std::ranges::count(text, '\n')) + 1;
  bool errors = false;
  for (const document::Diagnostic& diagnostic : diagnostics) {
    errors |= !diagnostic.warning;
    require(!diagnostic.message.empty(), "a diagnostic says something");
    // yaml-cpp ends an unfinished value on the line after the last.
    require(diagnostic.line >= 0 && diagnostic.line <= lines + 1, "a diagnostic has a place in the file");
    const std::string line = diagnostic.to_string();
    require(std::ranges::none_of(line, [](char c) { return c >= 0 && c < ' '; }), "a diagnostic is one clean line");
  }
  require(errors != compiled, "something comes of a document exactly where there is no error");
  require(diagnostics.size() <= limits::kPolicyErrorsMax, "there are not too many diagnostics");
}

}  // namespace sallyport::fuzz
