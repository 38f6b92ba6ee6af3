#pragma once
// The parts that certificates are made of. Internal to ca/: each function says false when OpenSSL could not do it, with
// the reason in its error queue.

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "ca/authority.h"
#include "ca/openssl_ptr.h"
#include "ca/permitted_hosts.h"

namespace sallyport::ca {

// A version 3 certificate without anything in it yet.
X509Ptr new_certificate(OSSL_LIB_CTX* lib);

// 16 random octets, positive and of constant length: RFC 5280 section 4.1.2.2 allows 20.
bool set_random_serial(X509* certificate, OSSL_LIB_CTX* lib);
bool set_validity(X509* certificate, TimePoint not_before, TimePoint not_after);
bool is_uncompressed_p256(std::span<const unsigned char> point);
// A public key of P-256 by its point, uncompressed, which is on the curve. X509_set_pubkey() encodes a key and reads it
// again, which in OpenSSL 3.0 takes longer than all else of a certificate, its signature included.
bool set_p256_point(X509* certificate, std::string_view point);
bool set_common_name(X509_NAME* name, std::string_view text);

bool add_basic_constraints(X509* certificate, bool ca, std::optional<long> path_length);
bool add_key_usage(X509* certificate, std::span<const int> bits);  // bit numbers of RFC 5280 section 4.2.1.3
bool add_server_auth(X509* certificate);
// The leftmost 160 bits of the SHA-256 of the public key (RFC 7093 section 2, method 1).
bool add_subject_key_id(X509* certificate);
// Permits these names with what is below them, and these IP addresses, and nothing else of either: a name form that is
// not mentioned would be unconstrained (RFC 5280 section 4.2.1.10).
bool add_name_constraints(X509* certificate, std::span<const std::string> hosts);
// What add_name_constraints has said. Of another's constraints: what they permit, without what they exclude.
PermittedHosts permitted_hosts(X509* certificate);
bool add_subject_alt_names(X509* certificate, std::span<const std::string_view> hosts);

// The extension that leaves and intermediates below `issuer` carry: its stored SKI, byte for byte, as verifiers compare
// with that. An issuer without one is named by the hash that it should have had.
X509ExtensionPtr authority_key_id(X509* issuer);

// A host that a certificate may name: see request/host.h for the same rule. Wildcards are none.
bool is_certificate_host(std::string_view host);
bool is_dns_name(std::string_view host);

std::optional<TimePoint> time_of(const ASN1_TIME* time);
// Why TLS clients would not accept certificates of this key, with what they would accept; nothing when they would.
std::optional<std::string> why_weak(EVP_PKEY* key);
bool is_self_signed(X509* certificate);
std::string name_text(const X509_NAME* name);  // RFC 2253, "CN=…"
std::string subject_text(X509* certificate);

}  // namespace sallyport::ca
