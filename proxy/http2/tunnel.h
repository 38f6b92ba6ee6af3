#pragma once
// The bytes of a stream whose request was an extended CONNECT (RFC 8441), after it was answered: DATA frames carry
// them, END_STREAM is the end of a direction, RST_STREAM breaks both off.

#include <string_view>

#include "proxy/net/byte_stream.h"

namespace sallyport::http2 {

class Stream;

class Tunnel final : public net::ByteStream {
 public:
  // The stream stays longer than this.
  explicit Tunnel(Stream& stream) : stream_(stream) {}

  net::Loop& loop() override;
  ErrorSource source() const override;
  net::Task<net::Wait> wait_readable(net::Deadline deadline) override;
  net::Task<Result<std::size_t>> read_some(std::span<char> buffer, net::Deadline deadline) override;
  net::Task<Result<void>> write_all(std::string_view bytes, net::Deadline deadline) override;
  void shutdown_write() override;
  void abort() override;
  void cancel() override;

 private:
  Stream& stream_;
  std::string_view rest_;  // of what was received last
};

}  // namespace sallyport::http2
