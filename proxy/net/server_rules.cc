#include "proxy/net/server_rules.h"

#include <openssl/x509v3.h>

#include "proxy/net/certificate_rules.h"
#include "proxy/net/web_rules.h"

namespace sallyport::net {

namespace {

bool is_of(X509* own_ca, X509* certificate) {
  if (X509_cmp(own_ca, certificate) == 0) return true;
  return X509_check_issued(own_ca, certificate) == X509_V_OK && X509_verify(certificate, X509_get0_pubkey(own_ca)) == 1;
}

bool any_is_of(X509* own_ca, const STACK_OF(X509) * certificates) {
  for (int i = 0; i < sk_X509_num(certificates); ++i) {
    if (is_of(own_ca, sk_X509_value(certificates, i))) return true;
  }
  return false;
}

bool is_last(X509_STORE_CTX* verification, int depth) {
  return depth == sk_X509_num(X509_STORE_CTX_get0_chain(verification)) - 1;
}

// What OpenSSL's strict checks mind and we don't.
bool is_tolerable(X509_STORE_CTX* verification) {
  const int depth = X509_STORE_CTX_get_error_depth(verification);
  switch (X509_STORE_CTX_get_error(verification)) {
    case X509_V_ERR_UNABLE_TO_GET_CRL:
      // A CRL is demanded for the server's certificate only; the CAs above it are checked where there is one.
      return depth > 0;
    case X509_V_ERR_CA_CERT_MISSING_KEY_USAGE:
      // RFC 5280 section 6.1.4 (n) takes a CA without keyUsage, and `openssl req -x509` makes such by default.
      return true;
    case X509_V_ERR_MISSING_SUBJECT_KEY_IDENTIFIER:
    case X509_V_ERR_CA_BCONS_NOT_CRITICAL:
      // Roots of the web lack these; why_unacceptable() refuses others.
      return is_last(verification, depth);
    default:
      return false;
  }
}

int on_finding(int good, X509_STORE_CTX* verification) {
  if (good == 1 || !is_tolerable(verification)) return good;
  X509_STORE_CTX_set_error(verification, X509_V_OK);
  return 1;
}

void note_failure(X509_STORE_CTX* verification, ChainVerdict& verdict) {
  verdict.error = X509_STORE_CTX_get_error(verification);
  verdict.depth = X509_STORE_CTX_get_error_depth(verification);
  X509* current = X509_STORE_CTX_get_current_cert(verification);
  verdict.certificate = ca::share(current != nullptr ? current : X509_STORE_CTX_get0_cert(verification));
}

using CrlsPtr = std::unique_ptr<STACK_OF(X509_CRL),
                                decltype([](STACK_OF(X509_CRL) * crls) { sk_X509_CRL_pop_free(crls, X509_CRL_free); })>;

std::optional<std::string> why_bad_crl(X509_STORE_CTX* verification, X509* certificate) {
  const CrlsPtr crls(X509_STORE_CTX_get1_crls(verification, X509_get_issuer_name(certificate)));
  for (int i = 0; i < sk_X509_CRL_num(crls.get()); ++i) {
    if (auto why = why_unacceptable(sk_X509_CRL_value(crls.get(), i))) return why;
  }
  return std::nullopt;
}

bool with_crls(X509_STORE_CTX* verification) {
  return (X509_VERIFY_PARAM_get_flags(X509_STORE_CTX_get0_param(verification)) & X509_V_FLAG_CRL_CHECK) != 0;
}

// Our own rules, for the certificate at `depth` of a chain that OpenSSL has found good.
void check_place(X509_STORE_CTX* verification, int depth, RootKind root, ChainVerdict& verdict) {
  const STACK_OF(X509)* chain = X509_STORE_CTX_get0_chain(verification);
  X509* certificate = sk_X509_value(chain, depth);
  const auto refuse = [&](int error, std::string complaint) {
    verdict = {
        .error = error, .depth = depth, .certificate = ca::share(certificate), .complaint = std::move(complaint)};
  };
  if (!is_common_key(certificate)) {
    return refuse(depth == 0 ? X509_V_ERR_EE_KEY_TOO_SMALL : X509_V_ERR_CA_KEY_TOO_SMALL, {});
  }
  // A self-signed certificate that is trusted by itself was chosen by a person.
  if (sk_X509_num(chain) == 1 && X509_self_signed(certificate, 0) == 1) return;
  const bool last = is_last(verification, depth);
  const ChainPlace place = depth == 0 ? ChainPlace::server : last ? ChainPlace::anchor : ChainPlace::issuer;
  auto why = why_unacceptable(certificate, place, root);
  if (!why && place != ChainPlace::anchor && with_crls(verification)) why = why_bad_crl(verification, certificate);
  if (!why && place != ChainPlace::server) {
    const char* host = X509_VERIFY_PARAM_get0_host(X509_STORE_CTX_get0_param(verification), 0);
    if (host != nullptr) why = why_outside(certificate, host);
  }
  const bool lawful = !why;
  if (lawful && root == RootKind::web) why = why_not_of_the_web(certificate, place);
  if (!why) return;
  refuse(X509_V_ERR_APPLICATION_VERIFICATION, std::move(*why));
  verdict.of_the_web = lawful;
}

}  // namespace

bool set_rules(X509_VERIFY_PARAM* parameters, const ServerRules& rules) {
  X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_SERVER);
  X509_VERIFY_PARAM_set_auth_level(parameters, kServerSecurityLevel);
  // A CA bundle may hold the intermediate, or the server's certificate itself: what is in it is what is trusted.
  X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_X509_STRICT);
  if (rules.with_crl) X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  // The subject is not looked at: a name stands in the SAN (RFC 9525).
  X509_VERIFY_PARAM_set_hostflags(parameters,
                                  X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  if (rules.literal) {
    return X509_VERIFY_PARAM_set1_ip(parameters, rules.literal->bytes().data(), rules.literal->is_v4() ? 4 : 16) == 1;
  }
  return !rules.host.empty() && X509_VERIFY_PARAM_set1_host(parameters, rules.host.data(), rules.host.size()) == 1;
}

ChainVerdict verify_server(X509_STORE_CTX* verification, const WebRoots& web_roots, X509* own_ca) {
  ChainVerdict verdict;
  X509_STORE_CTX_set_verify_cb(verification, on_finding);
  if (own_ca != nullptr) {
    verdict.own_ca = is_of(own_ca, X509_STORE_CTX_get0_cert(verification)) ||
                     any_is_of(own_ca, X509_STORE_CTX_get0_untrusted(verification));
  }
  const bool good = !verdict.own_ca && X509_verify_cert(verification) == 1;
  if (good && own_ca != nullptr) verdict.own_ca = any_is_of(own_ca, X509_STORE_CTX_get0_chain(verification));
  if (verdict.own_ca) X509_STORE_CTX_set_error(verification, X509_V_ERR_CERT_REJECTED);
  if (!good || verdict.own_ca) {
    note_failure(verification, verdict);
    return verdict;
  }
  const STACK_OF(X509)* chain = X509_STORE_CTX_get0_chain(verification);
  const int length = sk_X509_num(chain);
  const RootKind root = web_roots.contains(sk_X509_value(chain, length - 1)) ? RootKind::web : RootKind::given;
  for (int depth = 0; verdict.good() && depth < length; ++depth) check_place(verification, depth, root, verdict);
  X509_STORE_CTX_set_error(verification, verdict.error);
  return verdict;
}

}  // namespace sallyport::net
