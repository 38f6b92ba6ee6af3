// SHA256_Init and its like are "deprecated" for EVP, which is the cost that this file is there to avoid.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "proxy/net/tls_kdf.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

namespace sallyport::net {

namespace {

using Bytes = std::span<const unsigned char>;

struct Sha256 {
  static constexpr std::size_t kSize = SHA256_DIGEST_LENGTH, kBlock = SHA256_CBLOCK;
  SHA256_CTX state;
  void begin() { SHA256_Init(&state); }
  void update(Bytes bytes) { SHA256_Update(&state, bytes.data(), bytes.size()); }
  void end(unsigned char* out) { SHA256_Final(out, &state); }
};

struct Sha384 {
  static constexpr std::size_t kSize = SHA384_DIGEST_LENGTH, kBlock = SHA512_CBLOCK;
  SHA512_CTX state;
  void begin() { SHA384_Init(&state); }
  void update(Bytes bytes) { SHA384_Update(&state, bytes.data(), bytes.size()); }
  void end(unsigned char* out) { SHA384_Final(out, &state); }
};

template <typename Hash>
using Digest = std::array<unsigned char, Hash::kSize>;

// RFC 2104, with a key of at most a block: the secrets of TLS are digests.
template <typename Hash>
class Hmac {
 public:
  explicit Hmac(Bytes key) {
    std::array<unsigned char, Hash::kBlock> pad{};
    std::ranges::copy(key, pad.begin());
    for (unsigned char& byte : pad) byte ^= 0x36;
    inner_.begin();
    inner_.update(pad);
    for (unsigned char& byte : pad) byte ^= 0x36 ^ 0x5C;
    outer_.begin();
    outer_.update(pad);
    OPENSSL_cleanse(pad.data(), pad.size());
  }
  Hmac(const Hmac&) = delete;
  Hmac& operator=(const Hmac&) = delete;
  ~Hmac() {
    OPENSSL_cleanse(&inner_, sizeof inner_);
    OPENSSL_cleanse(&outer_, sizeof outer_);
  }
  void update(Bytes bytes) { inner_.update(bytes); }
  void end(Digest<Hash>& out) {
    inner_.end(out.data());
    outer_.update(out);
    outer_.end(out.data());
  }

