// The key schedule beside OpenSSL's own, and in handshakes.
#include "proxy/net/tls_kdf.h"

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "ca/openssl_ptr.h"

namespace sallyport::net {
namespace {

using Bytes = std::vector<unsigned char>;

struct Derivation {
  int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
  std::string digest = "SHA2-256";
  std::optional<Bytes> key = {}, salt = {}, data = {};
  std::string prefix = "tls13 ", label = "derived";
  std::size_t size = 32;
};

class KeySchedule : public ::testing::Test {
 protected:
  KeySchedule() : lib_(OSSL_LIB_CTX_new()) { provide_key_schedule(lib_); }

  std::optional<Bytes> derive(const Derivation& wanted, const char* properties) {
    EVP_KDF* kdf = EVP_KDF_fetch(lib_.get(), OSSL_KDF_NAME_TLS1_3_KDF, properties);
    EXPECT_NE(kdf, nullptr);
    provider_ = OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(kdf));
    EVP_KDF_CTX* context = EVP_KDF_CTX_new(kdf);
    EVP_KDF_free(kdf);
    int mode = wanted.mode;
    std::string digest = wanted.digest, prefix = wanted.prefix, label = wanted.label;
    std::vector<OSSL_PARAM> params{
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, prefix.data(), prefix.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, label.data(), label.size()),
    };
    const auto add = [&](const char* name, const std::optional<Bytes>& value) {
      if (!value) return;
      params.push_back(
          OSSL_PARAM_construct_octet_string(name, const_cast<unsigned char*>(value->data()), value->size()));
    };
    add(OSSL_KDF_PARAM_KEY, wanted.key);
    add(OSSL_KDF_PARAM_SALT, wanted.salt);
    add(OSSL_KDF_PARAM_DATA, wanted.data);
    params.push_back(OSSL_PARAM_construct_end());
    Bytes out(wanted.size);
    const bool done = EVP_KDF_derive(context, out.data(), out.size(), params.data()) == 1;
    EVP_KDF_CTX_free(context);
    ERR_clear_error();
    return done ? std::optional(out) : std::nullopt;
  }

  void expect_equal(const Derivation& wanted) {
    const auto ours = derive(wanted, kOwnKeySchedule);
    EXPECT_EQ(provider_, "sallyport");
    const auto theirs = derive(wanted, "provider=default");
    EXPECT_EQ(provider_, "default");
    ASSERT_TRUE(theirs);
    EXPECT_EQ(ours, theirs);
  }

  ca::LibCtxPtr lib_;
  std::string provider_;
};

TEST_F(KeySchedule, DerivesWhatOpenSslDoes) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const auto bytes = [&](std::size_t size) {
    Bytes made(size);
    for (unsigned char& byte : made) byte = static_cast<unsigned char>(random());
    return made;
  };
  for (int round = 0; round < 2'000; ++round) {
    Derivation wanted;
    const std::size_t size = random() % 2 == 0 ? 32 : 48;
    wanted.digest = size == 32 ? (random() % 2 == 0 ? "SHA256" : "SHA2-256") : "SHA2-384";
    if (random() % 2 == 0) {
      wanted.mode = EVP_KDF_HKDF_MODE_EXTRACT_ONLY;
      wanted.size = size;
      if (random() % 4 != 0) wanted.key = bytes(1 + random() % 200);
      if (random() % 4 != 0) wanted.salt = bytes(size);
    } else {
      wanted.key = bytes(size);
      wanted.label = std::string(1 + random() % 12, static_cast<char>('a' + random() % 26));
      if (random() % 3 != 0) wanted.data = bytes(size);
      wanted.size = 1 + random() % 100;
    }
    expect_equal(wanted);
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
}

TEST_F(KeySchedule, RefusesWhatTls13DoesNotAskFor) {
  const Derivation good{.key = Bytes(32, 1), .data = Bytes(32, 2)};
  EXPECT_TRUE(derive(good, kOwnKeySchedule));
  std::vector<Derivation> bad(7, good);
  bad[0].mode = EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND;
  bad[1].digest = "SHA2-512";
  bad[2].key = Bytes(31, 1);
  bad[3].key.reset();
  bad[4].label = std::string(250, 'l');
  bad[5].size = 255 * 32 + 1;
  bad[6].data = Bytes(256, 2);
  for (std::size_t i = 0; i < bad.size(); ++i) EXPECT_FALSE(derive(bad[i], kOwnKeySchedule)) << i;
}

TEST_F(KeySchedule, WithoutTheProviderItIsTheDefaultOnes) {
  lib_.reset();
  lib_ = ca::LibCtxPtr(OSSL_LIB_CTX_new());
  EXPECT_TRUE(derive({.key = Bytes(32, 1)}, kOwnKeySchedule));
  EXPECT_EQ(provider_, "default");
}

TEST_F(KeySchedule, LeavesEverythingElseToTheDefaultProvider) {
  EVP_MD* digest = EVP_MD_fetch(lib_.get(), "SHA2-256", kOwnKeySchedule);
  ASSERT_NE(digest, nullptr);
  EXPECT_STREQ(OSSL_PROVIDER_get0_name(EVP_MD_get0_provider(digest)), "default");
  EVP_MD_free(digest);
}

}  // namespace
}  // namespace sallyport::net
