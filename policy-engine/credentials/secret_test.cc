#include "policy-engine/credentials/secret.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/crypto.h>

#include <string>

#include "base/limits.h"

namespace sallyport::credentials {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string refusal(std::string_view bytes) {
  const auto secret = Secret::from_source(bytes, "/run/secrets/x");
  EXPECT_FALSE(secret) << bytes;
  return secret ? "" : secret.error().text;
}

TEST(Secret, ALineBreakAtTheEndOfTheSourceIsNoPartOfIt) {
  for (const char* bytes : {"s3cret", "s3cret\n", "s3cret\r\n"}) {
    const auto secret = Secret::from_source(bytes, "file");
    ASSERT_TRUE(secret) << secret.error().text;
    EXPECT_EQ(secret->view(), "s3cret");
  }
}

TEST(Secret, WhatNoHeaderCarriesIsRefusedWithoutSayingTheSecret) {
  EXPECT_THAT(refusal(""), HasSubstr("the secret in /run/secrets/x is empty"));
  EXPECT_THAT(refusal("\n"), HasSubstr("is empty"));
  EXPECT_THAT(refusal("one\ntwo"), HasSubstr("more than one line"));
  EXPECT_THAT(refusal("one\r\nX: 1"), HasSubstr("more than one line"));
  EXPECT_THAT(refusal("one\n\n"), HasSubstr("more than one line"));
  EXPECT_THAT(refusal(std::string_view("on\0e", 4)), HasSubstr("control character"));
  EXPECT_THAT(refusal("on\x7f"
                      "e"),
              HasSubstr("control character"));
  EXPECT_THAT(refusal(" one"), HasSubstr("blank"));
  EXPECT_THAT(refusal("one \n"), HasSubstr("blank"));
  EXPECT_THAT(refusal("\xef\xbb\xbfone"), HasSubstr("byte order mark"));
  for (const char* bytes : {"topsecret\nx", " topsecret", "topsecret\x01"})
    EXPECT_THAT(refusal(bytes), Not(HasSubstr("topsecret")));
}

TEST(Secret, ItsSizeIsCapped) {
  EXPECT_TRUE(Secret::copy_of(std::string(limits::kSecretBytesMax, 'x')));
  const auto over = Secret::copy_of(std::string(limits::kSecretBytesMax + 1, 'x'));
  ASSERT_FALSE(over);
  EXPECT_EQ(over.error().kind, ErrorKind::limit);
  EXPECT_FALSE(Secret::copy_of(""));
}

TEST(Secret, MovingLeavesNothingBehind) {
  Secret first = std::move(*Secret::copy_of("one"));
  Secret second = std::move(first);
  EXPECT_TRUE(first.empty());  // NOLINT(bugprone-use-after-move): that is what is shown
  EXPECT_EQ(second.view(), "one");
  second = std::move(*Secret::copy_of("two"));
  EXPECT_EQ(second.view(), "two");
  Secret& same = second;
  second = std::move(same);
  EXPECT_EQ(second.view(), "two");
}

// One test, as the heap can be made only once in a process.
TEST(SecureMemory, HoldsSecretsUntilItIsFullAndWipesThem) {
  prepare_secure_memory();
  prepare_secure_memory();
  ASSERT_EQ(CRYPTO_secure_malloc_initialized(), 1);
  std::vector<Secret> secrets;
  secrets.push_back(std::move(*Secret::copy_of("a secret that is long enough to be seen")));
  const char* where = secrets[0].view().data();
  EXPECT_EQ(CRYPTO_secure_allocated(where), 1);
  constexpr std::size_t kMoreThanItHolds = 1000;
  while (CRYPTO_secure_allocated(secrets.back().view().data()) == 1 && secrets.size() < kMoreThanItHolds) {
    auto big = Secret::copy_of(std::string(limits::kSecretBytesMax, 'x'));
    ASSERT_TRUE(big) << "the ordinary heap takes what the locked one can't";
    secrets.push_back(std::move(*big));
  }
  EXPECT_LT(secrets.size(), kMoreThanItHolds);
  const std::size_t size = secrets[0].view().size();
  secrets.clear();
  EXPECT_EQ(std::string_view(where, size).find("secret"), std::string_view::npos) << "the locked heap stays mapped";
}

}  // namespace
}  // namespace sallyport::credentials
