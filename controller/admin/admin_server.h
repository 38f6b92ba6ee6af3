#pragma once
// HTTP/1.1 for administration: TLS, or plain for what scrapes metrics. One thread; each request is answered by a call,
// and others wait until that has returned: those who administer are few.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "proxy/net/loop.h"
#include "proxy/net/task.h"

namespace sallyport::controller {

struct AdminRequest {
  std::string method;
  std::vector<std::string> path;             // segments, decoded: /v1/guards is {"v1", "guards"}
  std::map<std::string, std::string> query;  // decoded
  std::string token;                         // of "Authorization: Bearer"; empty: none
  std::string if_match;
  std::string body;
  std::string target;      // as it came
  bool passed_on = false;  // by another controller, which wants to know what this one has
};

struct AdminAnswer {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};  // besides Content-Type; names are literals
};

// What a controller marks a call with that it passes on.
inline constexpr std::string_view kPassedOnHeader = "sallyport-passed-on";

// Takes a request's target, as "/v1/a?b=c", apart. False: it has no canonical reading.
bool read_target(std::string_view target, AdminRequest& request);

class AdminServer {
 public:
  struct Options {
    std::string certificates_pem, key_pem;  // empty: without TLS
    // Before the body is read: what refuses the request, or nothing.
    std::function<std::optional<AdminAnswer>(const AdminRequest&)> check;
    std::function<AdminAnswer(const AdminRequest&)> answer;
    // In its place, where the answer has to be waited for: a coroutine on the server's loop, whose thread answers
    // others meanwhile. The request lives as long.
    std::function<net::Task<AdminAnswer>(net::Loop&, const AdminRequest&)> answer_later = {};
    std::function<void(const std::string&)> on_trouble = {};
  };
  static Result<std::unique_ptr<AdminServer>> start(Options options, std::vector<UniqueFd> listening);
  // Another certificate, for connections from now on; it had one at the start. Fails, and leaves the one before, as
  // start() does. On the thread that started it.
  Result<void> show(const std::string& certificates_pem, const std::string& key_pem);
  // On the thread that started it, as OpenSSL keeps for each thread what it needs of a context.
  ~AdminServer();

 private:
  struct Impl;
  explicit AdminServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::controller
