#pragma once
// Counts the frames that a peer sends, by their headers (RFC 9113 section 4.1): nghttp2 says nothing of those that it
// ignores, of unknown types or for streams that are gone, and they are to be paid for, too.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sallyport::http2 {

class FrameMeter {
 public:
  // `skip`: bytes before the first frame, the client's preface.
  explicit FrameMeter(std::size_t skip) : payload_left_(skip) {}

  struct Count {
    std::uint32_t resets = 0;
    std::uint32_t others = 0;
  };
  // The frames whose headers have become complete with these bytes.
  Count count(std::string_view bytes);

 private:
  static constexpr std::size_t kHeaderBytes = 9;
  std::array<unsigned char, kHeaderBytes> header_{};
  std::size_t header_bytes_ = 0;
  std::size_t payload_left_;
};

}  // namespace sallyport::http2
