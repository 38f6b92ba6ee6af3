// Requests: the result does not depend on how the input was cut, and what was accepted survives being written and read
// again. The first byte of an input says where it is cut, and by how many bytes it grows.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "proxy/http1/parser.h"
#include "proxy/http1/serialize.h"
#include "tests/fuzz/require.h"

namespace sallyport::http1 {
namespace {

using fuzz::require;

struct Parsed {
  Parse result = Parse::incomplete;
  RequestInfo info;
  request::RequestHead head;
  ParseError error;
};

bool same_headers(const request::HeaderList& a, const request::HeaderList& b) {
  return std::ranges::equal(
      a, b, [](const request::Header& x, const request::Header& y) { return x.name == y.name && x.value == y.value; });
}

bool same_head(const Parsed& a, const Parsed& b) {
  return a.head.method == b.head.method && a.head.target == b.head.target && a.head.authority == b.head.authority &&
         same_headers(a.head.headers, b.head.headers) && a.info.body == b.info.body &&
         a.info.content_length == b.info.content_length && a.info.expect_continue == b.info.expect_continue &&
         a.info.upgrade_websocket == b.info.upgrade_websocket && a.info.accepts_trailers == b.info.accepts_trailers;
}

// Parses the first `cut` bytes in a buffer of their own, then everything.
void parse_in_two(std::string_view text, std::size_t cut, Parsed& parsed) {
  std::size_t scanned = 0;
  const std::unique_ptr<char[]> part = std::make_unique<char[]>(cut);
  std::copy_n(text.data(), cut, part.get());
  parsed.result = parse_request({part.get(), cut}, scanned, parsed.info, parsed.head, parsed.error);
  if (parsed.result == Parse::complete) {
    require(parsed.info.head_size <= cut, "a head ends within its input");
    parsed.result = Parse::incomplete;
    scanned = 0;
  }
  if (parsed.result == Parse::error) return;
  parsed.result = parse_request(text, scanned, parsed.info, parsed.head, parsed.error);
}

// Parses a buffer that grows by `step` bytes, as one that is read into does.
void parse_growing(std::string_view text, std::size_t step, Parsed& parsed) {
  std::size_t scanned = 0;
  for (std::size_t size = 0; parsed.result == Parse::incomplete && size < text.size();) {
    size = std::min(size + step, text.size());
    parsed.result = parse_request(text.substr(0, size), scanned, parsed.info, parsed.head, parsed.error);
    require(parsed.result != Parse::complete || parsed.info.head_size <= size, "a head ends within its input");
  }
}

void check_cut(const Parsed& cut_up, const Parsed& whole) {
  if (whole.result == Parse::error) {
    // Bytes that are wrong may be found later, when the input grows.
    require(cut_up.result != Parse::complete, "what is wrong in one piece is wrong in two");
    require(cut_up.result == Parse::incomplete || cut_up.error.text == whole.error.text, "the first error is reported");
    return;
  }
  require(cut_up.result == whole.result, "a cut changes nothing");
  if (whole.result != Parse::complete) return;
  require(same_head(whole, cut_up) && whole.info.head_size == cut_up.info.head_size &&
              whole.info.keep_alive == cut_up.info.keep_alive && whole.info.other_upgrade == cut_up.info.other_upgrade,
          "a cut changes nothing in the head");
}

void check_written_again(const Parsed& first) {
  std::string bytes;
  const Framing framing{.body = first.info.body,
                        .content_length = first.info.content_length,
                        .keep_alive = first.info.keep_alive,
                        .upgrade_websocket = first.info.upgrade_websocket,
                        .te_trailers = first.info.accepts_trailers};
  if (!serialize_request(bytes, first.head.method, first.head.target, first.head.authority, first.head.headers,
                         framing)) {
    // Only Host is not checked by the parser: parse_authority() does that.
    const bool visible = !first.head.authority.empty() &&
                         std::ranges::all_of(first.head.authority, [](char c) { return c >= 0x21 && c <= 0x7e; });
    require(!visible, "what was parsed can be written");
    return;
  }
  Parsed again;
  std::size_t scanned = 0;
  again.result = parse_request(bytes, scanned, again.info, again.head, again.error);
  // A head close to the cap may grow over it.
  if (again.result == Parse::error && again.error.reason == Reason::head_too_large) return;
  require(again.result == Parse::complete, "what was written can be parsed");
  require(again.info.head_size == bytes.size(), "nothing ends the head early");
  require(same_head(first, again), "a head survives being written and read");
  require(first.info.upgrade_websocket || again.info.keep_alive == first.info.keep_alive, "keep-alive survives");
}

}  // namespace
}  // namespace sallyport::http1

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport::http1;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  Parsed whole;
  std::size_t scanned = 0;
  whole.result = parse_request(text, scanned, whole.info, whole.head, whole.error);
  Parsed in_two, growing;
  parse_in_two(text, text.size() * data[0] / 256, in_two);
  check_cut(in_two, whole);
  parse_growing(text, data[0] % 16 + 1u, growing);
  check_cut(growing, whole);
  if (whole.result == Parse::complete) check_written_again(whole);
  return 0;
}
