#include "ca/trust.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "ca/authority.h"
#include "ca/java_trust_store.h"
#include "ca/test_support.h"

namespace sallyport::ca {
namespace {

using test::run;
using test::TempDir;
using test::today;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

Authority root_named(const std::string& name) {
  return std::move(*Authority::create_root(nullptr, {.name = name}, today()));
}

std::string key_of(const Authority& authority) {
  return std::string(bio_view(private_key_pem(authority.key())->get()));
}

// As many roots as a system has, with the text that Fedora's bundle has between them.
std::string some_roots(int count) {
  std::string bundle;
  for (int i = 0; i < count; ++i) {
    const std::string name = "Root " + std::to_string(i);
    bundle += "# " + name + "\n" + root_named(name).trust_pem() + "\n";
  }
  return bundle;
}

std::string system_roots() {
  for (const char* path : kSystemRootFiles) {
    if (std::string text = test::read_file(path); !text.empty()) return text;
  }
  return some_roots(140);
}

TEST(TrustFiles, TheBundleHoldsTheSystemsRootsAndTheCaAndTheCaFileHoldsTheCaAlone) {
  const Authority root = root_named("The guard");
  const std::string system = some_roots(3);
  const auto files = make_trust_files(system, root.trust_pem());
  ASSERT_TRUE(files) << files.error().text;
  EXPECT_THAT(certificates_of(files->bundle_pem), SizeIs(4));
  EXPECT_EQ(files->ca_pem, root.trust_pem());
  const TempDir dir;
  const std::string bundle = dir.write("bundle.pem", files->bundle_pem);
  EXPECT_EQ(run("openssl verify -CAfile " + bundle + " " + dir.write("root.pem", root.trust_pem())).status, 0);
  EXPECT_EQ(run("openssl verify -CAfile " + bundle + " " + dir.write("system.pem", system)).status, 0);
}

TEST(TrustFiles, ABundleWithoutALineBreakAtItsEndAndAnEmptyOneAreTaken) {
  const Authority root = root_named("The guard");
  std::string system = some_roots(1);
  while (system.back() == '\n') system.pop_back();
  EXPECT_THAT(certificates_of(*add_to_bundle(system, root.trust_pem())), SizeIs(2));
  EXPECT_THAT(certificates_of(make_trust_files("", root.trust_pem())->bundle_pem), SizeIs(1));
}

TEST(TrustFiles, APrivateKeyNeverGetsIntoAFileForEveryone) {
  const Authority root = root_named("The guard");
  const std::string both = root.trust_pem() + key_of(root);
  EXPECT_FALSE(make_trust_files("", both));
  EXPECT_FALSE(make_trust_files(both, root.trust_pem()));
  EXPECT_FALSE(add_to_bundle("-----BEGIN EC PRIVATE KEY-----", root.trust_pem()));
  EXPECT_FALSE(make_trust_files(some_roots(1), "no certificate"));
}

TEST(CertificatesOf, DamagedAndForeignBlocksAreLeftOut) {
  const std::string good = root_named("Good").trust_pem();
  EXPECT_THAT(certificates_of(good.substr(0, good.size() / 2)), SizeIs(0));
  EXPECT_THAT(certificates_of("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n" + good), SizeIs(1));
  EXPECT_THAT(certificates_of("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n" + good), SizeIs(1));
  EXPECT_THAT(certificates_of("-----BEGIN CERTIFICATE-----\nMDAwMA==\n-----END CERTIFICATE-----\n" + good), SizeIs(1));
  EXPECT_THAT(certificates_of("-----BEGIN TRUSTED CERTIFICATE-----\nMAA=\n-----END TRUSTED CERTIFICATE-----\n" + good),
              SizeIs(1));
  std::string windows;
  for (const char c : good) windows += c == '\n' ? std::string("\r\n") : std::string(1, c);
  EXPECT_EQ(certificates_of(windows), certificates_of(good));
  EXPECT_THAT(certificates_of(""), SizeIs(0));
}

TEST(JavaTrustStore, OpensslReadsEveryCertificateInIt) {
  const TempDir dir;
  const auto files = make_trust_files(some_roots(5), root_named("The guard").trust_pem());
  const test::Ran read =
      run("openssl pkcs12 -nokeys -nomacver -passin pass: -in " + dir.write("s.p12", files->java_store));
  EXPECT_EQ(read.status, 0) << read.output;
  EXPECT_THAT(certificates_of(read.output), testing::UnorderedElementsAreArray(certificates_of(files->bundle_pem)));
  EXPECT_THAT(read.output, HasSubstr("friendlyName: sallyport-1"));
}

TEST(JavaTrustStore, AnEmptyOneIsStillAStore) {
  const TempDir dir;
  const std::string path = dir.write("s.p12", java_trust_store({}));
  EXPECT_EQ(run("openssl pkcs12 -nokeys -nomacver -passin pass: -in " + path).status, 0);
}

TEST(JavaTrustStore, KeytoolListsEachAsATrustedCertificateWithAnyPassword) {
  if (!test::have("keytool")) GTEST_SKIP() << "needs Java's keytool";
  const TempDir dir;
  const auto files = make_trust_files(some_roots(3), root_named("The guard").trust_pem());
  const std::string path = dir.write("s.p12", files->java_store);
  for (const std::string& password : {std::string(kJavaTrustStorePassword), std::string("something")}) {
    const test::Ran listed = run("keytool -list -keystore " + path + " -storetype PKCS12 -storepass " + password);
    EXPECT_EQ(listed.status, 0) << listed.output;
    EXPECT_THAT(listed.output, HasSubstr("Your keystore contains 4 entries"));
    EXPECT_THAT(listed.output, testing::ContainsRegex("sallyport-1, .*trustedCertEntry"));
    EXPECT_THAT(listed.output, testing::ContainsRegex("system-4, .*trustedCertEntry"));
  }
}

// A server whose certificate comes from a fresh CA, and the files that make clients trust it, beside the system's
// roots.
class TrustedServer : public testing::Test {
 protected:
  TrustedServer() : root_(root_named("The guard")) {
    const auto key = make_p256_key(nullptr);
    const std::string_view host = "localhost";
    const auto leaf = root_.issue_leaf(std::span(&host, 1), key->get(), limits::kLeafLifetime, today());
    server_.emplace(leaf->get(), key->get(), root_.chain());
    auto files = make_trust_files(system_roots(), root_.trust_pem());
    bundle_ = dir_.write("bundle.pem", files->bundle_pem);
    ca_ = dir_.write("ca.pem", files->ca_pem);
    java_store_ = dir_.write("store.p12", files->java_store);
    url_ = "https://localhost:" + server_->port() + "/";
  }

