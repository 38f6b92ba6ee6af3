#pragma once
// A request that waits here until all of its body has come, because its API action stands in it, or a tag. Only where
// the policy asks for that; what was held is what is then sent.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "policy-engine/request/head.h"
#include "proxy/http/exchange.h"

namespace sallyport::guard {

// The bytes that all held requests of one worker may take together.
class HeldBytes {
 public:
  bool take(std::size_t bytes);  // false: limits::kActionBytesHeldMax would be passed
  void give_back(std::size_t bytes) { taken_ -= bytes; }
  std::size_t taken() const { return taken_; }

 private:
  std::size_t taken_ = 0;
};

class HeldRequest {
 public:
  explicit HeldRequest(HeldBytes& bytes) : bytes_(bytes) {}
  HeldRequest(const HeldRequest&) = delete;
  HeldRequest& operator=(const HeldRequest&) = delete;
  ~HeldRequest();  // wipes: the function's own keys may be in it

  // Reads the body of `exchange` to its end. Its head stays valid: what its views pointed to is copied before. A client
  // that waits for 100 gets one, and the server is not asked for another. Errors: of the policy (a
  // body over limits::kActionBodyBytesMax), unavailable (no room for another held request), and those of reading.
  net::Task<Result<void>> read(http::Exchange& exchange, net::Deadline deadline);

  // Another body in the place of the one that is held. Errors: as those of read() that are about its size; there is
  // none then. `body` is not of this object.
  Result<void> replace(std::string_view body);

  bool held() const { return held_; }
  std::string_view body() const { return body_; }
  // How it goes out: its length is known now, unless trailers follow, which only a stream has.
  http::BodyInfo info(const http::Exchange& exchange) const;

 private:
  void keep_head(request::RequestHead& head);
  Result<void> append(std::string_view data);

  HeldBytes& bytes_;
  std::size_t taken_ = 0;
  std::string head_, body_;
  bool held_ = false;
};

}  // namespace sallyport::guard
