#pragma once
// One rule of an endpoint, compiled: which methods, which paths, which actions.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace re2 {
class RE2;
}  // namespace re2

namespace sallyport::document {

// A request's method, looked at once and compared with many rules.
class MethodKey {
 public:
  explicit MethodKey(std::string_view method);
  std::uint16_t bit() const { return bit_; }  // 0 for a method without a bit of its own
  std::string_view text() const { return text_; }

 private:
  std::string_view text_;
  std::uint16_t bit_;
};

class MethodSet {
 public:
  void add(std::string_view method);
  void add_any() { any_ = true; }
  bool contains(const MethodKey& method) const;
  bool any() const { return any_; }
  const std::vector<std::string>& names() const { return names_; }  // in document order; empty for any

 private:
  bool any_ = false;
  std::uint16_t bits_ = 0;
  std::vector<std::string> names_;
};

class PathMatcher {
 public:
  // `path` is canonical.
  static PathMatcher exact(std::string path);
  static PathMatcher prefix(std::string path);
  // `expression` has compiled without an error.
  static PathMatcher regex(std::unique_ptr<re2::RE2> expression);

  PathMatcher();  // matches nothing
  ~PathMatcher();
  PathMatcher(PathMatcher&&) noexcept;
  PathMatcher& operator=(PathMatcher&&) noexcept;

  // Does not allocate for exact and prefix; RE2 may fill its cache, up to limits::kRegexMemoryBytesMax.
  bool matches(std::string_view path) const;
  // "exact: /a", for people.
  std::string to_string() const;

 private:
  enum class Kind : std::uint8_t { nothing, exact, prefix, regex };
  Kind kind_ = Kind::nothing;
  std::string path_;
  std::unique_ptr<re2::RE2> regex_;
};

class Rule {
 public:
  MethodSet methods;
  PathMatcher path;
  std::vector<std::string> actions;  // empty: whatever the request has
  int line = 0;                      // in the document; 0 when it had no lines

  bool has_action(std::string_view action) const;
  // "GET, HEAD on prefix: /photos", "POST on exact: / with GetItem, PutItem", for people.
  std::string to_string() const;
};

}  // namespace sallyport::document
