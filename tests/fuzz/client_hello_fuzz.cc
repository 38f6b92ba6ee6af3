// The ClientHello parser against itself (whole, byte by byte) and against OpenSSL: a name that OpenSSL would act on is
// the name that we show, or the hello is refused.

#include <openssl/ssl.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "policy-engine/request/host.h"
#include "proxy/net/client_hello.h"

namespace {

using sallyport::net::ClientHelloParser;
using sallyport::net::HelloState;

void require(bool condition) {
  if (!condition) std::abort();
}

// What OpenSSL makes of the bytes.
struct Seen {
  bool accepted = false;  // all extensions of the hello have been read
  std::optional<std::string> name;
};

int on_server_name(SSL* ssl, int* /*alert*/, void* argument) {
  auto& seen = *static_cast<Seen*>(argument);
  seen.accepted = true;
  if (const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)) seen.name = name;
  return SSL_TLSEXT_ERR_ALERT_FATAL;  // nothing more is to be learnt from this handshake
}

SSL_CTX* context() {
  static SSL_CTX* const shared = [] {
    SSL_CTX* made = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_min_proto_version(made, TLS1_VERSION);
    SSL_CTX_set_security_level(made, 0);
    SSL_CTX_set_tlsext_servername_callback(made, on_server_name);
    return made;
  }();
  return shared;
}

Seen ask_openssl(std::string_view bytes) {
  Seen seen;
  SSL_CTX_set_tlsext_servername_arg(context(), &seen);
  const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context()), SSL_free);
  BIO* input = BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size()));
  BIO_set_mem_eof_return(input, -1);
  SSL_set_bio(ssl.get(), input, BIO_new(BIO_s_mem()));
  SSL_set_accept_state(ssl.get());
  SSL_do_handshake(ssl.get());
  return seen;
}

void compare(const Seen& seen, const sallyport::net::ClientHello& ours) {
  if (!seen.accepted) return;
  require(seen.name.has_value() == ours.sni.has_value());
  if (!seen.name) return;
  const auto host = sallyport::request::parse_host(*seen.name, false);
  require(host.has_value() && *host == *ours.sni);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  ClientHelloParser whole;
  const HelloState state = whole.advance(bytes);

  ClientHelloParser stepwise;
  for (std::size_t length = 0; length <= size; ++length) {
    const HelloState step = stepwise.advance(bytes.substr(0, length));
    if (step == HelloState::complete) require(length == whole.hello().bytes_consumed);
    if (step != HelloState::incomplete) break;
  }
  require(stepwise.advance(bytes) == state);
  require(stepwise.problem() == whole.problem());
  if (state != HelloState::complete) return 0;

  require(stepwise.hello().sni == whole.hello().sni);
  require(stepwise.hello().alpn == whole.hello().alpn);
  require(whole.hello().bytes_consumed <= size);
  compare(ask_openssl(bytes), whole.hello());
  return 0;
}
