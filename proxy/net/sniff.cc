#include "proxy/net/sniff.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/limits.h"

namespace sallyport::net {
namespace {

constexpr std::string_view kH2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// tchar of RFC 9110 section 5.6.2.
bool is_token_byte(char byte) {
  if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9')) return true;
  return byte != '\0' && std::strchr("!#$%&'*+-.^_`|~", byte) != nullptr;
}

Protocol classify_text(std::string_view bytes) {
  // SSH's greeting (RFC 4253 section 4.2) may have a space where a method would end.
  if (bytes.starts_with("SSH-")) return Protocol::opaque;
  const std::string_view head = bytes.substr(0, limits::kMethodBytesMax + 1);
  const auto end = std::ranges::find_if_not(head, is_token_byte);
  if (end == head.end()) return head.size() > limits::kMethodBytesMax ? Protocol::opaque : Protocol::need_more;
  return *end == ' ' && end != head.begin() ? Protocol::http1 : Protocol::opaque;
}

std::unexpected<Error> failure(ErrorKind kind, std::string text) {
  return fail(ErrorSource::downstream, kind, std::move(text));
}

std::unexpected<Error> receive_failure(int error) {
  const ErrorKind kind = error == ECONNRESET ? ErrorKind::reset : ErrorKind::closed;
  return failure(kind, std::string("the connection broke before its protocol was known: ") + std::strerror(error));
}

// The client is silent. Nothing said: it may wait for the server to speak first. A few bytes that decide nothing: no
// protocol of ours. Part of a ClientHello: nothing can be decided, so the connection fails.
Result<Sniffed> after_timeout(Sniffed result) {
  if (result.protocol == Protocol::tls) {
    return failure(ErrorKind::timeout,
                   "the TLS ClientHello did not arrive in time: " + std::to_string(result.bytes) + " bytes of it came");
  }
  result.protocol = Protocol::opaque;
  result.server_first = result.bytes == 0;
  return result;
}

// Looks at what has arrived; true when nothing more is needed. A TLS stream is judged by the parser alone.
Result<bool> decide(std::string_view bytes, ClientHelloParser& parser, Sniffed& result) {
  if (result.protocol != Protocol::tls) result.protocol = classify(bytes);
  if (result.protocol != Protocol::tls) return result.protocol != Protocol::need_more;
  switch (parser.advance(bytes)) {
    case HelloState::incomplete:
      return false;
    case HelloState::complete:
      result.hello = std::move(parser.hello());
      return true;
    case HelloState::not_tls:  // classify() has seen to it
    case HelloState::malformed:
      break;
  }
  return failure(ErrorKind::malformed, parser.problem());
}

}  // namespace

Protocol classify(std::string_view bytes) {
  if (bytes.empty()) return Protocol::need_more;
  switch (check_tls_prefix(bytes)) {
    case HelloState::incomplete:
      return Protocol::need_more;
    case HelloState::complete:
    case HelloState::malformed:
      return Protocol::tls;
    case HelloState::not_tls:
      break;
  }
  if (bytes.starts_with(kH2Preface)) return Protocol::h2_preface;
  if (kH2Preface.starts_with(bytes)) return Protocol::need_more;
  return classify_text(bytes);
}

Task<Result<Sniffed>> sniff(Socket& socket, std::span<char> buffer, Deadline deadline) {
  Sniffed result{.protocol = Protocol::need_more};
  ClientHelloParser parser;
  while (result.bytes < buffer.size()) {
    const Wait wait = co_await socket.wait_readable(deadline);
    if (wait == Wait::cancelled) co_return failure(ErrorKind::cancelled, "given up before the protocol was known");
    if (wait == Wait::timeout) co_return after_timeout(std::move(result));
    const ssize_t count = ::recv(socket.fd(), buffer.data() + result.bytes, buffer.size() - result.bytes, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (count < 0) co_return receive_failure(errno);
    if (count == 0) co_return failure(ErrorKind::closed, "the client closed before its protocol was known");
    result.bytes += static_cast<std::size_t>(count);
    const Result<bool> decided = decide({buffer.data(), result.bytes}, parser, result);
    if (!decided) co_return std::unexpected(decided.error());
    if (*decided) co_return std::move(result);
  }
  co_return failure(ErrorKind::malformed,
                    "the TLS ClientHello is longer than " + std::to_string(buffer.size()) + " bytes with its records");
}

}  // namespace sallyport::net
