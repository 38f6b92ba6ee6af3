#pragma once
// The fields of one header block (RFC 9113 section 4.3) as they come out of HPACK, kept within bounds.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/request/head.h"

namespace sallyport::http2 {

class HeaderBlock {
 public:
  // What is counted is what SETTINGS_MAX_HEADER_LIST_SIZE counts: 32 bytes more than its text for each field. What
  // comes after a bound was passed is counted and not kept.
  explicit HeaderBlock(std::size_t bytes_max) : bytes_max_(bytes_max) {}
  void add(std::string_view name, std::string_view value);
  // nghttp2 has left a field out that is not allowed. Whoever sent it meant something by it.
  void spoil() { spoilt_ = true; }

  bool spoilt() const { return spoilt_; }
  bool too_large() const { return too_large_; }
  std::size_t bytes_seen() const { return bytes_seen_; }
  std::size_t size() const { return fields_.size(); }
  // Views into this object, good until the next add().
  request::Header operator[](std::size_t i) const;

 private:
  struct Field {
    std::size_t begin, name_size, value_size;
  };
  std::string text_;
  std::vector<Field> fields_;
  std::size_t bytes_max_;
  std::size_t bytes_seen_ = 0;
  bool too_large_ = false;
  bool spoilt_ = false;
};

}  // namespace sallyport::http2
