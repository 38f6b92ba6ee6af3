#pragma once
// Collects what is wrong with a document, all of it, and hands it out in the order of the file. What the libraries
// behind it say is made printable here: yaml-cpp and RE2 repeat bytes of the document.

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "policy-engine/document/load.h"

namespace sallyport::document {

// A place in a document, both from 1; columns count bytes. Line 0: the whole file.
struct Place {
  int line = 0;
  int column = 0;
  auto operator<=>(const Place&) const = default;
};

class Diagnostics {
 public:
  explicit Diagnostics(std::string file) : file_(std::move(file)) {}

  void error(Place place, std::string_view message, std::string_view hint = {});
  void warning(Place place, std::string_view message, std::string_view hint = {});
  bool has_errors() const { return errors_ > 0; }

  // In the order of the file, errors before the warnings of the same place. Past limits::kPolicyErrorsMax the rest is
  // counted in the last one.
  std::vector<Diagnostic> take();

 private:
  void add(Place place, std::string_view message, std::string_view hint, bool warning);

  std::string file_;
  std::multimap<std::tuple<Place, bool>, Diagnostic> found_;  // by place and warning
  std::size_t errors_ = 0;
  std::size_t left_off_ = 0;
};

// Text that a message may show: control characters, those that turn the direction of text, and bytes that are not UTF-8
// as \xNN.
std::string printable(std::string_view text);

// Text from a document or a request as a message may show it: printable, in single quotes, cut after 80 bytes.
std::string quoted(std::string_view text);

// The byte after the UTF-8 sequence at `at`, or `at` when there is none (RFC 3629: no surrogates, no overlong forms).
std::size_t utf8_next(std::string_view text, std::size_t at);

}  // namespace sallyport::document
