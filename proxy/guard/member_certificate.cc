#include "proxy/guard/member_certificate.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "ca/certificate_request.h"
#include "policy-engine/document/diagnostics.h"

namespace sallyport::guard {

Result<MemberCertificate> MemberCertificate::create(OSSL_LIB_CTX* lib) {
  auto key = ca::make_p256_key(lib);
  if (!key) return std::unexpected(key.error());
  auto request = ca::make_certificate_request(lib, key->get());
  if (!request) return std::unexpected(request.error());
  return MemberCertificate(lib, std::move(*key), std::move(*request));
}

void MemberCertificate::want(ca::PermittedHosts hosts, ca::TimePoint now) {
  wanted_ = std::move(hosts);
  if (authority_ && authority_->permitted() != wanted_) ask_at_ = std::min(ask_at_, now);
}

bool MemberCertificate::trust(const std::string& pem, ca::TimePoint now) {
  if (pem.empty() || pem == trusted_) return false;
  trusted_ = pem;
  if (authority_ && !trusts(*authority_)) ask_at_ = std::min(ask_at_, now);
  return true;
}

bool MemberCertificate::settle(ca::TimePoint now) {
  if (offered_) {
    const auto offered = *std::exchange(offered_, std::nullopt);
    auto read = offered.certificates().empty()
                    ? fail(ErrorSource::controller, ErrorKind::refused, document::printable(offered.refusal()))
                    : ca::Authority::of_key(lib_, {"the controller's certificate", offered.certificates()},
                                            ca::share(key_.get()), now);
    refusal_ = read ? "" : read.error().text;
    if (read) next_ = std::move(*read);
  }
  // One for another policy, or below another root, which is on its way, as a rule.
  if (!next_ || !ca::covers(next_->permitted(), wanted_) || !trusts(*next_)) return false;
  authority_ = std::move(*next_);
  next_.reset();
  ask_at_ = now + (authority_->not_after() - now) / 2;
  return true;
}

bool MemberCertificate::fits() const { return authority_ && ca::covers(authority_->permitted(), wanted_); }

void MemberCertificate::asked(ca::TimePoint now) {
  auto wait = limits::kCertificateRetryMin;
  if (fits() && trusts(*authority_))
    wait = std::clamp((authority_->not_after() - now) / 8, wait, limits::kCertificateRetryMax);
  ask_at_ = now + wait;
}

}  // namespace sallyport::guard
