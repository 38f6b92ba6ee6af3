#pragma once
// One call of the controller's admin API (docs/openapi.yaml), for the commands of people.

#include <string>
#include <string_view>

#include "base/error.h"

namespace sallyport::cli {

struct ControllerAccess {
  std::string url;      // https://HOST:PORT
  std::string ca_file;  // PEM; empty: the system's roots
  std::string token;
};

struct ControllerCall {
  std::string method = "GET";
  std::string target;  // "/v1/guards?application=shop"
  std::string body = {};
  std::string content_type = {};
  std::string if_match = {};
};

struct ControllerReply {
  int status = 0;
  std::string etag;
  std::string row;  // behind which the next call goes on
  std::string body;
};

// Waits for the whole answer: limits::kControllerCallTimeout. Errors name the URL and what failed: it can't be reached,
// its certificate is not good, it says no HTTP.
Result<ControllerReply> call_controller(const ControllerAccess& access, const ControllerCall& call);

}  // namespace sallyport::cli
