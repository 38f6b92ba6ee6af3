#pragma once
// The key schedule of TLS 1.3 (RFC 8446 section 7.1) as an OpenSSL provider. OpenSSL 3.0 makes some fifteen derivations
// a handshake, and looks everything that each needs up by name again: six times what the hashing costs, a seventh of
// the whole handshake. Here it is HKDF-Expand-Label and HKDF-Extract over SHA-256 and SHA-384, whose functions stay
// OpenSSL's.

#include "ca/openssl_ptr.h"

namespace sallyport::net {

// Properties for SSL_CTX_new_ex: ours where it is there, the default provider's for everything else.
inline constexpr const char* kOwnKeySchedule = "?provider=sallyport";

// Loads the provider into `lib`, for as long as that lives. Once, and before anything is done with it. Without it, also
// when memory is short, the properties above mean the default provider's key schedule.
void provide_key_schedule(ca::LibCtxPtr& lib);

}  // namespace sallyport::net
