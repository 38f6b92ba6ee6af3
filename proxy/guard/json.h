#pragma once
// JSON text by hand: records are made on the data path, one string each.

#include <cstddef>
#include <string>
#include <string_view>

namespace sallyport::guard {

// Appends `text` as a JSON string with its quotes. Control characters and bytes that are not valid UTF-8 become \u00XX,
// so that hostile bytes can neither break a line of the log nor reach a terminal.
void append_json_string(std::string& out, std::string_view text);

// The same into memory that has room for json_string_bytes_max(); returns the end of what was written.
char* put_json_string(char* at, std::string_view text);
inline std::size_t json_string_bytes_max(std::string_view text) { return 6 * text.size() + 2; }

}  // namespace sallyport::guard
