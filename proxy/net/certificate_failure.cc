#include "proxy/net/certificate_failure.h"

#include <openssl/x509v3.h>

#include <array>

#include "ca/openssl_ptr.h"

namespace sallyport::net {

namespace {

// What a stranger wrote is shortened and has no control characters.
constexpr std::size_t kForeignTextMax = 200;
constexpr int kNamesMax = 5;

std::string foreign(std::string_view text) {
  std::string clean(text.substr(0, kForeignTextMax));
  for (char& c : clean) {
    if (c < 0x20 || c > 0x7E) c = '?';
  }
  return clean;
}

std::string name_text(const X509_NAME* name) {
  const ca::BioPtr bio(BIO_new(BIO_s_mem()));
  if (name == nullptr || !bio || X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253) < 0) return "?";
  const std::string_view text = ca::bio_view(bio.get());
  return text.empty() ? "empty" : foreign(text);
}

std::string time_text(const ASN1_TIME* time) {
  const ca::BioPtr bio(BIO_new(BIO_s_mem()));
  if (time == nullptr || !bio || ASN1_TIME_print(bio.get(), time) != 1) return "an unreadable date";
  return std::string(ca::bio_view(bio.get()));
}

// The host names of the SAN: what the certificate is good for.
std::string host_names(X509* certificate) {
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  if (names == nullptr) return "no host";
  std::string text;
  const int count = sk_GENERAL_NAME_num(names);
  int listed = 0;
  for (int i = 0; i < count && listed < kNamesMax; ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_DNS) continue;
    const ASN1_STRING* dns = name->d.dNSName;
    text += listed++ == 0 ? "" : ", ";
    text += foreign(
        {reinterpret_cast<const char*>(ASN1_STRING_get0_data(dns)), static_cast<std::size_t>(ASN1_STRING_length(dns))});
  }
  if (count > listed && listed > 0) text += " …";
  GENERAL_NAMES_free(names);
  return listed == 0 ? "no host name" : text;
}

std::string key_text(X509* certificate) {
  const EVP_PKEY* key = X509_get0_pubkey(certificate);
  if (key == nullptr) return "an unreadable key";
  const char* kind = EVP_PKEY_get0_type_name(key);
  return std::string(kind == nullptr ? "a key" : kind) + " of " + std::to_string(EVP_PKEY_get_bits(key)) + " bits";
}

std::string signature_text(X509* certificate) {
  const char* name = OBJ_nid2ln(X509_get_signature_nid(certificate));
  return name == nullptr ? "an unknown algorithm" : name;
}

Reason reason_of(int error) {
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return Reason::upstream_expired;
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return Reason::upstream_not_yet_valid;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return Reason::upstream_wrong_host;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      return Reason::upstream_self_signed;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_UNTRUSTED:
      return Reason::upstream_untrusted;
    case X509_V_ERR_CERT_REVOKED:
      return Reason::upstream_revoked;
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_CA_MD_TOO_WEAK:
      return Reason::upstream_weak_key;
    default:
      return Reason::upstream_certificate;
  }
}

// Where more roots are named, in the words of this destination.
std::string trust_remedy(const TlsTarget& target) {
  if (target.endpoint == nullptr) return "give its CA with --upstream-ca";
  return "give its CA as caBundle of endpoint '" + target.endpoint->name + "', or with --upstream-ca";
}

bool about_crl(int error) {
  return error == X509_V_ERR_UNABLE_TO_GET_CRL || error == X509_V_ERR_CRL_HAS_EXPIRED ||
         error == X509_V_ERR_CRL_NOT_YET_VALID || error == X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER ||
         error == X509_V_ERR_CRL_SIGNATURE_FAILURE;
}

std::string crl_text(const ChainVerdict& failure, const TlsTarget& target) {
  const std::string file = target.endpoint == nullptr ? "the CRL" : target.endpoint->crl_file;
  if (failure.error == X509_V_ERR_CRL_HAS_EXPIRED)
    return "can't be checked: its issuer's CRL in " + file + " is out of date; fetch a new one";
  if (failure.error == X509_V_ERR_UNABLE_TO_GET_CRL)
    return "can't be checked: " + file + " has no CRL of its issuer; add it";
  return "can't be checked with " + file + ": " + X509_verify_cert_error_string(failure.error);
}

// What is wrong, and what to do: goes on after "the certificate of <host> ".
std::string complaint(const ChainVerdict& failure, std::string_view roots, const TlsTarget& target) {
  X509* certificate = failure.certificate.get();
  switch (reason_of(failure.error)) {
    case Reason::upstream_expired:
      return "has expired on " + time_text(X509_get0_notAfter(certificate)) +
             "; its operator must renew it, unless this machine's clock is wrong";
    case Reason::upstream_not_yet_valid:
      return "is valid from " + time_text(X509_get0_notBefore(certificate)) + " only; is this machine's clock right?";
    case Reason::upstream_wrong_host:
      return "is for " + host_names(certificate) +
             ", not for this host; if that is the server that is meant, use its name";
    case Reason::upstream_self_signed:
      return "is self-signed; if it is the right one, " + trust_remedy(target);
    case Reason::upstream_untrusted:
      return "leads to an issuer that is not trusted (roots: " + std::string(roots) +
             "); if the server is the right one, " + trust_remedy(target) +
             ", or have the server send its intermediate certificates";
    case Reason::upstream_revoked:
      return "has been revoked by its issuer; its operator must replace it";
    case Reason::upstream_weak_key:
      return "is too weak (" + key_text(certificate) + ", signed with " + signature_text(certificate) +
             "): RSA needs 2048 bits, EC 224, and signatures SHA-256; its operator must replace it";
    default:
      if (about_crl(failure.error)) return crl_text(failure, target);
      if (failure.error == X509_V_ERR_MISSING_AUTHORITY_KEY_IDENTIFIER) {
        return "is not acceptable: it has no authorityKeyIdentifier (RFC 5280 section 4.2.1.1); its operator must have "
               "it issued again with one";
      }
      return "is not acceptable: " +
             (failure.complaint.empty() ? X509_verify_cert_error_string(failure.error) : failure.complaint) +
             (failure.of_the_web ? "; if this CA is your own, " + trust_remedy(target) : std::string());
  }
}

}  // namespace

UpstreamFailure explain_certificate(const ChainVerdict& failure, std::string_view roots, const TlsTarget& target) {
  if (failure.own_ca) {
    return {Reason::upstream_own_ca,
            target.host +
                " shows a certificate of this guard's own CA: the connection leads back to a guard, or somebody "
                "else has the CA's key. The guard never sends requests there"};
  }
  if (!failure.certificate) {
    return {reason_of(failure.error), "the certificate of " + target.host +
                                          " is not acceptable: " + X509_verify_cert_error_string(failure.error)};
  }
  std::string text = failure.depth == 0 ? "the certificate of " : "a CA certificate in the chain of ";
  text += target.host + " (subject " + name_text(X509_get_subject_name(failure.certificate.get())) + ", issuer " +
          name_text(X509_get_issuer_name(failure.certificate.get())) + ") " + complaint(failure, roots, target);
  return {reason_of(failure.error), std::move(text)};
}

}  // namespace sallyport::net