 private:
  Hash inner_, outer_;
};

// What a derivation is given, by OpenSSL's names. Null data is absent.
struct Inputs {
  int mode = -1;
  std::string_view digest;
  Bytes key, salt, prefix, label, data;
};

bool read(const OSSL_PARAM& param, Bytes& out) {
  const void* data = nullptr;
  std::size_t size = 0;
  if (OSSL_PARAM_get_octet_string_ptr(&param, &data, &size) != 1) return false;
  out = {static_cast<const unsigned char*>(data), size};
  return true;
}

std::optional<Inputs> read_inputs(const OSSL_PARAM* params) {
  Inputs in;
  for (const OSSL_PARAM* param = params; param != nullptr && param->key != nullptr; ++param) {
    const std::string_view name = param->key;
    bool good = true;
    if (name == OSSL_KDF_PARAM_MODE) {
      good = OSSL_PARAM_get_int(param, &in.mode) == 1;
    } else if (name == OSSL_KDF_PARAM_DIGEST) {
      const char* text = nullptr;
      good = OSSL_PARAM_get_utf8_string_ptr(param, &text) == 1;
      if (good) in.digest = text;
    } else if (name == OSSL_KDF_PARAM_KEY) {
      good = read(*param, in.key);
    } else if (name == OSSL_KDF_PARAM_SALT) {
      good = read(*param, in.salt);
    } else if (name == OSSL_KDF_PARAM_PREFIX) {
      good = read(*param, in.prefix);
    } else if (name == OSSL_KDF_PARAM_LABEL) {
      good = read(*param, in.label);
    } else if (name == OSSL_KDF_PARAM_DATA) {
      good = read(*param, in.data);
    } else {
      good = name == OSSL_KDF_PARAM_PROPERTIES;  // of the digest: there is one of each here
    }
    if (!good) return std::nullopt;
  }
  return in;
}

// HKDF-Expand-Label (RFC 8446 section 7.1, RFC 5869 section 2.3).
template <typename Hash>
bool expand(Bytes secret, const Inputs& in, Bytes context, std::span<unsigned char> out) {
  constexpr std::size_t kBlocksMax = 255, kLengthMax = 255;
  if (secret.size() > Hash::kBlock || out.empty() || out.size() > kBlocksMax * Hash::kSize) return false;
  if (in.prefix.size() + in.label.size() > kLengthMax || context.size() > kLengthMax) return false;
  const std::array<unsigned char, 3> head{static_cast<unsigned char>(out.size() >> 8),
                                          static_cast<unsigned char>(out.size()),
                                          static_cast<unsigned char>(in.prefix.size() + in.label.size())};
  const auto context_size = static_cast<unsigned char>(context.size());
  Digest<Hash> block;
  unsigned char count = 0;
  while (!out.empty()) {
    Hmac<Hash> hmac(secret);
    if (count > 0) hmac.update(block);
    hmac.update(head);
    hmac.update(in.prefix);
    hmac.update(in.label);
    hmac.update({&context_size, 1});
    hmac.update(context);
    ++count;
    hmac.update({&count, 1});
    hmac.end(block);
    const std::size_t size = std::min(out.size(), block.size());
    std::copy_n(block.begin(), size, out.begin());
    out = out.subspan(size);
  }
  OPENSSL_cleanse(block.data(), block.size());
  return true;
}

// The next secret of the schedule: HKDF-Extract of a new one with what Derive-Secret(., "derived", "") makes of the one
// before. Where either is absent there are zeros, as the RFC has it.
template <typename Hash>
bool extract(const Inputs& in, std::span<unsigned char> out) {
  if (out.size() != Hash::kSize) return false;
  const Digest<Hash> zeros{};
  Digest<Hash> salt{};
  if (in.salt.data() != nullptr) {
    Digest<Hash> nothing;
    Hash hash;
    hash.begin();
    hash.end(nothing.data());
    if (in.salt.size() != Hash::kSize || !expand<Hash>(in.salt, in, nothing, salt)) return false;
  }
  Digest<Hash> secret;
  {
    Hmac<Hash> hmac(salt);
    hmac.update(in.key.data() != nullptr ? in.key : Bytes(zeros));
    hmac.end(secret);
  }
  std::ranges::copy(secret, out.begin());
  OPENSSL_cleanse(secret.data(), secret.size());
  OPENSSL_cleanse(salt.data(), salt.size());
  return true;
}

template <typename Hash>
bool derive_with(const Inputs& in, std::span<unsigned char> out) {
  switch (in.mode) {
    case EVP_KDF_HKDF_MODE_EXTRACT_ONLY:
      return extract<Hash>(in, out);
    case EVP_KDF_HKDF_MODE_EXPAND_ONLY:
      return in.key.size() == Hash::kSize && expand<Hash>(in.key, in, in.data, out);
    default:
      return false;  // there is no other in TLS 1.3
  }
}

bool names(std::string_view digest, std::string_view plain, std::string_view dashed) {
  const auto equals = [digest](std::string_view name) {
    return std::ranges::equal(digest, name, [](char a, char b) { return (a >= 'a' && a <= 'z' ? a - 32 : a) == b; });
  };
  return equals(plain) || equals(dashed);
}

// Everything that it needs comes with the call, as libssl has it. Fails closed, and the handshake with it.
int derive(void* /*context*/, unsigned char* key, std::size_t size, const OSSL_PARAM params[]) {
  const std::optional<Inputs> in = read_inputs(params);
  bool done = false;
  if (in && names(in->digest, "SHA256", "SHA2-256")) done = derive_with<Sha256>(*in, {key, size});
  if (in && names(in->digest, "SHA384", "SHA2-384")) done = derive_with<Sha384>(*in, {key, size});
  if (!done) ERR_raise(ERR_LIB_PROV, ERR_R_PASSED_INVALID_ARGUMENT);
  return done ? 1 : 0;
}

// A derivation holds nothing between calls: what stands for it is the provider.
void* new_context(void* provider) { return provider; }
void free_context(void* /*context*/) {}
int set_no_params(void* /*context*/, const OSSL_PARAM params[]) {
  return params == nullptr || params->key == nullptr ? 1 : 0;  // they would be forgotten
}

template <typename Function>
OSSL_DISPATCH entry(int id, Function* function) {
  return {id, reinterpret_cast<void (*)()>(function)};
}

const OSSL_ALGORITHM* query(void* /*provider*/, int operation, int* no_cache) {
  static const std::array<OSSL_DISPATCH, 5> functions{
      entry(OSSL_FUNC_KDF_NEWCTX, new_context), entry(OSSL_FUNC_KDF_FREECTX, free_context),
      entry(OSSL_FUNC_KDF_DERIVE, derive), entry(OSSL_FUNC_KDF_SET_CTX_PARAMS, set_no_params), OSSL_DISPATCH{}};
  static const std::array<OSSL_ALGORITHM, 2> algorithms{
      OSSL_ALGORITHM{OSSL_KDF_NAME_TLS1_3_KDF, "provider=sallyport", functions.data(), nullptr}, OSSL_ALGORITHM{}};
  *no_cache = 0;
  return operation == OSSL_OP_KDF ? algorithms.data() : nullptr;
}

int initialise(const OSSL_CORE_HANDLE* /*core*/, const OSSL_DISPATCH* /*in*/, const OSSL_DISPATCH** out,
               void** provider) {
  static const std::array<OSSL_DISPATCH, 2> functions{entry(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query),
                                                      OSSL_DISPATCH{}};
  static char self;
  *out = functions.data();
  *provider = &self;
  return 1;
}

}  // namespace

void provide_key_schedule(ca::LibCtxPtr& lib) {
  constexpr const char* kName = "sallyport";
  // Once any provider is loaded by its name the default one has to be, too.
  std::array<OSSL_PROVIDER*, 2>& loaded = lib.get_deleter().loaded;
  loaded[0] = OSSL_PROVIDER_load(lib.get(), "default");
  if (loaded[0] != nullptr && OSSL_PROVIDER_add_builtin(lib.get(), kName, initialise) == 1) {
    loaded[1] = OSSL_PROVIDER_load(lib.get(), kName);
  }
  if (loaded[1] == nullptr) ERR_clear_error();
}

}  // namespace sallyport::net
