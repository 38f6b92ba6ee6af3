#include "ca/trust_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace sallyport::ca {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Key;
using testing::Not;
using testing::Pair;
using testing::UnorderedElementsAre;

const TrustPaths kPaths{.bundle = "/t/bundle.pem",
                        .ca = "/t/ca.pem",
                        .java_store = "/t/store.p12",
                        .php_ini_directory = "/t/php",
                        .merge_directory = "/t"};

struct Seen {
  std::map<std::string, std::string> set;
  std::map<std::string, std::string> merged;  // variable → the user's file
  std::vector<std::string> kept;
};

Seen seen(std::vector<const char*> environment, const TrustPaths& paths = kPaths) {
  environment.push_back(nullptr);
  const TrustEnvironment made = trust_environment(paths, environment.data());
  Seen result{{made.variables.begin(), made.variables.end()}, {}, made.kept};
  EXPECT_EQ(result.set.size(), made.variables.size()) << "a variable is set twice";
  for (const TrustMerge& merge : made.merges) {
    for (const std::string& name : merge.variables) {
      EXPECT_FALSE(result.set.contains(name)) << name;
      EXPECT_TRUE(result.merged.emplace(name, merge.user_path).second) << name;
    }
  }
  return result;
}

TEST(TrustEnvironment, ReplacingVariablesNameTheBundleAndAddingOnesTheCa) {
  const Seen plain = seen({"HOME=/home/u", "PATH=/bin"});
  for (const char* name : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "AWS_CA_BUNDLE",
                           "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
                           "PERL_LWP_SSL_CA_FILE", "NIX_SSL_CERT_FILE", "HTTPLIB2_CA_CERTS"}) {
    EXPECT_THAT(plain.set, Contains(Pair(name, "/t/bundle.pem")));
  }
  EXPECT_THAT(plain.set, Contains(Pair("NODE_EXTRA_CA_CERTS", "/t/ca.pem")));
  EXPECT_THAT(plain.set, Contains(Pair("DENO_CERT", "/t/ca.pem")));
  EXPECT_THAT(plain.set, Contains(Pair("JAVA_TOOL_OPTIONS", "-Djavax.net.ssl.trustStore=/t/store.p12")));
  EXPECT_THAT(plain.set, Contains(Pair("PHP_INI_SCAN_DIR", ":/t/php")));
  EXPECT_THAT(plain.set, Not(Contains(Key("SSL_CERT_DIR"))));
  EXPECT_THAT(plain.set, Not(Contains(Key("npm_config_cafile")))) << "npm follows NODE_EXTRA_CA_CERTS";
  EXPECT_THAT(plain.merged, IsEmpty());
  EXPECT_THAT(plain.kept, IsEmpty());
}

TEST(TrustEnvironment, TheUsersFileStaysTrustedUnderEachNameThatWouldHaveLedToIt) {
  const Seen mine = seen({"SSL_CERT_FILE=/u/roots.pem"});
  EXPECT_THAT(mine.merged,
              UnorderedElementsAre(Pair("SSL_CERT_FILE", "/u/roots.pem"), Pair("CURL_CA_BUNDLE", "/u/roots.pem"),
                                   Pair("NIX_SSL_CERT_FILE", "/u/roots.pem"), Pair("CARGO_HTTP_CAINFO", "/u/roots.pem"),
                                   Pair("PERL_LWP_SSL_CA_FILE", "/u/roots.pem")));
  EXPECT_THAT(mine.set, Contains(Pair("REQUESTS_CA_BUNDLE", "/t/bundle.pem")))
      << "requests never looks at SSL_CERT_FILE";

  const Seen curl = seen({"CURL_CA_BUNDLE=/u/c.pem"});
  EXPECT_THAT(curl.merged, UnorderedElementsAre(Pair("CURL_CA_BUNDLE", "/u/c.pem"),
                                                Pair("REQUESTS_CA_BUNDLE", "/u/c.pem"), Pair("PIP_CERT", "/u/c.pem")));
}

