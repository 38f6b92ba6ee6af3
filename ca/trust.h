#pragma once
// What makes clients trust a CA besides the system's roots: PEM bundles, and a store for Java. Bytes in, bytes out.

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace sallyport::ca {

// Where systems keep their roots in one file, in the order in which to look: Debian and Alpine, Fedora and Amazon
// Linux, openSUSE, the BSDs and old Alpine.
inline constexpr std::array<const char*, 4> kSystemRootFiles = {"/etc/ssl/certs/ca-certificates.crt",
                                                                "/etc/pki/tls/certs/ca-bundle.crt",
                                                                "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};

// Where people put roots of their own, for the system to add them to those files: Debian and Alpine, Fedora and Amazon
// Linux, openSUSE.
inline constexpr std::array<const char*, 3> kLocalRootPlaces = {
    "/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors", "/etc/pki/trust/anchors"};

// The store needs no password, but Java programs pass one on.
inline constexpr std::string_view kJavaTrustStorePassword = "changeit";

struct TrustFiles {
  std::string bundle_pem;  // the system's roots and the CA: for variables that replace a client's roots
  std::string ca_pem;      // the CA alone: for variables that add to them
  std::string java_store;  // PKCS#12 with the certificates of the bundle
};

// `system_roots_pem` may be empty (a bare container) and may hold text between the certificates. Fails when `ca_pem`
// holds no certificate, or when either holds a private key: these files are for everyone.
Result<TrustFiles> make_trust_files(std::string_view system_roots_pem, std::string_view ca_pem);

// The CA after what `pem` holds, whether or not that ends with a line break. Fails like make_trust_files.
Result<std::string> add_to_bundle(std::string_view pem, std::string_view ca_pem);

// The DER of every CERTIFICATE block, in order; blocks that are not base64 of one DER SEQUENCE are left out.
std::vector<std::string> certificates_of(std::string_view pem);

}  // namespace sallyport::ca
