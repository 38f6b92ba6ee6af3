#include "proxy/http1/body_reader.h"

#include "base/limits.h"

namespace sallyport::http1 {

using http::Chunk;

namespace {
constexpr std::size_t kSmallFillBytes = 4096;

// What else is there already, as long as a whole record finds room: what is read together is written together. An end
// or an error is found again by the next read.
std::size_t fill_more(net::Stream& stream, net::ReadBuffer& in) {
  std::size_t more = 0;
  for (std::span<char> space = in.space(); space.size() >= limits::kBufferBytes; space = in.space()) {
    const auto read = stream.try_read(space);
    if (!read || read->value_or(0) == 0) break;
    in.filled(**read);
    more += **read;
  }
  return more;
}
}  // namespace

void BodyReader::start(BodyKind kind, std::uint64_t length) {
  kind_ = kind;
  left_ = kind == BodyKind::length ? length : 0;
  ended_ = kind == BodyKind::none || (kind == BodyKind::length && length == 0);
  last_fill_ = 0;
  queued_ = {};
  decoder_.reset();
}

Result<Chunk> BodyReader::take(net::ReadBuffer& in, ErrorSource source) {
  if (ended_) return Chunk{{}, true};
  if (kind_ == BodyKind::chunked) return take_chunked(in, source);
  std::string_view data = in.unread();
  if (kind_ == BodyKind::length) {
    data = data.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(left_, data.size())));
    left_ -= data.size();
    ended_ = left_ == 0;
  }
  in.consume(data.size());
  return Chunk{data, ended_};
}

Result<Chunk> BodyReader::take_chunked(net::ReadBuffer& in, ErrorSource source) {
  std::string_view input = in.unread();
  Chunk chunk{std::exchange(queued_, {}), false};
  // Looks behind the first payload: when the end is there already, it goes along.
  while (true) {
    std::string_view data;
    ChunkDecoder::Event event = decoder_.next(input, data);
    if (event == ChunkDecoder::Event::error) {
      return fail(source, ErrorKind::malformed, "the chunked body is malformed: " + std::string(decoder_.error_text()));
    }
    if (event == ChunkDecoder::Event::done) chunk.end = ended_ = true;
    if (event != ChunkDecoder::Event::data) break;
    if (!chunk.data.empty()) {
      queued_ = data;
      break;
    }
    chunk.data = data;
  }
  in.consume(in.unread().size() - input.size());
  return chunk;
}

net::Task<Result<Chunk>> BodyReader::read(net::Stream& stream, net::ReadBuffer& in, net::Deadline deadline) {
  while (true) {
    Result<Chunk> chunk = take(in, stream.source());
    if (!chunk || chunk->end || !chunk->data.empty()) co_return chunk;
    // In bulk the kernel acknowledges by itself.
    if (last_fill_ < kSmallFillBytes) stream.acknowledge_now();
    if (last_fill_ >= limits::kBufferBytes) in.grow_for_bulk();
    Result<std::size_t> filled = co_await fill(stream, in, limits::kBufferBytes, deadline);
    last_fill_ = filled.value_or(0);
    if (!filled) co_return std::unexpected(filled.error());
    if (last_fill_ > 0) last_fill_ += fill_more(stream, in);
    if (*filled == 0 && kind_ == BodyKind::until_close) {
      ended_ = true;
      co_return Chunk{{}, true};
    }
    if (*filled == 0)
      co_return fail(stream.source(), ErrorKind::closed, "the connection was closed in the middle of a body");
  }
}

net::Task<Result<std::size_t>> fill(net::Stream& stream, net::ReadBuffer& in, std::size_t bytes_max,
                                    net::Deadline deadline) {
  std::span<char> space = in.space();
  if (space.empty()) {
    in.compact();
    if (in.space().empty() && !in.grow(bytes_max)) {
      co_return fail(stream.source(), ErrorKind::limit, "more than " + std::to_string(bytes_max) + " bytes at once");
    }
    space = in.space();
  }
  Result<std::size_t> read = co_await stream.read_some(space, deadline);
  if (read) in.filled(*read);
  co_return read;
}

}  // namespace sallyport::http1
