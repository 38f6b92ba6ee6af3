// The two sides of CONNECT: what a client says to the explicit proxy, and what a proxy of the policy answers. The first
// byte of an input says which of them it is, and where it is cut.

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "proxy/guard/explicit_proxy.h"
#include "proxy/http1/parser.h"
#include "proxy/net/proxy_connect.h"
#include "tests/fuzz/require.h"

namespace sallyport {
namespace {

using fuzz::require;

const net::LocalAddr& here() {
  static const net::LocalAddr address{*request::IpAddress::parse("127.0.0.1"), 3128};
  return address;
}

struct Parsed {
  http1::Parse result = http1::Parse::incomplete;
  http1::RequestInfo info;
  request::RequestHead head;
  http1::ParseError error;
};

// Reads a buffer that grows by `step` bytes, each time in a place of its own.
void read_growing(std::string_view text, std::size_t step, Parsed& parsed, std::string& kept) {
  std::size_t scanned = 0;
  for (std::size_t size = 0; parsed.result == http1::Parse::incomplete && size < text.size();) {
    size = std::min(size + step, text.size());
    kept.assign(text.substr(0, size));
    kept.shrink_to_fit();
    parsed.result = http1::parse_connect(kept, scanned, parsed.info, parsed.head, parsed.error);
  }
}

void check_cut(std::string_view text, std::size_t step, const Parsed& whole) {
  Parsed cut_up;
  std::string kept;
  read_growing(text, step, cut_up, kept);
  if (whole.result == http1::Parse::error) {
    require(cut_up.result != http1::Parse::complete, "what is wrong in one piece is wrong in many");
    return;
  }
  require(cut_up.result == whole.result, "a cut changes nothing");
  if (whole.result != http1::Parse::complete) return;
  require(cut_up.info.head_size == whole.info.head_size && cut_up.head.target == whole.head.target &&
              cut_up.head.authority == whole.head.authority && cut_up.head.headers.size() == whole.head.headers.size(),
          "a cut changes nothing in the head");
}

// What a person would write for it.
std::string authority_of(const request::Host& host, std::uint16_t port) {
  const bool brackets = host.name.find(':') != std::string::npos;
  return (brackets ? "[" + host.name + "]" : host.name) + ":" + std::to_string(port);
}

bool is_loopback(const request::Host& host) {
  return host.address && (host.name.starts_with("127.") || host.name == "::1" || host.name == "0.0.0.0");
}

void check_connect(const Parsed& parsed) {
  require(parsed.head.method == "CONNECT", "nothing else is taken for a CONNECT");
  require(parsed.info.body == http1::BodyKind::none || parsed.info.content_length == 0, "a CONNECT has no content");
  require(!parsed.info.upgrade_websocket, "a CONNECT is no WebSocket");
  const auto found = guard::destination_of_connect(parsed.head, here());
  if (!found) return;
  require(found->port != 0, "a destination has a port");
  require(!(is_loopback(found->host) && found->port == here().port), "the guard's own listener is no destination");
  const std::string authority = authority_of(found->host, found->port);
  const auto again = request::parse_authority(authority);
  require(again && again->host == found->host && again->port == found->port, "a destination has one spelling");
  require(request::name_equals(parsed.head.target.substr(parsed.head.target.rfind(':')),
                               authority.substr(authority.rfind(':'))),
          "the port is the one that the client wrote");
  if (parsed.head.authority.empty()) return;
  const auto host = request::parse_authority(parsed.head.authority);
  require(host && host->host == found->host && host->port.value_or(found->port) == found->port,
          "Host says the same as the target");
}

void check_absolute_form(const Parsed& parsed) {
  const auto facts = guard::facts_of_absolute_form(parsed.head, here());
  if (!facts) return;
  require(facts->scheme == request::Scheme::http && facts->one_host, "it is plain HTTP for one host");
  require(request::name_equals(parsed.head.target.substr(0, 7), "http://"), "it was said to be that");
  require(!(is_loopback(facts->host) && facts->port == here().port), "the guard's own listener is no destination");
}

void check_client(std::string_view text, unsigned cut) {
  Parsed connect, request;
  std::size_t scanned = 0;
  connect.result = http1::parse_connect(text, scanned, connect.info, connect.head, connect.error);
  check_cut(text, cut % 16 + 1u, connect);
  scanned = 0;
  request.result = http1::parse_request(text, scanned, request.info, request.head, request.error);
  require(connect.result != http1::Parse::complete || request.result == http1::Parse::error,
          "a CONNECT is no other request");
  if (connect.result == http1::Parse::complete) check_connect(connect);
  if (request.result == http1::Parse::complete) check_absolute_form(request);
}

// The other side of the connection to a proxy: says what the input says, and goes.
net::Task<void> answer(net::Loop& loop, int fd, std::string_view text, std::size_t step, std::string& asked) {
  std::array<char, 1'024> bytes;
  for (ssize_t count = 0; (count = ::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT)) > 0;) {
    asked.append(bytes.data(), static_cast<std::size_t>(count));
  }
  for (std::size_t at = 0; at < text.size(); at += step) {
    const std::string_view piece = text.substr(at, step);
    const ssize_t sent = ::send(fd, piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent != static_cast<ssize_t>(piece.size())) break;  // nobody reads any more
    co_await loop.yield();
  }
  ::shutdown(fd, SHUT_WR);
}

struct Answered {
  bool accepted = false;
  Reason reason = Reason::none;
  std::string left;  // what was not read of the connection
};

net::Task<void> connect_and_stop(net::Loop& loop, net::Stream& stream, const document::UpstreamProxy& proxy,
                                 Answered& answered) {
  const auto done =
      co_await net::connect_through(stream, proxy, "server.example.com:443", loop.in(std::chrono::seconds(30)));
  answered.accepted = done.has_value();
  if (!done) answered.reason = done.error().reason;
  std::array<char, 1'024> bytes;
  while (true) {
    const auto count = co_await stream.read_some(bytes, loop.in(std::chrono::seconds(30)));
    if (!count || *count == 0) break;
    answered.left.append(bytes.data(), *count);
  }
  loop.stop();
}

// What the bytes mean: the size of a head that lets the connection through, or nothing.
std::optional<std::size_t> good_answer(std::string_view text) {
  const std::size_t end = text.find("\r\n\r\n");
  if (end == std::string_view::npos) return std::nullopt;
  const auto digit = [&](std::size_t at) { return text[at] >= '0' && text[at] <= '9'; };
  if (end < 12 || text.substr(0, 7) != "HTTP/1." || (text[7] != '0' && text[7] != '1') || text[8] != ' ') {
    return std::nullopt;
  }
  if (text[9] != '2' || !digit(10) || !digit(11) || (text[12] != ' ' && text[12] != '\r')) return std::nullopt;
  return end + 4;
}

void check_proxy(std::string_view text, unsigned cut) {
  int ends[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0, "there are sockets");
  const UniqueFd far(ends[1]);
  document::UpstreamProxy proxy;
  proxy.host = "proxy.example.com";
  proxy.port = 3128;
  net::Loop loop;
  Answered answered;
  std::string asked;
  {
    net::Stream stream(loop, UniqueFd(ends[0]), ErrorSource::upstream);
    loop.spawn(connect_and_stop(loop, stream, proxy, answered));
    // A hundred pieces at most: each costs a turn of the loop.
    const std::size_t step = cut == 0 ? text.size() + 1 : std::max<std::size_t>(cut, text.size() / 100);
    loop.spawn(answer(loop, far.get(), text, step, asked));
    loop.run();
    loop.drop_tasks();
  }
  require(asked == "CONNECT server.example.com:443 HTTP/1.1\r\nHost: server.example.com:443\r\nVia: 1.1 " +
                       net::via_pseudonym() + "\r\n\r\n",
          "the proxy is asked for the server, and for nothing else");
  const std::optional<std::size_t> head = good_answer(text);
  require(!answered.accepted || head, "only an answer of 2xx opens the tunnel");
  if (answered.accepted)
    require(answered.left == text.substr(*head), "the first byte behind the answer is the server's");
  if (!answered.accepted) require(answered.reason == Reason::upstream_proxy, "the record says that it was the proxy");
  if (head && *head <= limits::kProxyAnswerBytesMax) require(answered.accepted, "a good answer opens the tunnel");
}

}  // namespace
}  // namespace sallyport

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if ((data[0] & 1) != 0) {
    sallyport::check_proxy(text, data[0] >> 1);
  } else {
    sallyport::check_client(text, data[0] >> 1);
  }
  return 0;
}
