#pragma once
// The certificate below which a member of an application answers its function: an intermediate CA that the controller
// signs for the guard's own key. Which one is in force, and when the next is to be asked for. Not thread-safe; time is
// an argument.

#include <optional>
#include <string>

#include "base/error.h"
#include "ca/authority.h"
#include "controller/api/link.pb.h"

namespace sallyport::guard {

class MemberCertificate {
 public:
  // Makes the key, which is never written down. `lib` outlives it.
  static Result<MemberCertificate> create(OSSL_LIB_CTX* lib);

  // For Register and Renew.
  const std::string& request() const { return request_; }
  // What the controller has answered with.
  void offer(controller::v1alpha1::Renewed offered) { offered_ = std::move(offered); }
  // A policy is for these hosts from now on: a certificate that is not for just them is to be replaced.
  void want(ca::PermittedHosts hosts, ca::TimePoint now);
  // What functions trust from now on, in PEM: a certificate that leads to none of it is to be replaced. True: it is
  // other than before. Nothing: it is not said, and stays.
  bool trust(const std::string& pem, ca::TimePoint now);
  // Puts in force what was offered, once it is for all hosts that are wanted, and trusted. True: there is another
  // certificate. One that is refused or can't be used leaves the one before.
  bool settle(ca::TimePoint now);
  // Whether what is in force is for all hosts that are wanted. It may have expired: then none of them is served.
  bool fits() const;

  // Null: none has come.
  const ca::Authority* authority() const { return authority_ ? &*authority_ : nullptr; }
  // What functions have to trust, in PEM. Without an authority(): as far as it is known.
  std::string trusted() const { return trusted_.empty() && authority_ ? authority_->trust_pem() : trusted_; }
  // Why there is no newer one, for a person. Empty: it is not known that there is none.
  const std::string& refusal() const { return refusal_; }
  bool expired(ca::TimePoint now) const { return authority_ && now >= authority_->not_after(); }

  // When it is to be asked for the next one; asked() puts it off, as the answer may get lost.
  ca::TimePoint ask_at() const { return ask_at_; }
  void asked(ca::TimePoint now);

 private:
  bool trusts(const ca::Authority& authority) const {
    return trusted_.empty() || trusted_.contains(authority.trust_pem());
  }
  MemberCertificate(OSSL_LIB_CTX* lib, ca::EvpPkeyPtr key, std::string request)
      : lib_(lib), key_(std::move(key)), request_(std::move(request)) {}

  OSSL_LIB_CTX* lib_;
  ca::EvpPkeyPtr key_;
  std::string request_;
  ca::PermittedHosts wanted_ = std::vector<std::string>();
  std::optional<controller::v1alpha1::Renewed> offered_;
  std::optional<ca::Authority> next_;  // read from an offer, and not for all that is wanted
  std::optional<ca::Authority> authority_;
  std::string trusted_, refusal_;
  ca::TimePoint ask_at_{};
};

}  // namespace sallyport::guard
