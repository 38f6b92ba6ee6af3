#pragma once
// Bytes that must not leak: kept in OpenSSL's secure heap (locked, not dumped, guard pages), wiped when they go.

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"

namespace sallyport::credentials {

// Makes the secure heap, once per process before the first Secret. Without it (or when the machine lets us lock no
// memory) secrets live on the ordinary heap and are still wiped; `locked()` tells.
void prepare_secure_memory();
bool secure_memory_locked();

class Secret {
 public:
  Secret() = default;
  // Copies; the caller wipes its own copy. At most limits::kSecretBytesMax.
  static Result<Secret> copy_of(std::string_view bytes);
  // What a file or a variable gives: one line break at the end is no part of the secret (editors and `echo` put it
  // there). Refused with the remedy: nothing, line breaks or other control characters inside, blanks at either end, a
  // byte order mark. `source` is how errors name it.
  static Result<Secret> from_source(std::string_view bytes, std::string_view source);
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  ~Secret();

  std::string_view view() const { return {data_, size_}; }
  bool empty() const { return size_ == 0; }

 private:
  char* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace sallyport::credentials
