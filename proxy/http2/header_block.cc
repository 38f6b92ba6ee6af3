#include "proxy/http2/header_block.h"

#include "base/limits.h"

namespace sallyport::http2 {

namespace {
constexpr std::size_t kFieldOverhead = 32;  // RFC 9113 section 6.5.2
}

void HeaderBlock::add(std::string_view name, std::string_view value) {
  bytes_seen_ += name.size() + value.size() + kFieldOverhead;
  if (bytes_seen_ > bytes_max_ || fields_.size() == limits::kHeaderCountMax) too_large_ = true;
  if (too_large_) return;
  fields_.push_back({text_.size(), name.size(), value.size()});
  text_ += name;
  text_ += value;
}

request::Header HeaderBlock::operator[](std::size_t i) const {
  const Field& field = fields_[i];
  const std::string_view text = text_;
  return {text.substr(field.begin, field.name_size), text.substr(field.begin + field.name_size, field.value_size)};
}

}  // namespace sallyport::http2
