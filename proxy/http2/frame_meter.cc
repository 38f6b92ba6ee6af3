#include "proxy/http2/frame_meter.h"

#include <algorithm>

namespace sallyport::http2 {

FrameMeter::Count FrameMeter::count(std::string_view bytes) {
  constexpr unsigned kReset = 3;
  Count count;
  while (!bytes.empty()) {
    const std::size_t passed = std::min(payload_left_, bytes.size());
    payload_left_ -= passed;
    bytes.remove_prefix(passed);
    const std::size_t part = std::min(kHeaderBytes - header_bytes_, bytes.size());
    std::copy_n(bytes.begin(), part, header_.begin() + static_cast<std::ptrdiff_t>(header_bytes_));
    header_bytes_ += part;
    bytes.remove_prefix(part);
    if (header_bytes_ < kHeaderBytes) continue;
    header_bytes_ = 0;
    payload_left_ = std::size_t{header_[0]} << 16 | std::size_t{header_[1]} << 8 | header_[2];
    ++(header_[3] == kReset ? count.resets : count.others);
  }
  return count;
}

}  // namespace sallyport::http2
