#pragma once
// Join tokens: what a guard shows to be believed that it is of a function, where no platform says so. A token is
//
//   sallyport-join-v1.<id>.<secret>        8 random bytes in hexadecimal, and 32 in base64url without padding
//
// The controller keeps the SHA-256 of the whole text and not the text. The id is for people: to list and to revoke.

#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "controller/store/store.h"

namespace sallyport::controller {

struct MadeToken {
  std::string text;  // shown once, to whoever asked for it
  JoinToken row;
};
// `function` empty: of any function of the application. ErrorKind::unavailable: the machine has no randomness.
Result<MadeToken> make_join_token(std::string application, std::string function, Time now, std::optional<Time> ends);

// Those that are known. Any thread.
class JoinTokens {
 public:
  void put(const JoinToken& token);  // in place of one of the same id
  void forget_application(std::string_view application);
  // Whom a guard with this token is of: "join token ID". ErrorKind::refused, without saying to the guard which of it
  // was: no token, revoked, ended, or of another application or function. All of it is compared in the same time.
  Result<std::string> check(std::string_view text, std::string_view application, std::string_view function,
                            Time now) const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::string, JoinToken> by_id_;
};

}  // namespace sallyport::controller
