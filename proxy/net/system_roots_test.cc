#include "proxy/net/system_roots.h"

#include <gmock/gmock.h>
#include <openssl/pem.h>

#include "proxy/net/test_certificates.h"
#include "proxy/net/trust_store.h"

namespace sallyport::net {
namespace {

using testing::Identity;
using testing::make_identity;
using testing::Profile;

Profile authority(const std::string& name) {
  Profile profile;
  profile.common_name = name;
  profile.authority = true;
  return profile;
}

std::string der_of(X509* certificate) {
  unsigned char* data = nullptr;
  const int size = i2d_X509(certificate, &data);
  std::string der(reinterpret_cast<const char*>(data), static_cast<std::size_t>(std::max(size, 0)));
  OPENSSL_free(data);
  return der;
}

class SystemRootsTest : public ::testing::Test {
 protected:
  void add(const Identity& root, RootKind kind) { list_->add(nullptr, der_of(root.certificate.get()), kind); }
  void use() {
    store_.reset(X509_STORE_new());
    web_ = std::make_shared<WebRoots>();
    ASSERT_TRUE(use_roots(store_.get(), nullptr, list_, web_));
  }
  // The root that the chain ends in; null if it does not verify.
  ca::X509Ptr anchor_of(const Identity& server) {
    const ca::X509StoreCtxPtr context(X509_STORE_CTX_new());
    EXPECT_EQ(X509_STORE_CTX_init(context.get(), store_.get(), server.certificate.get(), nullptr), 1);
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(context.get()), X509_V_FLAG_PARTIAL_CHAIN);
    if (X509_verify_cert(context.get()) != 1) return nullptr;
    const STACK_OF(X509)* chain = X509_STORE_CTX_get0_chain(context.get());
    return ca::share(sk_X509_value(chain, sk_X509_num(chain) - 1));
  }
  int decoded() const { return sk_X509_OBJECT_num(X509_STORE_get0_objects(store_.get())); }
  bool is_of_web(const ca::X509Ptr& root) const { return web_->contains(root.get()); }

  std::shared_ptr<RootList> list_ = std::make_shared<RootList>();
  ca::X509StorePtr store_;
  std::shared_ptr<WebRoots> web_;
};

TEST_F(SystemRootsTest, OnlyTheRootThatIsAskedForIsDecoded) {
  const Identity wanted = make_identity(authority("Wanted"));
  const Identity other = make_identity(authority("Other"));
  add(other, RootKind::web);
  add(wanted, RootKind::web);
  use();
  EXPECT_EQ(decoded(), 0);
  const ca::X509Ptr anchor = anchor_of(make_identity({}, &wanted));
  ASSERT_TRUE(anchor);
  EXPECT_EQ(X509_cmp(anchor.get(), wanted.certificate.get()), 0);
  EXPECT_TRUE(is_of_web(anchor));
  EXPECT_EQ(decoded(), 1);
  EXPECT_TRUE(anchor_of(make_identity({}, &wanted)));
  EXPECT_EQ(decoded(), 1) << "once is enough";
}

TEST_F(SystemRootsTest, AnUnknownIssuerFindsNothing) {
  add(make_identity(authority("Root")), RootKind::web);
  use();
  const Identity stranger = make_identity(authority("Stranger"));
  EXPECT_FALSE(anchor_of(make_identity({}, &stranger)));
  EXPECT_EQ(decoded(), 0);
}

TEST_F(SystemRootsTest, ANameThatSomebodyElseHasTooIsNotEnough) {
  const Identity impostor = make_identity(authority("Root"));
  add(make_identity(authority("Root")), RootKind::web);
  use();
  EXPECT_FALSE(anchor_of(make_identity({}, &impostor)));
}

TEST_F(SystemRootsTest, RootsOfOneNameAreAllThere) {
  const Identity before = make_identity(authority("Root"));
  const Identity after = make_identity(authority("Root"));
  add(before, RootKind::web);
  add(after, RootKind::given);
  use();
  const ca::X509Ptr first = anchor_of(make_identity({}, &before));
  const ca::X509Ptr second = anchor_of(make_identity({}, &after));
  ASSERT_TRUE(first && second);
  EXPECT_TRUE(is_of_web(first));
  EXPECT_FALSE(is_of_web(second));
}

TEST_F(SystemRootsTest, NamesAreComparedAsX500Does) {
  Profile spaced = authority("A  ROOT");
  const Identity root = make_identity(spaced);
  spaced.common_name = "a Root";
  const Identity written_differently = make_identity(spaced);
  add(root, RootKind::web);
  use();
  EXPECT_FALSE(anchor_of(make_identity({}, &written_differently))) << "another key";
  EXPECT_EQ(decoded(), 1) << "but the name is the same";
}

TEST_F(SystemRootsTest, WhatSomebodyHasGivenStaysGiven) {
  const Identity root = make_identity(authority("Root"));
  add(root, RootKind::given);
  add(root, RootKind::web);
  EXPECT_EQ(list_->roots().size(), 1U);
  use();
  const ca::X509Ptr anchor = anchor_of(make_identity({}, &root));
  ASSERT_TRUE(anchor);
  EXPECT_FALSE(is_of_web(anchor));
}

TEST_F(SystemRootsTest, AServersOwnCertificateMayBeTrusted) {
  const Identity server = make_identity({});
  add(server, RootKind::given);
  use();
  EXPECT_TRUE(anchor_of(server));
}

TEST_F(SystemRootsTest, WhatIsNoCertificateIsPassedOver) {
  const std::string whole = der_of(make_identity(authority("Root")).certificate.get());
  for (std::size_t size = 0; size < whole.size(); ++size) list_->add(nullptr, whole.substr(0, size), RootKind::web);
  list_->add(nullptr, std::string(64, '\x30'), RootKind::web);
  use();
  EXPECT_FALSE(anchor_of(make_identity({})));
  EXPECT_TRUE(list_->certificates(nullptr, RootKind::web).empty());
}

TEST_F(SystemRootsTest, TheStoreKeepsWhatItNeeds) {
  const Identity root = make_identity(authority("Root"));
  add(root, RootKind::web);
  use();
  list_.reset();
  EXPECT_TRUE(anchor_of(make_identity({}, &root)));
}

// OpenSSL's "TRUSTED CERTIFICATE" has words about its use behind the certificate.
TEST(SystemRoots, ReadEveryFormOfCertificate) {
  const Identity root = make_identity(authority("Root"));
  const Identity trusted = make_identity(authority("Trusted"));
  const ca::BioPtr bio(BIO_new(BIO_s_mem()));
  ASSERT_EQ(X509_alias_set1(trusted.certificate.get(), reinterpret_cast<const unsigned char*>("alias"), 5), 1);
  ASSERT_EQ(PEM_write_bio_X509_AUX(bio.get(), trusted.certificate.get()), 1);
  ::setenv("SSL_CERT_FILE", "/nonexistent.pem", 1);
  SystemRoots roots(nullptr, root.pem() + "words between\n" + std::string(ca::bio_view(bio.get())) + root.pem());
  const std::vector<ca::X509Ptr> given = roots.get()->certificates(nullptr, RootKind::given);
  ::unsetenv("SSL_CERT_FILE");
  ASSERT_EQ(given.size(), 2U);
  EXPECT_EQ(X509_cmp(given[0].get(), root.certificate.get()), 0);
  EXPECT_EQ(X509_cmp(given[1].get(), trusted.certificate.get()), 0);
  EXPECT_EQ(roots.get()->der(roots.get()->roots()[1]), der_of(trusted.certificate.get()));
}

}  // namespace
}  // namespace sallyport::net
