// Responses, as http1_request_fuzz. The lowest bit of the first byte says whether the request was a HEAD, the others
// where the input is cut.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "proxy/http1/parser.h"
#include "proxy/http1/serialize.h"
#include "tests/fuzz/require.h"

namespace sallyport::http1 {
namespace {

using fuzz::require;

struct Parsed {
  Parse result = Parse::incomplete;
  ResponseInfo info;
  request::ResponseHead head;
  ParseError error;
};

bool same_head(const Parsed& a, const Parsed& b) {
  return a.head.status == b.head.status && a.head.reason == b.head.reason && a.info.body == b.info.body &&
         a.info.upgrade_websocket == b.info.upgrade_websocket && a.info.informational == b.info.informational &&
         std::ranges::equal(a.head.headers, b.head.headers, [](const request::Header& x, const request::Header& y) {
           return x.name == y.name && x.value == y.value;
         });
}

// Parses a buffer that grows by `step` bytes, as one that is read into does.
void parse_growing(std::string_view text, std::size_t step, bool request_was_head, Parsed& parsed) {
  std::size_t scanned = 0;
  for (std::size_t size = 0; parsed.result == Parse::incomplete && size < text.size();) {
    size = std::min(size + step, text.size());
    parsed.result =
        parse_response(text.substr(0, size), scanned, request_was_head, parsed.info, parsed.head, parsed.error);
    require(parsed.result != Parse::complete || parsed.info.head_size <= size, "a head ends within its input");
  }
}

// Parses the first `cut` bytes in a buffer of their own, then everything.
void parse_in_two(std::string_view text, std::size_t cut, bool request_was_head, Parsed& cut_up) {
  std::size_t scanned = 0;
  const std::unique_ptr<char[]> part = std::make_unique<char[]>(cut);
  std::copy_n(text.data(), cut, part.get());
  cut_up.result = parse_response({part.get(), cut}, scanned, request_was_head, cut_up.info, cut_up.head, cut_up.error);
  if (cut_up.result != Parse::error) {
    if (cut_up.result == Parse::complete) scanned = 0;
    cut_up.result = parse_response(text, scanned, request_was_head, cut_up.info, cut_up.head, cut_up.error);
  }
}

void check_cut(const Parsed& cut_up, const Parsed& whole) {
  if (whole.result == Parse::error) {
    require(cut_up.result != Parse::complete, "what is wrong in one piece is wrong in two");
    require(cut_up.result == Parse::incomplete || cut_up.error.text == whole.error.text, "the first error is reported");
    return;
  }
  require(cut_up.result == whole.result, "a cut changes nothing");
  if (whole.result != Parse::complete) return;
  require(same_head(whole, cut_up) && whole.info.head_size == cut_up.info.head_size &&
              whole.info.content_length == cut_up.info.content_length &&
              whole.info.keep_alive == cut_up.info.keep_alive,
          "a cut changes nothing in the head");
}

void check_written_again(bool request_was_head, const Parsed& first) {
  std::string bytes;
  Framing framing{.body = first.info.body,
                  .content_length = first.info.content_length,
                  .keep_alive = first.info.keep_alive,
                  .upgrade_websocket = first.info.upgrade_websocket};
  const bool length_of_another = first.head.status == 304 || request_was_head;
  if (length_of_another && first.info.has_content_length && first.head.status >= 200) framing.body = BodyKind::length;
  require(serialize_response(bytes, first.head.status, first.head.reason, first.head.headers, framing),
          "what was parsed can be written");
  Parsed again;
  std::size_t scanned = 0;
  again.result = parse_response(bytes, scanned, request_was_head, again.info, again.head, again.error);
  if (again.result == Parse::error && bytes.size() > limits::kHeadBytesMax) return;  // grew over the cap
  require(again.result == Parse::complete, "what was written can be parsed");
  require(again.info.head_size == bytes.size(), "nothing ends the head early");
  require(same_head(first, again), "a head survives being written and read");
  require(first.info.body != BodyKind::length || again.info.content_length == first.info.content_length,
          "the length survives");
}

}  // namespace
}  // namespace sallyport::http1

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport::http1;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool request_was_head = data[0] & 1;
  Parsed whole;
  std::size_t scanned = 0;
  whole.result = parse_response(text, scanned, request_was_head, whole.info, whole.head, whole.error);
  Parsed in_two, growing;
  parse_in_two(text, text.size() * data[0] / 256, request_was_head, in_two);
  check_cut(in_two, whole);
  parse_growing(text, data[0] / 2 % 16 + 1u, request_was_head, growing);
  check_cut(growing, whole);
  if (whole.result == Parse::complete) check_written_again(request_was_head, whole);
  return 0;
}