  static void expect_hello(const test::Ran& ran) {
    EXPECT_EQ(ran.status, 0) << ran.output;
    EXPECT_THAT(ran.output, HasSubstr("hello"));
  }

  TempDir dir_;
  Authority root_;
  std::optional<test::TlsServer> server_;
  std::string bundle_, ca_, java_store_, url_;
};

constexpr const char* kJavaClient = R"(
import java.net.URI;
import java.net.http.*;
public class Client {
  public static void main(String[] a) throws Exception {
    HttpResponse<String> r = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(),
        HttpResponse.BodyHandlers.ofString());
    System.out.println(r.statusCode() + " " + r.body());
  }
}
)";

TEST_F(TrustedServer, JavasHttpClientTrustsTheStoreWithAndWithoutTypeAndPassword) {
  if (!test::have("javac")) GTEST_SKIP() << "needs a JDK";
  ASSERT_EQ(run("javac -d " + dir_.path("") + " " + dir_.write("Client.java", kJavaClient)).status, 0);
  const std::string store = "-Djavax.net.ssl.trustStore=" + java_store_;
  const std::string client = "java -cp " + dir_.path("") + " Client " + url_;
  expect_hello(run("JAVA_TOOL_OPTIONS='" + store + "' " + client));
  expect_hello(run("JAVA_TOOL_OPTIONS='" + store + " -Djavax.net.ssl.trustStoreType=PKCS12" +
                   " -Djavax.net.ssl.trustStorePassword=" + std::string(kJavaTrustStorePassword) + "' " + client));
  EXPECT_THAT(run(client).output, HasSubstr("unable to find valid certification path")) << "without the store";
}

TEST_F(TrustedServer, CurlTrustsTheBundle) {
  if (!test::have("curl")) GTEST_SKIP() << "needs curl";
  expect_hello(run("CURL_CA_BUNDLE=" + bundle_ + " curl -sS --noproxy '*' " + url_));
  EXPECT_NE(run("curl -sS --noproxy '*' " + url_).status, 0) << "without the bundle";
}

TEST_F(TrustedServer, PythonTrustsTheBundle) {
  if (!test::have("/usr/bin/python3")) GTEST_SKIP() << "needs /usr/bin/python3";
  expect_hello(run("no_proxy='*' SSL_CERT_FILE=" + bundle_ +
                   " /usr/bin/python3 -c 'import urllib.request as u; print(u.urlopen(\"" + url_ + "\").read())'"));
}

TEST_F(TrustedServer, NodeTrustsTheAddedCa) {
  if (!test::have("node")) GTEST_SKIP() << "needs node";
  const std::string script = "'fetch(\"" + url_ + "\").then(r => r.text()).then(console.log)'";
  expect_hello(run("NODE_EXTRA_CA_CERTS=" + ca_ + " node -e " + script));
}

// It stands between `run` and the command's start. The bound leaves room for sanitizers and a busy machine.
TEST(TrustFiles, AreMadeQuicklyForASystemsRoots) {
  const std::string system = system_roots();
  const std::string ca = root_named("The guard").trust_pem();
  std::vector<double> times_ms;
  for (int i = 0; i < 9; ++i) {
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(make_trust_files(system, ca));
    times_ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::ranges::sort(times_ms);
  std::cout << certificates_of(system).size() << " roots: median " << times_ms[4] << " ms\n";
  EXPECT_LT(times_ms[4], 50);
}

}  // namespace
}  // namespace sallyport::ca
