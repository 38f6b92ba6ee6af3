#pragma once
// The chunked transfer coding (RFC 9112 section 7.1): reading it strictly, and writing it.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "policy-engine/request/head.h"

namespace sallyport::http1 {

// Takes a chunked body apart as it comes. The payload is not copied: it is handed out as views into the input. Chunk
// extensions are checked and dropped. Trailers are collected, at most limits::kTrailerBytesMax with those that are
// dropped.
//
// Refused: everything that two servers could read in two ways. That is: no digit or more than 16 in a size, a size
// above 2^60, whitespace where the grammar has none, CR or LF alone (also inside of a quoted extension), a chunk that
// is not followed by CRLF, a line longer than limits::kChunkLineBytesMax, and trailers that frame or route a message.
class ChunkDecoder {
 public:
  enum class Event : std::uint8_t {
    data,   // `data` is payload, never empty; call again
    more,   // all input is used up, and the body goes on
    done,   // the body is over; what is left of the input belongs to the next message
    error,  // see error_text(); the connection cannot be used any more
  };

  // Takes bytes from the front of `input`. May be called again after done or error, and says the same.
  Event next(std::string_view& input, std::string_view& data);

  // After done: what came behind the last chunk. The views point into this object. Empty nearly always.
  request::HeaderList& trailers() { return trailers_; }
  std::string_view error_text() const { return error_text_; }  // static

  void reset();  // for the next message; keeps nothing

 private:
  enum class State : std::uint8_t {
    size_begin,       // at the first digit of a size
    size,             // behind a digit
    size_space,       // whitespace behind the size or a whole extension: ';' has to follow
    extension_begin,  // behind ';'
    extension_name,
    name_space,   // whitespace behind a name: '=' or ';' has to follow
    value_begin,  // behind '='
    value_token,
    value_quoted,
    value_escape,  // behind a backslash in quotes
    value_end,     // behind the closing quote
    line_lf,       // behind the CR of a chunk line
    payload,
    payload_cr,
    payload_lf,
    trailers,
    done,
    error,
  };

  void take_line(std::string_view& input);
  State after_line_byte(char c);
  State after_digit(char c);
  State after_extension_byte(char c);
  void take_payload_end(std::string_view& input);
  void take_trailers(std::string_view& input);
  void parse_trailers();
  State fail(std::string_view text);

  State state_ = State::size_begin;
  std::uint8_t digits_ = 0;
  std::uint16_t line_bytes_ = 0;
  std::uint64_t left_ = 0;  // of the chunk: its size while its line is read, then what has not been handed out
  std::string_view error_text_;
  std::string trailer_bytes_;
  request::HeaderList trailers_;
};

// The line before a chunk of `size` bytes, which must not be 0. Behind the chunk goes kChunkEnd, behind the last one
// serialize_trailers() or kLastChunk.
class ChunkLine {
 public:
  explicit ChunkLine(std::size_t size);
  std::string_view view() const { return {bytes_.data(), size_}; }

 private:
  std::array<char, 18> bytes_;
  std::size_t size_;
};

inline constexpr std::string_view kChunkEnd = "\r\n";
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";  // without trailers

}  // namespace sallyport::http1