TEST(TrustEnvironment, FilesOfTheUsersAreMergedOnceEach) {
  const char* environment[] = {"SSL_CERT_FILE=/u/a.pem", "NODE_EXTRA_CA_CERTS=/u/b.pem", "GIT_SSL_CAINFO=/u/a.pem",
                               "npm_config_cafile=/u/b.pem", nullptr};
  const TrustEnvironment made = trust_environment(kPaths, environment);
  ASSERT_EQ(made.merges.size(), 2u);
  EXPECT_EQ(made.merges[0].user_path, "/u/a.pem");
  EXPECT_EQ(made.merges[0].merged_path, "/t/user-1.pem");
  EXPECT_THAT(made.merges[0].variables, Contains("GIT_SSL_CAINFO"));
  EXPECT_EQ(made.merges[1].merged_path, "/t/user-2.pem");
  EXPECT_THAT(made.merges[1].variables, UnorderedElementsAre("NODE_EXTRA_CA_CERTS", "npm_config_cafile"));
}

TEST(TrustEnvironment, ADirectoryOfTheUsersIsNotWidenedToTheSystemsRoots) {
  const Seen directory = seen({"SSL_CERT_DIR=/u/roots"});
  EXPECT_THAT(directory.set, Contains(Pair("SSL_CERT_FILE", "/t/ca.pem")));
  EXPECT_THAT(directory.set, Not(Contains(Key("CURL_CA_BUNDLE")))) << "it would hide the directory from curl";
  EXPECT_THAT(directory.set, Not(Contains(Key("SSL_CERT_DIR"))));
  EXPECT_THAT(seen({"GIT_SSL_CAPATH=/u/roots"}).set, Contains(Pair("GIT_SSL_CAINFO", "/t/ca.pem")));
}

TEST(TrustEnvironment, EmptyValuesCountAsNotSetAndTheFirstOfTwoCounts) {
  EXPECT_THAT(seen({"CURL_CA_BUNDLE="}).set, Contains(Pair("CURL_CA_BUNDLE", "/t/bundle.pem")));
  EXPECT_THAT(seen({"DENO_CERT=/u/1", "DENO_CERT=/u/2", "no equals sign", "=odd"}).merged,
              Contains(Pair("DENO_CERT", "/u/1")));
}

TEST(TrustEnvironment, JavaOptionsAreAppendedToAndATrustStoreOfTheUsersIsKept) {
  EXPECT_THAT(seen({"JAVA_TOOL_OPTIONS=-Xmx1g"}).set,
              Contains(Pair("JAVA_TOOL_OPTIONS", "-Xmx1g -Djavax.net.ssl.trustStore=/t/store.p12")));
  for (const char* own :
       {"JAVA_TOOL_OPTIONS=-Xmx1g -Djavax.net.ssl.trustStore=/u/s.jks",
        "JDK_JAVA_OPTIONS=-Djavax.net.ssl.trustStore=/u/s.jks", "_JAVA_OPTIONS=-Djavax.net.ssl.trustStore=/u/s.jks"}) {
    const Seen kept = seen({own});
    EXPECT_THAT(kept.set, Not(Contains(Key("JAVA_TOOL_OPTIONS"))));
    EXPECT_THAT(kept.kept, ElementsAre(std::string(own).substr(0, std::string(own).find('='))));
  }
  TrustPaths spaced = kPaths;
  spaced.java_store = "/a b/store.p12";
  EXPECT_THAT(seen({}, spaced).set,
              Contains(Pair("JAVA_TOOL_OPTIONS", "\"-Djavax.net.ssl.trustStore=/a b/store.p12\"")));
}

TEST(TrustEnvironment, PhpReadsItsOwnDirectoriesFirst) {
  EXPECT_THAT(seen({"PHP_INI_SCAN_DIR=/u/php"}).set, Contains(Pair("PHP_INI_SCAN_DIR", "/u/php:/t/php")));
  TrustPaths without = kPaths;
  without.php_ini_directory.clear();
  EXPECT_THAT(seen({}, without).set, Not(Contains(Key("PHP_INI_SCAN_DIR"))));
  EXPECT_EQ(php_ini("/t/b.pem"), "curl.cainfo = \"/t/b.pem\"\nopenssl.cafile = \"/t/b.pem\"\n");
}

TEST(TrustEnvironment, NoEnvironmentAtAllIsTaken) {
  EXPECT_FALSE(trust_environment(kPaths, nullptr).variables.empty());
}

}  // namespace
}  // namespace sallyport::ca
