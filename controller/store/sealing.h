#pragma once
// Secrets at rest: AES-256-GCM (NIST SP 800-38D) with a key that lies in a file of its own, so that a copy of the
// database alone tells nothing of them.

#include <string>
#include <string_view>

#include "base/error.h"
#include "policy-engine/credentials/secret.h"

namespace sallyport::controller {

class SealingKey {
 public:
  // Reads the key, or makes one if there is no file; mode 0600. ErrorKind::invalid: the file is no key, or others may
  // read it.
  static Result<SealingKey> of_file(const std::string& path);

  // `about` names what it is of, and must be the same for open(): a sealed value cannot be moved to another place.
  Result<std::string> seal(std::string_view value, std::string_view about) const;
  // ErrorKind::unverified: sealed with another key, of something else, or damaged.
  Result<std::string> open(std::string_view sealed, std::string_view about) const;

 private:
  explicit SealingKey(credentials::Secret key) : key_(std::move(key)) {}
  credentials::Secret key_;
};

}  // namespace sallyport::controller
