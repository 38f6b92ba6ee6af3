#pragma once
// /metrics, /healthz and /readyz over a unix socket, on a thread of its own: a scrape never delays a request. The only
// place where Asio and Beast carry traffic so far.

#include <functional>
#include <memory>
#include <string>

#include "base/error.h"

namespace sallyport::guard {

class Admin {
 public:
  struct Pages {
    std::function<std::string()> metrics;
    std::function<bool()> ready;
  };
  // Makes the socket with mode 0600; one that a dead guard left behind is replaced, one that is in use is an error.
  // Only processes of this user (SO_PEERCRED) and root are answered.
  static Result<std::unique_ptr<Admin>> serve(const std::string& socket_path, Pages pages);
  ~Admin();  // stops, and removes the socket

 private:
  struct Impl;
  explicit Admin(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::guard
