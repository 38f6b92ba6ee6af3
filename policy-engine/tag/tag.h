#pragma once
// The tag that one guard gives another: which execution of which function of this application a message belongs to
// (SecLambda S45 to S50). It travels in the field Sallyport-Tag, which no function can set and none gets to see.
//
//   tag     = "v1." base64url(payload) "." base64url(mac)            without padding
//   payload = key id (4 bytes) · guard id (16) · request id (16) · issued (8, big-endian, seconds since 1970)
//             · length (1) application · length (1) function
//   mac     = HMAC-SHA-256(key, everything before the second dot), whole
//
// Each tag has exactly one text. The MAC is not truncated: 22 bytes more in a field cost nothing beside TLS, and there
// is no bound to be argued about. Nothing of a payload is believed, nor looked at but for the key id, before its MAC is
// verified. A tag is no secret from the functions' servers and no credential: it says what a guard has seen, for a
// short time, and whoever copies one can only claim that same execution again.
//
// policy-engine/tag/vectors.json has examples of good and bad tags for every implementation.

#include <array>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "policy-engine/credentials/secret.h"

namespace sallyport::tag {

using GuardId = std::array<unsigned char, 16>;
using RequestId = std::array<unsigned char, 16>;
using KeyId = std::array<unsigned char, 4>;

inline constexpr std::string_view kField = "Sallyport-Tag";
// The same as an extension of CloudEvents (its names have lower-case letters and digits, 20 at most), and the field
// that it is in their binary mode.
inline constexpr std::string_view kEventAttribute = "sallyporttag";
inline constexpr std::string_view kEventField = "ce-sallyporttag";
inline constexpr std::size_t kKeyBytes = 32;

struct Tag {
  std::string application;  // an endpoint name's form, limits::kTagApplicationBytesMax at most
  std::string function;     // a DNS subdomain
  GuardId guard{};
  RequestId request{};  // of one request to the application: all executions that it leads to share it
  std::chrono::sys_seconds issued{};

  bool operator==(const Tag&) const = default;
};

// An application's key. To rotate: verify with both, make with the new one, drop the old one when
// limits::kTagLifetime has passed.
class Key {
 public:
  // `bytes`: kKeyBytes of randomness. ErrorKind::invalid for another size or a name that is none.
  static Result<Key> create(std::string application, std::string_view bytes);
  const std::string& application() const { return application_; }
  // The key of the tags on answers: HMAC-SHA-256(key, "sallyport-tag answers"). With a key of their own nobody who is
  // answered can show the answer's tag to a third function, as that of a message from the one that answered.
  Result<Key> for_answers() const;
  // The first bytes of HMAC-SHA-256(key, "sallyport-tag key id"): two sides that hold the same key agree on it.
  const KeyId& id() const { return id_; }

 private:
  friend Result<std::string> make(const Tag& tag, const Key& key);
  friend Result<Tag> verify(std::string_view text, std::span<const Key> keys, std::chrono::sys_seconds now);
  Key() = default;
  std::string application_;
  KeyId id_{};
  credentials::Secret secret_;
};

// ErrorKind::invalid: a name that is none, or another application than the key's.
Result<std::string> make(const Tag& tag, const Key& key);

// Fails closed, with ErrorSource::downstream: malformed (not the one text of a tag), unverified (no such key, another
// MAC, another application than the key's), timeout (older than limits::kTagLifetime), invalid (issued more than
// limits::kTagSkew after `now`). Takes as long for a wrong MAC as for a right one.
Result<Tag> verify(std::string_view text, std::span<const Key> keys, std::chrono::sys_seconds now);

}  // namespace sallyport::tag
