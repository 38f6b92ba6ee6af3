#include "ca/leaf_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <numeric>
#include <random>

#include "ca/certificate_form.h"
#include "ca/test_support.h"

namespace sallyport::ca {
namespace {

using namespace std::chrono_literals;
using test::kNoon;
using test::run;

Authority root_at(OSSL_LIB_CTX* lib, TimePoint now, std::chrono::seconds lifetime = limits::kRootLifetime) {
  return std::move(*Authority::create_root(lib, {.lifetime = lifetime}, now));
}

LeafCache cache_of(Authority authority, std::size_t capacity = limits::kLeafCacheMax) {
  auto cache = LeafCache::create(std::move(authority), capacity);
  EXPECT_TRUE(cache) << (cache ? "" : cache.error().text);
  return std::move(*cache);
}

TEST(LeafCache, AHostIsMintedOnce) {
  LeafCache cache = cache_of(root_at(nullptr, kNoon));
  const auto first = cache.get("a.example", kNoon);
  ASSERT_TRUE(first);
  X509* const certificate = (*first)->certificate;
  const auto second = cache.get("a.example", kNoon + 1h);
  ASSERT_TRUE(second);
  EXPECT_EQ((*second)->certificate, certificate);
  EXPECT_EQ(cache.mints(), 1u);
  EXPECT_EQ((*second)->chain, nullptr);
  EXPECT_EQ(X509_check_private_key(certificate, (*second)->key), 1);
  EXPECT_NE(X509_check_private_key(cache.authority().certificate(), (*second)->key), 1) << "never the CA's own key";
}

TEST(LeafCache, TheLeastRecentlyUsedGoesFirstAndTheCapHolds) {
  LeafCache cache = cache_of(root_at(nullptr, kNoon), 3);
  for (const char* host : {"a.example", "b.example", "c.example", "a.example", "d.example"}) {
    ASSERT_TRUE(cache.get(host, kNoon));
  }
  EXPECT_EQ(cache.size(), 3u);
  EXPECT_EQ(cache.mints(), 4u);
  ASSERT_TRUE(cache.get("a.example", kNoon));
  EXPECT_EQ(cache.mints(), 4u) << "a was used after b";
  ASSERT_TRUE(cache.get("b.example", kNoon));
  EXPECT_EQ(cache.mints(), 5u);
}

TEST(LeafCache, BehavesAsASlowCacheDoes) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  LeafCache cache = cache_of(root_at(nullptr, kNoon), 4);
  std::vector<std::string> recent;  // most recent first
  std::uint64_t mints = 0;
  for (int i = 0; i < 400; ++i) {
    const std::string host = "h" + std::to_string(random() % 7) + ".example";
    if (const auto found = std::ranges::find(recent, host); found != recent.end()) {
      recent.erase(found);
    } else {
      ++mints;
    }
    recent.insert(recent.begin(), host);
    if (recent.size() > 4) recent.pop_back();
    const auto leaf = cache.get(host, kNoon);
    ASSERT_TRUE(leaf);
    ASSERT_EQ(X509_check_host((*leaf)->certificate, host.c_str(), host.size(), 0, nullptr), 1);
    ASSERT_EQ(cache.mints(), mints);
  }
}

TEST(LeafCache, ALeafIsMintedAnewBeforeItExpiresAndWhenTheClockGoesBack) {
  LeafCache cache = cache_of(root_at(nullptr, kNoon - 24h * 30));
  ASSERT_TRUE(cache.get("a.example", kNoon));
  ASSERT_TRUE(cache.get("a.example", kNoon + limits::kLeafLifetime - limits::kLeafRenewal - 1s));
  EXPECT_EQ(cache.mints(), 1u);
  ASSERT_TRUE(cache.get("a.example", kNoon + limits::kLeafLifetime - limits::kLeafRenewal));
  EXPECT_EQ(cache.mints(), 2u);
  ASSERT_TRUE(cache.get("a.example", kNoon - 24h));
  EXPECT_EQ(cache.mints(), 3u);
  EXPECT_EQ(cache.size(), 1u);
}

TEST(LeafCache, NearTheEndOfTheCaLeavesAreStillCachedAndAfterItNoneIsGiven) {
  LeafCache cache = cache_of(root_at(nullptr, kNoon, 1h));
  const auto leaf = cache.get("a.example", kNoon);
  ASSERT_TRUE(leaf);
  EXPECT_EQ((*leaf)->not_after, kNoon + 1h);
  ASSERT_TRUE(cache.get("a.example", kNoon + 30min));
  EXPECT_EQ(cache.mints(), 1u);
  const auto late = cache.get("a.example", kNoon + 1h);
  ASSERT_FALSE(late);
  EXPECT_THAT(late.error().text, testing::HasSubstr("has expired"));
}

TEST(LeafCache, AHostThatIsNoneIsRefusedAndNotKept) {
  LeafCache cache = cache_of(root_at(nullptr, kNoon));
  for (const char* host : {"*.example.com", "", "A.example", "a b"}) EXPECT_FALSE(cache.get(host, kNoon)) << host;
  EXPECT_EQ(cache.size(), 0u);
}

TEST(LeafCache, AnIntermediatesChainGoesWithEveryLeaf) {
  const Authority root = root_at(nullptr, kNoon);
  LeafCache cache = cache_of(std::move(*root.issue_intermediate("Guard", {}, 24h, kNoon)));
  const auto leaf = cache.get("a.example", kNoon);
  ASSERT_TRUE(leaf);
  ASSERT_NE((*leaf)->chain, nullptr);
  EXPECT_EQ(sk_X509_num((*leaf)->chain), 1);
}

// A strict client in the manner of Python 3.13, where VERIFY_X509_STRICT is the default.
constexpr const char* kStrictClient = R"(
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.verify_flags |= ssl.VERIFY_X509_STRICT
with socket.create_connection(("127.0.0.1", int(sys.argv[2])), 10) as plain:
    with context.wrap_socket(plain, server_hostname=sys.argv[3]) as tls:
        tls.sendall(b"GET / HTTP/1.1\r\n\r\n")
        print(tls.recv(1000))
)";

