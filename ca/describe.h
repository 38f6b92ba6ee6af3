#pragma once
// What a person wants to know of a certificate.

#include <string>
#include <vector>

#include "ca/authority.h"

namespace sallyport::ca {

struct Description {
  std::string subject;  // RFC 2253; may be empty
  std::string issuer;
  std::string serial;  // hex
  bool ca = false;
  bool self_signed = false;
  TimePoint not_before{};
  TimePoint not_after{};
  std::string key;                    // "EC P-256", "RSA 2048", …
  std::string subject_key_id;         // hex with colons; empty if there is none
  std::string authority_key_id;       // the same
  std::string fingerprint_sha256;     // hex with colons
  std::vector<std::string> names;     // of the SAN: host names, and IP addresses in their usual text
  std::vector<std::string> problems;  // profile_problems()
};

// Every certificate of a PEM file, in order. Fails when it holds none, or one that can't be read.
Result<std::vector<Description>> describe(PemFile file, TimePoint now);

}  // namespace sallyport::ca
