#pragma once
// One call over HTTPS, with a connection of its own and the whole answer in memory: of an API that programs of this
// project ask, not of a function's traffic.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "ca/openssl_ptr.h"
#include "policy-engine/document/snapshot.h"
#include "proxy/net/loop.h"

namespace sallyport::net {
class Resolver;
class UpstreamTls;
}  // namespace sallyport::net

namespace sallyport::http1 {

struct HttpsServer {
  std::string host;       // canonical; its certificate must be for it
  std::string authority;  // host and port
  std::uint16_t port = 0;
  std::string ca_file;  // PEM; empty: the system's roots. Read again when it changes
};
// Of "https://HOST:PORT", or "https://HOST" for port 443. Nothing: it is another URL.
std::optional<HttpsServer> parse_https_url(std::string_view url);

struct HttpsCall {
  std::string method = "GET";
  std::string target;  // "/v1/guards?application=shop"
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
};

struct HttpsReply {
  int status = 0;
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // names as they came
  // Case does not matter; empty: there is none.
  std::string_view header(std::string_view name) const;
};

// On the loop's thread, all of it. TLS 1.2 at least.
class HttpsClient {
 public:
  static Result<std::unique_ptr<HttpsClient>> create(net::Loop& loop);
  ~HttpsClient();
  HttpsClient(const HttpsClient&) = delete;
  HttpsClient& operator=(const HttpsClient&) = delete;

  // ErrorSource::controller, ErrorKind::unavailable; the text names what could not be reached, or verified, or read.
  // An answer of more than `body_bytes_max` is such an error. What is passed lives as long as the call.
  net::Task<Result<HttpsReply>> call(const HttpsServer& server, const HttpsCall& call, std::size_t body_bytes_max,
                                     net::Deadline deadline);

 private:
  explicit HttpsClient(net::Loop& loop);
  net::Loop& loop_;
  ca::LibCtxPtr lib_;
  std::unique_ptr<net::Resolver> resolver_;
  std::unique_ptr<net::UpstreamTls> tls_;
};

}  // namespace sallyport::http1
