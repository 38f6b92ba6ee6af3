#pragma once
// Service account tokens: what a pod's guard shows to be believed, and Kubernetes says of it (TokenReview,
// authentication.k8s.io/v1).

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "proxy/http1/https_call.h"

namespace sallyport::controller {

struct ReviewedToken {
  std::string account;       // "NAMESPACE/NAME" of the service account
  std::string pod, pod_uid;  // that the token is bound to, and ends with; empty: to none
};

// The request's body for a token, and the answer to it. ErrorKind::refused: Kubernetes does not know the token, it is
// for another audience, or not a service account's; malformed: it is no TokenReview.
std::string review_request(std::string_view token, std::string_view audience);
Result<ReviewedToken> read_review(std::string_view json, std::string_view audience);

struct TokenReviewOptions {
  http1::HttpsServer api_server;
  std::string token_file;  // the controller's own, by which the API server believes it; read anew for each call
  std::string audience;    // that guards' tokens must be for
};

// Asks the API server, on a thread of its own. What it has confirmed is believed for limits::kTokenReviewKept, what it
// has refused is asked about again.
class TokenReviewer {
 public:
  static Result<std::unique_ptr<TokenReviewer>> start(TokenReviewOptions options);
  ~TokenReviewer();

  // Any thread. `done` is called once, on the reviewer's thread, and not after stop(). Errors are read_review's, and
  // ErrorKind::unavailable: the API server can't be asked, or too many wait; nobody is believed meanwhile.
  using Done = std::function<void(const Result<ReviewedToken>&)>;
  void review(std::string token, Done done);
  void stop();

 private:
  struct Impl;
  explicit TokenReviewer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sallyport::controller
