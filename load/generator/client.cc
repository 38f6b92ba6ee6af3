#include "load/generator/client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <vector>

namespace sallyport::load {
namespace {

constexpr timeval kIoTimeout{.tv_sec = 30, .tv_usec = 0};
constexpr std::size_t kHeadBytesMax = 8'192;
constexpr std::size_t kBulkBytes = 64 * 1024;

std::unexpected<Error> failure(const std::string& what) {
  std::array<char, 256> reason{};
  const unsigned long code = ERR_get_error();
  if (code != 0) ERR_error_string_n(code, reason.data(), reason.size());
  const std::string why = code != 0 ? reason.data() : std::strerror(errno);
  return fail(ErrorSource::upstream, ErrorKind::refused, what + ": " + why);
}

Result<UniqueFd> dial(const Target& target) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(target.port);
  if (::inet_pton(AF_INET, target.address.c_str(), &address.sin_addr) != 1) return failure("address " + target.address);
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket.get() < 0) return failure("socket");
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kIoTimeout, sizeof kIoTimeout);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kIoTimeout, sizeof kIoTimeout);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return failure("connect to " + target.address);
  }
  return socket;
}

// The value of Content-Length in a response head of the benchmark's own origin, relayed by whatever is measured.
Result<std::uint64_t> content_length(std::string_view head) {
  if (!head.starts_with("HTTP/1.1 200")) {
    return fail(ErrorSource::upstream, ErrorKind::malformed, "answer: " + std::string(head.substr(0, head.find('\r'))));
  }
  std::string lower(head);
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  constexpr std::string_view kField = "\r\ncontent-length:";
  const std::size_t at = lower.find(kField);
  std::uint64_t length = 0;
  if (at != std::string::npos) {
    const std::size_t digits = lower.find_first_not_of(' ', at + kField.size());
    const auto parsed = std::from_chars(lower.data() + digits, lower.data() + lower.size(), length);
    if (parsed.ec == std::errc()) return length;
  }
  return fail(ErrorSource::upstream, ErrorKind::malformed, "no Content-Length in the answer");
}

}  // namespace

Result<Context> make_context(const std::string& ca_file) {
  Context context(SSL_CTX_new(TLS_client_method()));
  if (!context) return failure("SSL_CTX_new");
  if (SSL_CTX_load_verify_locations(context.get(), ca_file.c_str(), nullptr) != 1)
    return failure("roots in " + ca_file);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  return context;
}

Result<void> offer_http2(SSL_CTX* context) {
  constexpr std::array<unsigned char, 3> kProtocols{2, 'h', '2'};
  // This function of OpenSSL's returns 0 for success.
  if (SSL_CTX_set_alpn_protos(context, kProtocols.data(), kProtocols.size()) != 0) return failure("ALPN");
  return {};
}

Result<Client> Client::connect(SSL_CTX* context, const Target& target, SSL_SESSION* session) {
  Result<UniqueFd> socket = dial(target);
  if (!socket) return std::unexpected(socket.error());
  std::unique_ptr<SSL, SslFree> ssl(SSL_new(context));
  if (!ssl || SSL_set_fd(ssl.get(), socket->get()) != 1 ||
      SSL_set_tlsext_host_name(ssl.get(), target.name.c_str()) != 1 ||
      SSL_set1_host(ssl.get(), target.name.c_str()) != 1) {
    return failure("SSL_new");
  }
  if (session != nullptr) SSL_set_session(ssl.get(), session);
  if (SSL_connect(ssl.get()) != 1) return failure("handshake with " + target.address);
  return Client(std::move(*socket), std::move(ssl), target.name);
}

Result<void> Client::send(std::string_view path) {
  return write("GET " + std::string(path) + " HTTP/1.1\r\nHost: " + host_ +
               "\r\nUser-Agent: sallyport-load\r\nAccept: */*\r\n\r\n");
}

Result<std::uint64_t> Client::receive() {
  thread_local std::vector<char> buffer(kBulkBytes);
  std::size_t filled = 0;
  std::size_t head_bytes = std::string_view::npos;
  while (head_bytes == std::string_view::npos) {
    if (filled >= kHeadBytesMax) return fail(ErrorSource::upstream, ErrorKind::limit, "the answer's head is too large");
    const Result<std::size_t> got = read(buffer.data() + filled, buffer.size() - filled);
    if (!got) return std::unexpected(got.error());
    filled += *got;
    head_bytes = std::string_view(buffer.data(), filled).find("\r\n\r\n");
  }
  const Result<std::uint64_t> length = content_length(std::string_view(buffer.data(), head_bytes));
  if (!length) return length;
  std::uint64_t left = *length - std::min<std::uint64_t>(*length, filled - head_bytes - 4);
  while (left > 0) {
    const Result<std::size_t> got =
        read(buffer.data(), static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer.size())));
    if (!got) return std::unexpected(got.error());
    left -= *got;
  }
  return length;
}

Result<void> Client::upload(std::string_view path, std::uint64_t bytes) {
  Result<void> written =
      write("POST " + std::string(path) + " HTTP/1.1\r\nHost: " + host_ +
            "\r\nContent-Type: application/octet-stream\r\nContent-Length: " + std::to_string(bytes) + "\r\n\r\n");
  const std::string zeros(kBulkBytes, '\0');
  for (std::uint64_t left = bytes; written && left > 0;) {
    const std::size_t chunk = static_cast<std::size_t>(std::min<std::uint64_t>(left, zeros.size()));
    written = write(std::string_view(zeros).substr(0, chunk));
    left -= chunk;
  }
  if (!written) return written;
  const Result<std::uint64_t> answer = receive();
  return answer ? Result<void>() : std::unexpected(answer.error());
}

void Client::send_at_once() {
  const int on = 1;
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool Client::agreed_on_http2() const {
  const unsigned char* protocol = nullptr;
  unsigned bytes = 0;
  SSL_get0_alpn_selected(ssl_.get(), &protocol, &bytes);
  return bytes == 2 && std::memcmp(protocol, "h2", 2) == 0;
}

Session Client::close() {
  SSL_shutdown(ssl_.get());
  Session session(SSL_get1_session(ssl_.get()));
  socket_.reset();
  return session && SSL_SESSION_is_resumable(session.get()) == 1 ? std::move(session) : nullptr;
}

Result<void> Client::write(std::string_view bytes) {
  std::size_t written = 0;
  if (SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &written) != 1) return failure("write");
  return {};
}

Result<std::size_t> Client::read(char* to, std::size_t bytes) {
  std::size_t got = 0;
  if (SSL_read_ex(ssl_.get(), to, bytes, &got) != 1) return failure("read");
  return got;
}

}  // namespace sallyport::load
