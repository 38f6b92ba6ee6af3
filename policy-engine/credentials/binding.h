#pragma once
// A binding ties one credential to the endpoints that name it, to one place in their requests, and to one form. The
// function holds a placeholder or nothing. DESIGN: placeholders that turn up anywhere else are refused.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/reason.h"
#include "policy-engine/credentials/secret.h"
#include "policy-engine/request/head.h"

namespace sallyport::credentials {

// What happens to a value of its own that the function sends in the bound header (one that is not the placeholder).
enum class Foreign : std::uint8_t {
  replace,  // overwritten with the bound credential
  deny,     // the request is refused: foreign_credential
};

class Binding {
 public:
  std::string name;
  std::string header;  // field name
  std::string prefix;  // the format "Bearer {}" split at "{}"
  std::string suffix;
  Foreign foreign = Foreign::replace;
  std::string placeholder;  // never empty: given in the document or made at random ("sallyport-placeholder-" + 32 hex)
  std::string placeholder_env;  // variable in which `run` hands the placeholder to the command; may be empty
  Secret secret;  // empty when it could not be or was not read: requests are refused, credential_unavailable
};

struct Applied {
  Reason reason = Reason::none;      // none: go on
  const Binding* binding = nullptr;  // the binding that was injected, or that was misused
  std::string place;                 // where a misused placeholder stood: "header X", "path", "query", "authority"
};

// All bindings of one Snapshot.
class BindingSet {
 public:
  // Checks that placeholders are at least 16 bytes, of [A-Za-z0-9._~-], that none contains another, that none holds a
  // secret, and that what would be sent is a field value. The Binding keeps its address for the life of the set.
  Result<const Binding*> add(Binding binding);
  const std::vector<std::unique_ptr<Binding>>& all() const { return bindings_; }

  // The credential stage of the chain, request side. `bound` is the endpoint's binding or null; `target` the canonical
  // target; `verified_tls` says that the upstream leg will be TLS with a verified certificate. In order:
  //   placeholder_misuse: a placeholder in the target, the authority, a field name, or any field but its own bound one;
  //   plain,
  //     percent-encoded (up to three times), or inside the base64 of a Basic value;
  //   foreign_credential: the binding denies foreign values, and one value of the bound field is neither empty nor
  //   holds the
  //     placeholder, or another field that services take keys from (Authorization, X-Api-Key …) has a value. A name
  //     that differs in '_' for '-' counts as the bound field, as it does for CGI and its successors;
  //   malformed_http: more than one Authorization field;
  //   credential_unavailable: the upstream leg would not be verified TLS, or there is no secret;
  // else every value of the bound field gives way to the credential, and the rest of the head stays as it is.
  // Costs nothing when the set is empty; else one search per field for all placeholders that were made at random, and
  // one for each that the document gives.
  Applied apply(const Binding* bound, bool verified_tls, std::string_view target, request::RequestHead& head) const;

 private:
  // Placeholders that begin with the same text and are found by one search for it.
  struct Needle {
    std::string text;
    std::vector<const Binding*> bindings;
  };

  const Binding* find(std::string_view text, const Binding* own) const;
  const Binding* find_decoded(std::string_view text, const Binding* own) const;
  const Binding* find_in_value(std::string_view value, const Binding* own) const;
  bool holds(std::string_view value, const Binding& binding) const;
  std::optional<Applied> misuse(const Binding* bound, std::string_view target, const request::RequestHead& head) const;
  Reason check_own_values(const Binding& bound, const request::HeaderList& headers) const;

  std::vector<std::unique_ptr<Binding>> bindings_;
  std::vector<Needle> needles_;
};

}  // namespace sallyport::credentials
