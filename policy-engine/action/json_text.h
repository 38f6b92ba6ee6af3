#pragma once
// A JSON text of somebody hostile: checked as a whole (RFC 8259, strictly), then looked into without a tree. What two
// readers could take for different things is refused: a name that is there twice, or once more in another case.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace sallyport::action {

// One value of a checked text. A view: the text must outlive it.
class JsonValue {
 public:
  enum class Kind : std::uint8_t { null, boolean, number, string, array, object };
  Kind kind() const;

  // The member of that name, of an object; nothing where there is none, or this is no object. Error: it is there more
  // than once, or beside one that some readers take for it (case, a NUL behind it).
  Result<std::optional<JsonValue>> member(std::string_view name) const;
  // The i-th element of an array; nothing past its end, or where this is no array.
  std::optional<JsonValue> element(std::size_t i) const;
  // Whether `good` holds for each element of an array, in one pass.
  bool all_elements(const std::function<bool(const JsonValue&)>& good) const;
  // Of a string: its text in UTF-8. Else empty.
  std::string text() const;

 private:
  friend Result<JsonValue> parse_json(std::string_view text);
  explicit JsonValue(std::string_view raw) : raw_(raw) {}
  std::string_view raw_;
};

// Refuses what is not one value in valid UTF-8, nested at most limits::kActionJsonDepthMax deep: no byte order mark, no
// comments, no lone surrogates. ErrorKind::malformed, with the byte.
Result<JsonValue> parse_json(std::string_view text);

// The text of an object with that one member, a string, behind its others; with nothing in `value` without any. What
// some readers take for a member of that name is taken out, too. `name` and `value` have nothing that JSON would
// escape. Errors: as parse_json(), and ErrorKind::malformed where the text is no object.
Result<std::string> with_member(std::string_view text, std::string_view name, std::optional<std::string_view> value);

}  // namespace sallyport::action
