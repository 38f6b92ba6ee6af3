#include "ca/authority.h"

#include <openssl/pem.h>

#include <algorithm>
#include <array>
#include <optional>

#include "ca/certificate_form.h"

namespace sallyport::ca {
namespace {

// Bit numbers of keyUsage (RFC 5280 section 4.2.1.3).
constexpr int kDigitalSignature = 0, kKeyEncipherment = 2, kKeyCertSign = 5, kCrlSign = 6;

// What to hash with when this key signs. EdDSA takes the message as it is.
const EVP_MD* signature_digest(EVP_PKEY* key) {
  if (EVP_PKEY_is_a(key, "ED25519") == 1 || EVP_PKEY_is_a(key, "ED448") == 1) return nullptr;
  if (EVP_PKEY_is_a(key, "EC") != 1) return EVP_sha256();
  const int bits = EVP_PKEY_get_bits(key);
  return bits > 384 ? EVP_sha512() : bits > 256 ? EVP_sha384() : EVP_sha256();
}

bool has_control_characters(std::string_view text) {
  return std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

struct CaForm {
  std::string_view name;
  TimePoint not_before, not_after;
  std::optional<long> path_length;
};

// Everything of a CA certificate but its key, which it has, and its issuer.
bool fill_ca(X509* certificate, OSSL_LIB_CTX* lib, const CaForm& form) {
  const std::array usage{kKeyCertSign, kCrlSign};
  return set_random_serial(certificate, lib) && set_common_name(X509_get_subject_name(certificate), form.name) &&
         set_validity(certificate, form.not_before, form.not_after) &&
         add_basic_constraints(certificate, true, form.path_length) && add_key_usage(certificate, usage) &&
         add_subject_key_id(certificate);
}

std::optional<Error> why_no_name(std::string_view name) {
  if (!name.empty() && name.size() <= 64 && !has_control_characters(name)) return std::nullopt;
  return Error{ErrorSource::internal, ErrorKind::invalid,
               "the name of a CA is 1 to 64 bytes of UTF-8 without control characters"};
}

std::unexpected<Error> not_a_host(std::string_view host) {
  return fail(ErrorSource::internal, ErrorKind::invalid,
              "no certificate is issued for '" + std::string(host) +
                  "': a canonical host name or IP address is needed, without wildcard, port or trailing dot");
}

Result<X509Ptr> copy_certificate(OSSL_LIB_CTX* lib, X509* source) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(source, &der);
  if (size <= 0) return openssl_failure("copying a certificate");
  const std::unique_ptr<unsigned char, decltype([](unsigned char* p) { OPENSSL_free(p); })> owner(der);
  const unsigned char* cursor = der;
  X509* copy = X509_new_ex(lib, nullptr);
  if (copy == nullptr || d2i_X509(&copy, &cursor, size) == nullptr) return openssl_failure("copying a certificate");
  return X509Ptr(copy);
}

Result<EvpPkeyPtr> copy_key(OSSL_LIB_CTX* lib, EVP_PKEY* source) {
  const BioPtr bio(BIO_new(BIO_s_secmem()));  // wiped when it goes
  if (!bio || i2d_PKCS8PrivateKey_bio(bio.get(), source, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return openssl_failure("copying the CA's key");
  }
  const std::string_view der = bio_view(bio.get());
  const auto* cursor = reinterpret_cast<const unsigned char*>(der.data());
  EvpPkeyPtr key(d2i_AutoPrivateKey_ex(nullptr, &cursor, static_cast<long>(der.size()), lib, nullptr));
  if (!key) return openssl_failure("copying the CA's key");
  return key;
}

// The copy is of its own, and keeps its bytes: a certificate that was made is encoded anew by each handshake that shows
// it.
X509Ptr read_again(X509* made, OSSL_LIB_CTX* lib) {
  unsigned char* bytes = nullptr;
  const int size = i2d_X509(made, &bytes);
  if (size < 0) return nullptr;
  X509* read = X509_new_ex(lib, nullptr);
  const unsigned char* at = bytes;
  // On failure it frees what it was given.
  if (read != nullptr && d2i_X509(&read, &at, size) == nullptr) read = nullptr;
  OPENSSL_free(bytes);
  return X509Ptr(read);
}

}  // namespace

Result<EvpPkeyPtr> make_p256_key(OSSL_LIB_CTX* lib) {
  EvpPkeyPtr key(EVP_PKEY_Q_keygen(lib, nullptr, "EC", "P-256"));
  if (!key) return openssl_failure("making a P-256 key");
  return key;
}

Result<std::string> chain_pem(X509* certificate, const STACK_OF(X509) * chain) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  bool written = bio && PEM_write_bio_X509(bio.get(), certificate) == 1;
  for (int i = 0; written && i < sk_X509_num(chain); ++i) {
    written = PEM_write_bio_X509(bio.get(), sk_X509_value(chain, i)) == 1;
  }
  if (!written) return openssl_failure("writing a certificate");
  return std::string(bio_view(bio.get()));
}

Result<BioPtr> private_key_pem(EVP_PKEY* key) {
  BioPtr bio(BIO_new(BIO_s_secmem()));
  if (!bio || PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return openssl_failure("writing a private key");
  }
  return bio;
}

Result<Authority> Authority::create_root(OSSL_LIB_CTX* lib, const RootOptions& options, TimePoint now) {
  if (auto error = why_no_name(options.name)) return std::unexpected(std::move(*error));
  if (options.lifetime.count() <= 0) {
    return fail(ErrorSource::internal, ErrorKind::invalid, "the lifetime of a CA must be more than nothing");
  }
  auto key = make_p256_key(lib);
  if (!key) return std::unexpected(key.error());
  X509Ptr root = new_certificate(lib);
  const CaForm form{options.name, now - limits::kCertificateBackdating, now + options.lifetime, std::nullopt};
  if (!root || X509_set_pubkey(root.get(), key->get()) != 1 || !fill_ca(root.get(), lib, form) ||
      X509_set_issuer_name(root.get(), X509_get_subject_name(root.get())) != 1 ||
      X509_sign(root.get(), key->get(), signature_digest(key->get())) <= 0) {
    return openssl_failure("making a root certificate");
  }
  std::vector<X509Ptr> certificates;
  certificates.push_back(std::move(root));
  return assemble(lib, std::move(*key), std::move(certificates));
}

Result<Authority> Authority::clone_into(OSSL_LIB_CTX* lib) const {
  if (lib == lib_) {
    std::vector<X509Ptr> same;
    for (const X509Ptr& certificate : path_) same.push_back(share(certificate.get()));
    return assemble(lib, share(key_.get()), std::move(same));
  }
  auto key = copy_key(lib, key_.get());
  if (!key) return std::unexpected(key.error());
  std::vector<X509Ptr> certificates;
  for (const X509Ptr& certificate : path_) {
    auto copy = copy_certificate(lib, certificate.get());
    if (!copy) return std::unexpected(copy.error());
    certificates.push_back(std::move(*copy));
  }
  return assemble(lib, std::move(*key), std::move(certificates));
}

Result<Authority> Authority::assemble(OSSL_LIB_CTX* lib, EvpPkeyPtr key, std::vector<X509Ptr> certificates) {
  Authority authority;
  authority.lib_ = lib;
  authority.key_ = std::move(key);
  authority.not_before_ = TimePoint::min();
  authority.not_after_ = TimePoint::max();
  for (const X509Ptr& certificate : certificates) {
    auto pem = chain_pem(certificate.get(), nullptr);
    if (!pem) return std::unexpected(pem.error());
    authority.certificate_pem_ += *pem;
    const bool root = is_self_signed(certificate.get());
    if (root || certificate == certificates.front()) authority.trust_pem_ = *pem;
    if (!root) {
      if (!authority.chain_) authority.chain_.reset(sk_X509_new_null());
      X509Ptr shared = share(certificate.get());
      if (!authority.chain_ || sk_X509_push(authority.chain_.get(), shared.get()) == 0)
        return openssl_failure("keeping a chain");
      disown(shared);
    }
    // Without a readable date (load() refuses such) nothing would be issued.
    authority.not_before_ =
        std::max(authority.not_before_, time_of(X509_get0_notBefore(certificate.get())).value_or(TimePoint::max()));
    authority.not_after_ =
        std::min(authority.not_after_, time_of(X509_get0_notAfter(certificate.get())).value_or(TimePoint::min()));
  }
  authority.authority_key_id_ = authority_key_id(certificates.front().get());
  if (!authority.authority_key_id_) return openssl_failure("reading the CA's key identifier");
  authority.permitted_ = permitted_hosts(certificates.front().get());
  authority.path_ = std::move(certificates);
  return authority;
}

Result<X509Ptr> Authority::make_intermediate(X509Ptr below, std::string_view name, const PermittedHosts& permitted,
                                             std::chrono::seconds lifetime, TimePoint now) const {
  if (auto error = why_not_now(now)) return std::unexpected(std::move(*error));
  if (auto error = why_no_name(name)) return std::unexpected(std::move(*error));
  if (X509_get_pathlen(certificate()) == 0) {
    return fail(ErrorSource::internal, ErrorKind::refused,
                subject_text(certificate()) + " may not issue other CAs: its pathLenConstraint is 0");
  }
  const CaForm form{name, backdated(now), std::min(not_after_, now + lifetime), 0};
  if (!fill_ca(below.get(), lib_, form) || !name_issuer(below.get()) ||
      (permitted && !add_name_constraints(below.get(), *permitted)) || !sign(below.get())) {
    return openssl_failure("issuing an intermediate CA");
  }
  return below;
}

Result<Authority> Authority::issue_intermediate(std::string_view name, std::span<const std::string> permitted_dns,
                                                std::chrono::seconds lifetime, TimePoint now) const {
  for (const std::string& host : permitted_dns) {
    if (!is_dns_name(host)) return not_a_host(host);
  }
  auto key = make_p256_key(lib_);
  if (!key) return std::unexpected(key.error());
  PermittedHosts permitted;
  if (!permitted_dns.empty()) permitted.emplace(permitted_dns.begin(), permitted_dns.end());
  X509Ptr form = new_certificate(lib_);
  if (!form || X509_set_pubkey(form.get(), key->get()) != 1) return openssl_failure("issuing an intermediate CA");
  auto below = make_intermediate(std::move(form), name, permitted, lifetime, now);
  if (!below) return std::unexpected(below.error());
  std::vector<X509Ptr> path;
  path.push_back(std::move(*below));
  for (const X509Ptr& above : path_) path.push_back(share(above.get()));
  return assemble(lib_, std::move(*key), std::move(path));
}

Result<X509Ptr> Authority::sign_intermediate(const RequestedKey& key, std::string_view name,
                                             const PermittedHosts& permitted, std::chrono::seconds lifetime,
                                             TimePoint now) const {
  std::size_t bytes = 0;
  for (const std::string& host : permitted ? *permitted : std::vector<std::string>()) {
    if (!is_certificate_host(host)) return not_a_host(host);
    bytes += host.size();
  }
  // Fails closed: one that permits more is no answer, and what a handshake carries clients bound.
  if (bytes > limits::kPermittedHostsBytesMax) {
    return fail(ErrorSource::internal, ErrorKind::limit,
                "there are too many hosts for one certificate: their names have " + std::to_string(bytes) +
                    " bytes, and " + std::to_string(limits::kPermittedHostsBytesMax) +
                    " may be; wildcards stand for many");
  }
  X509Ptr form = new_certificate(lib_);
  if (!form || !set_p256_point(form.get(), key.point)) return openssl_failure("issuing an intermediate CA");
  return make_intermediate(std::move(form), name, permitted, lifetime, now);
}

Result<X509Ptr> Authority::issue_leaf(std::span<const std::string_view> hosts, EVP_PKEY* key,
                                      std::chrono::seconds lifetime, TimePoint now) const {
  auto form = leaf_form(key);
  if (!form) return form;
  return complete_leaf(form->get(), hosts, lifetime, now);
}

Result<X509Ptr> Authority::leaf_form(EVP_PKEY* key) const {
  X509Ptr form = new_certificate(lib_);
  const std::array usage{kDigitalSignature, kKeyEncipherment};
  const std::size_t usages = EVP_PKEY_is_a(key, "RSA") == 1 ? 2 : 1;
  if (!form || X509_set_pubkey(form.get(), key) != 1 || !add_basic_constraints(form.get(), false, std::nullopt) ||
      !add_key_usage(form.get(), std::span(usage).first(usages)) || !add_server_auth(form.get()) ||
      !name_issuer(form.get())) {
    return openssl_failure("preparing a certificate");
  }
  return form;
}

Result<X509Ptr> Authority::complete_leaf(X509* form, std::span<const std::string_view> hosts,
                                         std::chrono::seconds lifetime, TimePoint now) const {
  if (auto error = why_not_now(now)) return std::unexpected(std::move(*error));
  if (hosts.empty() || hosts.size() > limits::kLeafNamesMax) {
    return fail(ErrorSource::internal, ErrorKind::limit,
                "a certificate is for 1 to " + std::to_string(limits::kLeafNamesMax) + " hosts");
  }
  for (const std::string_view host : hosts) {
    if (!is_certificate_host(host)) return not_a_host(host);
  }
  const X509ExtensionPtr names_before(X509_delete_ext(form, X509_get_ext_by_NID(form, NID_subject_alt_name, -1)));
  if (!set_random_serial(form, lib_) || !set_validity(form, backdated(now), std::min(not_after_, now + lifetime)) ||
      !add_subject_alt_names(form, hosts) || !sign(form)) {
    return openssl_failure("issuing a certificate");
  }
  X509Ptr leaf = read_again(form, lib_);
  if (!leaf) return openssl_failure("issuing a certificate");
  return leaf;
}

bool Authority::name_issuer(X509* below) const {
  return X509_set_issuer_name(below, X509_get_subject_name(certificate())) == 1 &&
         X509_add_ext(below, authority_key_id_.get(), -1) == 1;
}

bool Authority::sign(X509* below) const { return X509_sign(below, key_.get(), signature_digest(key_.get())) > 0; }

TimePoint Authority::backdated(TimePoint now) const {
  return std::max(not_before_, now - limits::kCertificateBackdating);
}

// Fails closed: clients would refuse what an expired CA issues, so nothing is served in its name.
std::optional<Error> Authority::why_not_now(TimePoint now) const {
  if (now < not_after_) return std::nullopt;
  return Error{ErrorSource::internal, ErrorKind::unverified,
               "the CA " + subject_text(certificate()) + " has expired and issues nothing any more; give a new one"};
}

}  // namespace sallyport::ca
