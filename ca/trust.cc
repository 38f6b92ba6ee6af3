#include "ca/trust.h"

#include <openssl/evp.h>

#include "base/limits.h"
#include "ca/java_trust_store.h"
#include "ca/openssl_ptr.h"

namespace sallyport::ca {
namespace {

constexpr std::string_view kBegin = "-----BEGIN CERTIFICATE-----";
constexpr std::string_view kEnd = "-----END CERTIFICATE-----";

using EncodeCtxPtr = OpensslPtr<EVP_ENCODE_CTX, EVP_ENCODE_CTX_free>;

// One SEQUENCE and nothing after it: what Java insists on, seen without parsing the certificate.
bool is_one_sequence(std::string_view der) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(der[i]); };
  if (der.size() < 4 || byte(0) != 0x30) return false;
  if (byte(1) < 0x80) return der.size() == 2u + byte(1);
  const std::size_t length_bytes = byte(1) & 0x7fu;
  if (length_bytes == 0 || length_bytes > 3 || der.size() < 2 + length_bytes) return false;
  std::size_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) length = length << 8 | byte(2 + i);
  return der.size() == 2 + length_bytes + length;
}

// The bytes of a base64 block with line breaks; empty when it is none.
std::string decode(EVP_ENCODE_CTX* context, std::string_view text) {
  std::string der(text.size() / 4 * 3 + 3, '\0');
  auto* out = reinterpret_cast<unsigned char*>(der.data());
  int size = 0;
  int rest = 0;
  EVP_DecodeInit(context);
  if (EVP_DecodeUpdate(context, out, &size, reinterpret_cast<const unsigned char*>(text.data()),
                       static_cast<int>(text.size())) < 0 ||
      EVP_DecodeFinal(context, out + size, &rest) < 0) {
    return {};
  }
  der.resize(static_cast<std::size_t>(size) + static_cast<std::size_t>(rest));
  return der;
}

// A key that slipped into these files would be handed to every client: refused, whatever else is in them.
bool holds_private_key(std::string_view pem) { return pem.find("PRIVATE KEY-----") != std::string_view::npos; }

std::unexpected<Error> refuse(std::string_view what) {
  return fail(ErrorSource::internal, ErrorKind::invalid, std::string(what));
}

std::string java_store_of(const std::vector<std::string>& system, const std::vector<std::string>& ca) {
  std::vector<TrustedCertificate> trusted;
  trusted.reserve(system.size() + ca.size());
  for (const std::string& der : ca) trusted.push_back({"sallyport-" + std::to_string(trusted.size() + 1), der});
  for (const std::string& der : system) trusted.push_back({"system-" + std::to_string(trusted.size() + 1), der});
  return java_trust_store(trusted);
}

}  // namespace

std::vector<std::string> certificates_of(std::string_view pem) {
  std::vector<std::string> certificates;
  const EncodeCtxPtr context(EVP_ENCODE_CTX_new());
  if (!context) return certificates;
  while (true) {
    const std::size_t begin = pem.find(kBegin);
    if (begin == std::string_view::npos) break;
    pem.remove_prefix(begin + kBegin.size());
    const std::size_t end = pem.find(kEnd);
    if (end == std::string_view::npos) break;
    std::string der = decode(context.get(), pem.substr(0, end));
    if (is_one_sequence(der)) certificates.push_back(std::move(der));
    pem.remove_prefix(end + kEnd.size());
  }
  return certificates;
}

Result<std::string> add_to_bundle(std::string_view pem, std::string_view ca_pem) {
  if (holds_private_key(ca_pem)) return refuse("the CA's certificate file holds a private key; keep the two apart");
  if (certificates_of(ca_pem).empty()) return refuse("the CA's file holds no PEM certificate");
  if (holds_private_key(pem)) return refuse("the bundle of trusted certificates holds a private key");
  if (pem.size() > limits::kTrustBundleBytesMax) return refuse("the bundle of trusted certificates is too large");
  std::string bundle;
  bundle.reserve(pem.size() + ca_pem.size() + 2);
  bundle = pem;
  if (!bundle.empty() && bundle.back() != '\n') bundle += '\n';
  bundle += ca_pem;
  if (bundle.back() != '\n') bundle += '\n';
  return bundle;
}

Result<TrustFiles> make_trust_files(std::string_view system_roots_pem, std::string_view ca_pem) {
  auto bundle = add_to_bundle(system_roots_pem, ca_pem);
  if (!bundle) return std::unexpected(bundle.error());
  TrustFiles files;
  files.bundle_pem = std::move(*bundle);
  files.ca_pem = ca_pem;
  files.java_store = java_store_of(certificates_of(system_roots_pem), certificates_of(ca_pem));
  return files;
}

}  // namespace sallyport::ca
