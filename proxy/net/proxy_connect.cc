#include "proxy/net/proxy_connect.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/random.h"

namespace sallyport::net {
namespace {

std::unexpected<UpstreamFailure> failed(const document::UpstreamProxy& proxy, const std::string& why) {
  return std::unexpected(UpstreamFailure{
      Reason::upstream_proxy, "the upstream proxy " + proxy.host + " port " + std::to_string(proxy.port) + " " + why});
}

std::string base64_of(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // EVP_EncodeBlock ends it with a NUL
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

void wipe(std::string& text) { OPENSSL_cleanse(text.data(), text.size()); }

std::string request_for(const document::UpstreamProxy& proxy, const std::string& authority) {
  std::string text;
  text.reserve(limits::kSecretBytesMax * 2 + 1'024);  // never moved: a copy of the credentials would stay behind
  text += "CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\nVia: 1.1 " + via_pseudonym() + "\r\n";
  if (proxy.needs_credentials) {
    std::string encoded = base64_of(proxy.credentials.view());
    text += "Proxy-Authorization: Basic ";
    text += encoded;
    text += "\r\n";
    wipe(encoded);
  }
  text += "\r\n";
  return text;
}

// The answer's head, and nothing behind it: what has arrived is looked at, and only the head is taken out.
Task<Result<std::string>> read_head(Stream& stream, Deadline deadline) {
  constexpr std::string_view kEnd = "\r\n\r\n";
  std::string head;
  std::array<char, 1'024> seen;
  while (head.size() < limits::kProxyAnswerBytesMax) {
    // The socket itself: the stream, past which the bytes are taken here, would say that there may be more, and not
    // wait.
    const Wait wait = co_await stream.socket().wait_readable(deadline);
    if (wait == Wait::timeout) co_return fail(ErrorSource::upstream, ErrorKind::timeout, "did not answer in time");
    if (wait == Wait::cancelled) co_return fail(ErrorSource::upstream, ErrorKind::cancelled, "was given up");
    const int fd = stream.socket().fd();
    const ssize_t count = ::recv(fd, seen.data(), seen.size(), MSG_PEEK);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (count <= 0) co_return fail(ErrorSource::upstream, ErrorKind::closed, "closed the connection without an answer");
    const std::size_t before = head.size();
    head.append(seen.data(), static_cast<std::size_t>(count));
    const std::size_t end = head.find(kEnd, before < kEnd.size() ? 0 : before - kEnd.size() + 1);
    if (end != std::string::npos) head.resize(end + kEnd.size());
    std::size_t taken = 0;
    while (taken < head.size() - before) {
      const ssize_t took = ::recv(fd, seen.data(), head.size() - before - taken, 0);
      if (took <= 0)
        co_return fail(ErrorSource::upstream, ErrorKind::closed, "closed the connection within its answer");
      taken += static_cast<std::size_t>(took);
    }
    if (end != std::string::npos) co_return head;
  }
  co_return fail(ErrorSource::upstream, ErrorKind::limit, "sent an answer without end");
}

// The status of a head, if its first line is one of HTTP/1.
std::optional<int> status_of(std::string_view head) {
  if (!head.starts_with("HTTP/1.0 ") && !head.starts_with("HTTP/1.1 ")) return std::nullopt;
  const std::string_view digits = head.substr(9, 3);
  const bool good = digits.size() == 3 && std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; });
  if (!good || (head[12] != ' ' && head[12] != '\r')) return std::nullopt;
  return (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
}

}  // namespace

const std::string& via_pseudonym() {
  static const std::string pseudonym = [] {
    std::array<unsigned char, 8> bytes{};
    // Without randomness guards would take each other for themselves where one asks another: fails closed.
    [[maybe_unused]] const bool filled = random_bytes(bytes);
    std::string text = "sallyport-";
    for (const unsigned char byte : bytes) {
      for (const int digit : {byte >> 4, byte & 15}) text += "0123456789abcdef"[digit];
    }
    return text;
  }();
  return pseudonym;
}

Task<std::expected<void, UpstreamFailure>> connect_through(Stream& stream, const document::UpstreamProxy& proxy,
                                                           std::string authority, Deadline deadline) {
  if (proxy.needs_credentials && proxy.credentials.empty()) {
    // Fails closed: without them the proxy might let the connection pass in another name.
    co_return std::unexpected(UpstreamFailure{
        Reason::credential_unavailable, "the credentials of the upstream proxy " + proxy.host + " were not read"});
  }
  std::string request = request_for(proxy, authority);
  Result<void> sent = co_await stream.write_all(request, deadline);
  wipe(request);
  if (!sent) co_return failed(proxy, "could not be asked: " + sent.error().text);
  Result<std::string> head = co_await read_head(stream, deadline);
  if (!head) co_return failed(proxy, head.error().text);
  const std::optional<int> status = status_of(*head);
  if (!status) co_return failed(proxy, "did not answer in HTTP/1");
  if (*status == 407) {
    co_return failed(proxy, proxy.needs_credentials ? "refused the credentials (407)" : "wants credentials (407)");
  }
  // A 1xx would be followed by another answer, and whoever sends one to CONNECT is not understood.
  if (*status / 100 != 2) {
    co_return failed(proxy, "would not connect to " + authority + ": it answered " + std::to_string(*status));
  }
  co_return std::expected<void, UpstreamFailure>();
}

}  // namespace sallyport::net
