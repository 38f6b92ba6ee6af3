#include "proxy/http1/chunked.h"

#include <algorithm>
#include <charconv>

#include "base/limits.h"
#include "proxy/http1/fields.h"
#include "proxy/http1/syntax.h"

namespace sallyport::http1 {
namespace {

constexpr int kSizeDigitsMax = 16;
constexpr std::uint64_t kChunkBytesMax = std::uint64_t{1} << 60;

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

ChunkDecoder::Event ChunkDecoder::next(std::string_view& input, std::string_view& data) {
  for (;;) {
    switch (state_) {
      case State::done:
        return Event::done;
      case State::error:
        return Event::error;
      case State::payload:
        if (input.empty()) return Event::more;
        data = input.substr(0, left_);
        input.remove_prefix(data.size());
        left_ -= data.size();
        if (left_ == 0) state_ = State::payload_cr;
        return Event::data;
      case State::payload_cr:
      case State::payload_lf:
        if (input.empty()) return Event::more;
        take_payload_end(input);
        break;
      case State::trailers:
        if (input.empty()) return Event::more;
        take_trailers(input);
        break;
      case State::size_begin:
      case State::size:
      case State::size_space:
      case State::extension_begin:
      case State::extension_name:
      case State::name_space:
      case State::value_begin:
      case State::value_token:
      case State::value_quoted:
      case State::value_escape:
      case State::value_end:
      case State::line_lf:
        if (input.empty()) return Event::more;
        take_line(input);
        break;
    }
  }
}

void ChunkDecoder::reset() {
  state_ = State::size_begin;
  digits_ = 0;
  line_bytes_ = 0;
  left_ = 0;
  error_text_ = {};
  trailers_.clear();
  if (trailer_bytes_.capacity() > std::string().capacity()) trailer_bytes_ = std::string();
  trailer_bytes_.clear();
}

ChunkDecoder::State ChunkDecoder::fail(std::string_view text) {
  error_text_ = text;
  return State::error;
}

// One byte of a chunk line.
void ChunkDecoder::take_line(std::string_view& input) {
  const char c = input.front();
  input.remove_prefix(1);
  if (state_ != State::line_lf) {
    state_ =
        c != '\r' && ++line_bytes_ > limits::kChunkLineBytesMax ? fail("a chunk line is too long") : after_line_byte(c);
    return;
  }
  line_bytes_ = 0;
  digits_ = 0;
  if (c != '\n') {
    state_ = fail("a chunk line does not end with CRLF");
  } else {
    state_ = left_ == 0 ? State::trailers : State::payload;
  }
}

ChunkDecoder::State ChunkDecoder::after_line_byte(char c) {
  if (state_ == State::size_begin || (state_ == State::size && hex_value(c) >= 0)) return after_digit(c);
  const bool in_quotes = state_ == State::value_quoted || state_ == State::value_escape;
  const bool may_end = state_ == State::size || state_ == State::extension_name || state_ == State::value_token ||
                       state_ == State::value_end;
  if (c == '\r') return may_end ? State::line_lf : fail("a chunk line ends where it should not");
  if (c == ';' && (may_end || state_ == State::size_space || state_ == State::name_space))
    return State::extension_begin;
  if (is_space(c) && !in_quotes) {
    if (state_ == State::extension_name) return State::name_space;
    return may_end ? State::size_space : state_;
  }
  if (state_ == State::size) return fail("a chunk size has a byte that is not a hex digit");
  return after_extension_byte(c);
}

ChunkDecoder::State ChunkDecoder::after_digit(char c) {
  const int digit = hex_value(c);
  if (digit < 0) return fail("a chunk does not begin with its size");
  if (++digits_ > kSizeDigitsMax) return fail("a chunk size has too many digits");
  left_ = left_ << 4 | static_cast<std::uint64_t>(digit);
  if (left_ > kChunkBytesMax) return fail("a chunk is too large");
  return State::size;
}

ChunkDecoder::State ChunkDecoder::after_extension_byte(char c) {
  switch (state_) {
    case State::extension_begin:
    case State::extension_name:
      if (is_token_byte(c)) return State::extension_name;
      if (c == '=' && state_ == State::extension_name) return State::value_begin;
      break;
    case State::name_space:
      if (c == '=') return State::value_begin;
      break;
    case State::value_begin:
      if (c == '"') return State::value_quoted;
      [[fallthrough]];
    case State::value_token:
      if (is_token_byte(c)) return State::value_token;
      break;
    case State::value_quoted:
      if (c == '"') return State::value_end;
      if (c == '\\') return State::value_escape;
      [[fallthrough]];
    case State::value_escape:
      if (is_value_byte(c)) return State::value_quoted;
      break;
    case State::size_begin:
    case State::size:
    case State::size_space:
    case State::value_end:
    case State::line_lf:
    case State::payload:
    case State::payload_cr:
    case State::payload_lf:
    case State::trailers:
    case State::done:
    case State::error:
      break;
  }
  return fail("a chunk extension is malformed");
}

void ChunkDecoder::take_payload_end(std::string_view& input) {
  const char c = input.front();
  input.remove_prefix(1);
  if (c != (state_ == State::payload_cr ? '\r' : '\n')) {
    state_ = fail("a chunk is not followed by CRLF");
  } else {
    state_ = state_ == State::payload_cr ? State::payload_lf : State::size_begin;
  }
}

// Collects whole lines, up to the empty one.
void ChunkDecoder::take_trailers(std::string_view& input) {
  const std::size_t lf = input.find('\n');
  const std::string_view part = input.substr(0, lf == std::string_view::npos ? lf : lf + 1);
  if (trailer_bytes_.size() + part.size() > limits::kTrailerBytesMax) {
    state_ = fail("the trailers are too long");
    return;
  }
  trailer_bytes_.append(part);
  input.remove_prefix(part.size());
  if (lf == std::string_view::npos) return;
  if (!trailer_bytes_.ends_with("\r\n")) {
    state_ = fail("a line of the trailers ends with LF alone");
  } else if (trailer_bytes_.size() == 2 || trailer_bytes_.ends_with("\r\n\r\n")) {
    parse_trailers();
  }
}

void ChunkDecoder::parse_trailers() {
  const char* at = trailer_bytes_.data();
  const char* const end = at + trailer_bytes_.size() - 2;
  state_ = State::done;
  for (std::size_t count = 0; at != end; ++count) {
    request::Header field;
    std::string_view wrong = "a line of the trailers is incomplete";
    if (count == limits::kHeaderCountMax) {
      wrong = "too many trailers";
    } else if (read_field_line(at, end, field, wrong) == Parse::complete) {
      const TrailerUse use = trailer_use(field.name);
      if (use == TrailerUse::keep) trailers_.add(field.name, field.value);
      if (use != TrailerUse::refuse) continue;
      wrong = "a trailer frames or routes the message";
    }
    trailers_.clear();
    state_ = fail(wrong);
    return;
  }
}

ChunkLine::ChunkLine(std::size_t size) {
  char* const end = std::to_chars(bytes_.data(), bytes_.data() + 16, size, 16).ptr;
  std::ranges::copy(kChunkEnd, end);
  size_ = static_cast<std::size_t>(end - bytes_.data()) + kChunkEnd.size();
}

}  // namespace sallyport::http1