class StrictHandshake : public testing::TestWithParam<const char*> {};

TEST_P(StrictHandshake, SucceedsForTheHostOfTheLeafAndForNoOther) {
  if (!test::have("/usr/bin/python3")) GTEST_SKIP() << "needs /usr/bin/python3";
  const test::TempDir dir;
  const LibCtxPtr lib(OSSL_LIB_CTX_new());
  LeafCache cache = cache_of(root_at(lib.get(), test::today()));
  const auto leaf = cache.get(GetParam(), test::today());
  ASSERT_TRUE(leaf) << leaf.error().text;
  const test::TlsServer server((*leaf)->certificate, (*leaf)->key, (*leaf)->chain, lib.get());
  const std::string client = "/usr/bin/python3 " + dir.write("client.py", kStrictClient) + " " +
                             dir.write("root.pem", cache.authority().trust_pem()) + " " + server.port() + " ";
  const test::Ran good = run(client + GetParam());
  EXPECT_EQ(good.status, 0) << good.output;
  EXPECT_THAT(good.output, testing::HasSubstr("hello"));
  const test::Ran bad = run(client + "other.example");
  EXPECT_NE(bad.status, 0);
  EXPECT_THAT(bad.output, testing::HasSubstr("CERTIFICATE_VERIFY_FAILED"));
}

INSTANTIATE_TEST_SUITE_P(
    Hosts, StrictHandshake,
    testing::Values("api.example.com", "127.0.0.1", "::1",
                    "a-name-longer-than-what-a-common-name.could-hold-at-sixty-four-bytes.example"));

// The guard mints on its worker: what one mint costs is what every other connection waits. 0.3 ms in an optimised
// build; the sanitizers of this build slow OpenSSL's own code little, so the bound that is asserted leaves room for a
// busy machine.
TEST(LeafCache, AMintIsQuick) {
  const LibCtxPtr lib(OSSL_LIB_CTX_new());
  LeafCache cache = cache_of(root_at(lib.get(), kNoon));
  std::vector<double> times_us;
  for (int i = 0; i < 500; ++i) {
    const std::string host = "host-" + std::to_string(i) + ".example.com";
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(cache.get(host, kNoon));
    times_us.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  std::ranges::sort(times_us);
  std::cout << "mint: median " << times_us[250] << " us, 99 % under " << times_us[495] << " us\n";
  EXPECT_LT(times_us[250], 3'000);
}

}  // namespace
}  // namespace sallyport::ca
