// Chunked bodies: the result does not depend on how the input was cut, and what was decoded survives being encoded
// again. The first byte of an input says how it is cut.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "proxy/http1/chunked.h"
#include "proxy/http1/fields.h"
#include "proxy/http1/serialize.h"
#include "tests/fuzz/require.h"

namespace sallyport::http1 {
namespace {

using fuzz::require;
using Event = ChunkDecoder::Event;

struct Decoded {
  ChunkDecoder decoder;
  Event last = Event::more;
  std::string payload;
  std::size_t used = 0;
};

std::string flat(const request::HeaderList& fields) {
  std::string text;
  for (const request::Header& field : fields) text.append(field.name).append(":").append(field.value).append("\n");
  return text;
}

void decode(std::string_view body, std::size_t step, Decoded& decoded) {
  while (decoded.last == Event::more && decoded.used < body.size()) {
    const std::string_view piece = body.substr(decoded.used, step);
    const std::unique_ptr<char[]> copy = std::make_unique<char[]>(piece.size());
    piece.copy(copy.get(), piece.size());
    std::string_view input(copy.get(), piece.size());
    std::string_view data;
    while ((decoded.last = decoded.decoder.next(input, data)) == Event::data) {
      require(!data.empty(), "data is never empty");
      decoded.payload += data;
    }
    require(decoded.last != Event::more || input.empty(), "more means that all is used up");
    decoded.used += piece.size() - input.size();
  }
}

void check_encoded_again(Decoded& first) {
  std::string body;
  if (!first.payload.empty()) {
    body.append(ChunkLine(first.payload.size()).view()).append(first.payload).append(kChunkEnd);
  }
  require(serialize_trailers(body, first.decoder.trailers()), "trailers that were decoded can be written");
  Decoded again;
  decode(body, body.size(), again);
  // "a:b" is written as "a: b", which may take the trailers over their cap.
  if (again.last == Event::error && body.size() - first.payload.size() > limits::kTrailerBytesMax) return;
  require(again.last == Event::done && again.used == body.size(), "what was encoded can be decoded");
  require(again.payload == first.payload, "the payload survives");
  require(flat(again.decoder.trailers()) == flat(first.decoder.trailers()), "the trailers survive");
}

}  // namespace
}  // namespace sallyport::http1

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport::http1;
  if (size < 2) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  Decoded whole;
  decode(body, body.size(), whole);
  Decoded cut_up;
  decode(body, data[0] % 32 + 1u, cut_up);
  require(whole.last == cut_up.last, "a cut changes nothing");
  require(whole.payload == cut_up.payload, "a cut changes nothing in the payload");
  require(whole.decoder.error_text() == cut_up.decoder.error_text(), "the same error is reported");
  if (whole.last == Event::error) return 0;
  require(whole.used == cut_up.used, "a body ends where it ends");
  require(flat(whole.decoder.trailers()) == flat(cut_up.decoder.trailers()), "a cut changes nothing in the trailers");
  if (whole.last == Event::done) check_encoded_again(whole);
  return 0;
}
