#include "policy-engine/document/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>

#include "base/limits.h"
#include "policy-engine/credentials/binding.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/test_support.h"

namespace sallyport::document {
namespace {

using testing::HasSubstr;

constexpr std::string_view kWhole = R"(apiVersion: sallyport.dev/v1alpha1
kind: EgressPolicy
metadata: {name: thumbnailer}
spec:
  function: resize
  mode: audit
  endpoints:
  - name: photos
    host: S3.us-east-1.amazonaws.com.
    ports: [443, 8443]
    rules:
    - {methods: [GET], path: {prefix: /photos/}}
    - methods: [PUT, POST]
      path: {regex: '/thumbnails/[a-z0-9]+\.(jpg|png)'}
    credential: aws
    allowEncodedSlashes: true
    caBundle: {file: /etc/ssl/aws.pem}
    crl: {file: /etc/ssl/aws.crl}
    clientCertificate: {certificate: {file: /run/client.pem}, key: {file: /run/client.key}}
    websocket: {allow: false, messageBytesMax: 65536}
  - {name: plain, host: "*.example.com", scheme: http, rules: [{methods: [any], path: {exact: /}}]}
  - {name: inside, host: 10.1.2.3, addresses: [10.0.0.0/8, "fd00::/8"], inspection: none, ports: [any]}
  credentials:
  - name: aws
    secret: {env: AWS_TOKEN}
    inject: {header: Authorization, format: "Bearer {}"}
    placeholder: {value: placeholder-of-16-bytes, env: AWS_PLACEHOLDER}
    foreign: deny
)";

TEST(Load, AnEndpointsProxyGoesBeforeTheSpecs) {
  const std::string head = kHead.substr(0, kHead.find("  endpoints:"));
  const auto snapshot =
      load_clean(head +
                 "  upstreamProxy: {url: 'http://Proxy.example:3128/', credentials: {env: X}}\n"
                 "  endpoints:\n"
                 "  - {name: a, host: a.example, inspection: none}\n"
                 "  - {name: b, host: b.example, inspection: none, upstreamProxy: {url: 'http://[2001:db8::1]:8080'}}\n"
                 "  - {name: c, host: c.example, inspection: none, upstreamProxy: {url: none}}\n");
  const auto& endpoints = snapshot->endpoints();
  ASSERT_NE(endpoints[0].proxy, nullptr);
  EXPECT_EQ(endpoints[0].proxy, snapshot->proxy());
  EXPECT_EQ(endpoints[0].proxy->host, "proxy.example");
  EXPECT_EQ(endpoints[0].proxy->port, 3128);
  EXPECT_TRUE(endpoints[0].proxy->needs_credentials && endpoints[0].proxy->credentials.empty());
  ASSERT_NE(endpoints[1].proxy, nullptr);
  EXPECT_EQ(endpoints[1].proxy->host, "2001:db8::1");
  EXPECT_TRUE(endpoints[1].proxy->literal);
  EXPECT_FALSE(endpoints[1].proxy->needs_credentials);
  EXPECT_EQ(endpoints[2].proxy, nullptr);
}

TEST(Load, ReadsEveryField) {
  const auto snapshot = load_clean(kWhole);
  ASSERT_NE(snapshot, nullptr);
  EXPECT_EQ(snapshot->summary(), "resize: audit, 3 endpoints, 3 rules, 1 credential");
  const Endpoint& photos = snapshot->endpoints()[0];
  EXPECT_EQ(photos.host_pattern, "s3.us-east-1.amazonaws.com");
  EXPECT_EQ(photos.ports, (std::vector<std::uint16_t>{443, 8443}));
  EXPECT_EQ(photos.ca_bundle_file, "/etc/ssl/aws.pem");
  EXPECT_EQ(photos.crl_file, "/etc/ssl/aws.crl");
  EXPECT_EQ(photos.client_certificate_file, "/run/client.pem");
  EXPECT_EQ(photos.client_key_file, "/run/client.key");
  EXPECT_FALSE(photos.websocket_allowed);
  EXPECT_EQ(photos.websocket_message_bytes_max, 65'536);
  EXPECT_TRUE(photos.target.encoded_slashes);
  EXPECT_FALSE(photos.target.merge_slashes);
  EXPECT_EQ(photos.line, 8);
  EXPECT_EQ(snapshot->rule_text(photos, 1).text, "PUT, POST on regex: /thumbnails/[a-z0-9]+\\.(jpg|png)");
  EXPECT_EQ(snapshot->rule_text(photos, 1).line, 13);
  ASSERT_NE(photos.credential, nullptr);
  EXPECT_EQ(photos.credential->header, "Authorization");
  EXPECT_EQ(photos.credential->prefix, "Bearer ");
  EXPECT_EQ(photos.credential->suffix, "");
  EXPECT_EQ(photos.credential->foreign, credentials::Foreign::deny);
  EXPECT_EQ(photos.credential->placeholder, "placeholder-of-16-bytes");
  EXPECT_EQ(photos.credential->placeholder_env, "AWS_PLACEHOLDER");
  const Endpoint& plain = snapshot->endpoints()[1];
  EXPECT_EQ(plain.scheme, request::Scheme::http);
  EXPECT_EQ(plain.ports, std::vector<std::uint16_t>{80});
  const Endpoint& inside = snapshot->endpoints()[2];
  EXPECT_TRUE(inside.any_port);
  EXPECT_EQ(inside.inspection, Inspection::none);
  EXPECT_EQ(inside.addresses.size(), 2U);
}

TEST(Load, JsonIsYamlToo) {
  load_clean(R"({"apiVersion": "sallyport.dev/v1alpha1", "kind": "EgressPolicy", "metadata": {"name": "a"},
    "spec": {"endpoints": [{"name": "e", "host": "a.example", "ports": [443],
    "rules": [{"methods": ["GET"], "path": {"exact": "/"}}]}]}})");
}

TEST(Load, DefaultsAreEnforceAndTheNameOfTheDocument) {
  const auto snapshot = load_clean(kHead + "  - {name: a, host: a.example, inspection: none}\n");
  ASSERT_NE(snapshot, nullptr);
  EXPECT_EQ(snapshot->mode(), Mode::enforce);
  EXPECT_EQ(snapshot->function(), "shop");
  EXPECT_EQ(snapshot->endpoints()[0].ports, std::vector<std::uint16_t>{443});
}

struct Mistake {
  std::string_view name;
  std::string yaml;
  std::string_view first_line;  // of what load_policy reports
};

std::ostream& operator<<(std::ostream& out, const Mistake& mistake) { return out << mistake.name; }

class LoadMistake : public testing::TestWithParam<Mistake> {};

TEST_P(LoadMistake, IsReportedWithPlaceAndRemedy) {
  const LoadResult result = load_policy(GetParam().yaml, "p.yaml", nullptr);
  ASSERT_FALSE(result.diagnostics.empty()) << GetParam().yaml;
  EXPECT_EQ(result.diagnostics[0].to_string(), GetParam().first_line);
  EXPECT_EQ(result.snapshot != nullptr, result.diagnostics[0].warning);
}

std::string endpoint(const std::string& fields) { return kHead + "  - {name: a, " + fields + "}\n"; }
std::string rule(const std::string& fields) { return endpoint("host: a.example, rules: [{" + fields + "}]"); }
std::string path(const std::string& fields) { return rule("methods: [GET], path: {" + fields + "}"); }
std::string credential(const std::string& fields) {
  return endpoint("host: a.example, credential: c, rules: [{methods: [GET], path: {prefix: /}}]") +
         "  credentials:\n  - {name: c, " + fields + "}\n";
}

INSTANTIATE_TEST_SUITE_P(
    Structure, LoadMistake,
    testing::Values(
        Mistake{"UnknownField", rule("method: [GET], path: {prefix: /}"),
                R"(p.yaml:6:41: error: unknown field 'method' in a rule (hint: did you mean 'methods'?))"},
        Mistake{
            "UnknownFieldFarFromAll", endpoint("host: a.example, inspection: none, timeout: 3"),
            R"(p.yaml:6:50: error: unknown field 'timeout' in an endpoint (hint: it has the fields name, host, ports, scheme, rules, inspection, addresses, caBundle, crl, allowEncodedSlashes, mergeSlashes, credential, protocol, clientCertificate, upstreamProxy, websocket, operations, query and function))"},
        Mistake{"SnakeCaseField", endpoint("host: a.example, inspection: none, ca_bundle: {file: x}"),
                R"(p.yaml:6:50: error: unknown field 'ca_bundle' in an endpoint (hint: did you mean 'caBundle'?))"},
        Mistake{"FieldTwice", endpoint("host: a.example, inspection: none, host: b.example"),
                R"(p.yaml:6:50: error: 'host' is given twice in an endpoint (hint: the first one is in line 6))"},
        Mistake{"FieldWithoutValue", endpoint("host: a.example, inspection: none, ports: "),
                R"(p.yaml:6:50: error: 'ports' has no value (hint: give it one, or remove the field))"},
        Mistake{"MissingField", endpoint("inspection: none"),
                R"(p.yaml:6:5: error: an endpoint has no 'host' (hint: it is required))"},
        Mistake{"MissingSpec", "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: a}\n",
                R"(p.yaml:1:1: error: the policy has no 'spec' (hint: it is required))"},
        Mistake{
            "NotAMapping", "- a\n- b\n",
            R"(p.yaml:1:1: error: the policy must be a mapping, but this is a list (hint: it has the fields apiVersion, kind, metadata and spec))"},
        Mistake{
            "JustAWord", "policy\n",
            R"(p.yaml:1:1: error: the policy must be a mapping, but this is the string 'policy' (hint: it has the fields apiVersion, kind, metadata and spec))"},
        Mistake{"WordForAList", rule("methods: GET, path: {prefix: /}"),
                R"(p.yaml:6:50: error: 'methods' must be a list, but this is the string 'GET' (hint: write [GET]))"},
        Mistake{
            "MappingForAList", endpoint("host: a.example, rules: {methods: [GET], path: {prefix: /}}"),
            R"(p.yaml:6:39: error: 'rules' must be a list, but this is a mapping (hint: start each element with '- '))"},
        Mistake{
            "WordForAMapping", rule("methods: [GET], path: /a"),
            R"(p.yaml:6:63: error: a path must be a mapping, but this is the string '/a' (hint: it has the fields exact, prefix and regex))"},
        Mistake{"ListForAWord", endpoint("host: [a.example], inspection: none"),
                R"(p.yaml:6:21: error: 'host' must be a string, but this is a list)"},
        Mistake{
            "NumberForAWord", endpoint("host: 1.5, inspection: none"),
            R"(p.yaml:6:21: error: 'host' must be a string, but this is the number '1.5' (hint: put it in quotes if it is meant as text))"},
        Mistake{
            "BooleanForAWord", kHead + "  - {name: no, host: a.example, inspection: none}\n",
            R"(p.yaml:6:12: error: 'name' must be a string, but this is the boolean no (hint: put it in quotes if it is meant as text))"},
        Mistake{"WordForABoolean",
                endpoint("host: a.example, mergeSlashes: yes, rules: [{methods: [GET], path: {prefix: /}}]"),
                R"(p.yaml:6:46: error: 'mergeSlashes' must be true or false, but this is the boolean yes)"},
        Mistake{
            "UnknownEnumValue", endpoint("host: a.example, inspection: non"),
            R"(p.yaml:6:44: error: 'inspection' must be full or none, but this is the string 'non' (hint: did you mean 'none'?))"},
        Mistake{"EmptyList", rule("methods: [], path: {prefix: /}"),
                R"(p.yaml:6:41: error: 'methods' is empty (hint: an empty list is nothing; everything is [any]))"},
        Mistake{
            "EmptyRules", endpoint("host: a.example, rules: []"),
            R"(p.yaml:6:32: error: 'rules' is empty (hint: an empty list is nothing; remove the field or add an element))"},
        Mistake{"NeitherOfAChoice", rule("methods: [GET], path: {}"),
                R"(p.yaml:6:63: error: a path has none of exact, prefix and regex (hint: one of them is required))"},
        Mistake{"BothOfAChoice", path("exact: /a, prefix: /b"),
                R"(p.yaml:6:75: error: a path has either 'exact' or 'prefix', not both)"},
        Mistake{"ControlCharacter", endpoint("host: \"a.example\\0\", inspection: none"),
                R"(p.yaml:6:21: error: a control character stands in 'host' (hint: remove it))"},
        Mistake{
            "EscapesInAKey", endpoint("host: a.example, inspection: none, \"\\e[31m\": 1"),
            R"(p.yaml:6:50: error: unknown field '\x1b[31m' in an endpoint (hint: it has the fields name, host, ports, scheme, rules, inspection, addresses, caBundle, crl, allowEncodedSlashes, mergeSlashes, credential, protocol, clientCertificate, upstreamProxy, websocket, operations, query and function))"},
        Mistake{"NullElement", rule("methods: [GET, ~], path: {prefix: /}"),
                R"(p.yaml:6:56: error: 'methods' must be a string, but this is nothing)"}),
    [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Header, LoadMistake,
    testing::Values(
        Mistake{
            "UnknownApiVersion",
            "apiVersion: sallyport.dev/v1\nkind: EgressPolicy\nmetadata: {name: a}\nspec: {endpoints: []}\n",
            R"(p.yaml:1:13: error: apiVersion 'sallyport.dev/v1' is not known (hint: this version reads sallyport.dev/v1alpha1))"},
        Mistake{"UnknownKind",
                "apiVersion: sallyport.dev/v1alpha1\nkind: Policy\nmetadata: {name: a}\nspec: {endpoints: []}\n",
                R"(p.yaml:2:7: error: the kind is 'Policy' (hint: it must be EgressPolicy))"},
        Mistake{
            "BadName",
            "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: My App}\nspec: {endpoints: []}\n",
            R"(p.yaml:3:18: error: the name 'My App' is not valid (hint: up to 253 of a-z, 0-9, '.' and '-', starting and ending with a letter or digit))"},
        Mistake{
            "BadFunction",
            "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: a}\nspec: {function: a/b, "
            "endpoints: []}\n",
            R"(p.yaml:4:18: error: the function 'a/b' is not valid (hint: up to 253 of a-z, 0-9, '.' and '-', starting and ending with a letter or digit))"},
        Mistake{
            "NoEndpoints",
            "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: a}\nspec: {mode: enforce}\n",
            R"(p.yaml:4:7: warning: the policy has no endpoints, so every request is denied (hint: write endpoints: [] if that is meant))"}),
    [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Host, LoadMistake,
    testing::Values(
        Mistake{
            "BareStar", endpoint("host: \"*\", inspection: none"),
            R"(p.yaml:6:21: error: the host '*' is not allowed (hint: write any for every host, or *.example.com))"},
        Mistake{
            "TopLevelWildcard", endpoint("host: \"*.com\", inspection: none"),
            R"(p.yaml:6:21: error: the host '*.com' would cover a whole top-level domain (hint: at least two labels must follow the *, as in *.example.com))"},
        Mistake{"TwoStars", endpoint("host: \"*.*.com\", inspection: none"),
                R"(p.yaml:6:21: error: the host '*.*.com' has more than one * (hint: write *.example.com))"},
        Mistake{
            "StarInALabel", endpoint("host: \"api-*.example.com\", inspection: none"),
            R"(p.yaml:6:21: error: in the host 'api-*.example.com' the * does not stand for whole labels (hint: a * may only be the first label, as in *.example.com))"},
        Mistake{
            "WildcardBeforeAnAddress", endpoint("host: \"*.10.0.0.1\", inspection: none"),
            R"(p.yaml:6:21: error: the host '*.10.0.0.1' has a wildcard before an address (hint: write the address alone))"},
        Mistake{
            "Url", endpoint("host: \"https://api.example.com/v1\", inspection: none"),
            R"(p.yaml:6:21: error: 'https://api.example.com/v1' is not a host (hint: write the host alone, 'api.example.com'; ports and paths have their own fields))"},
        Mistake{
            "WithPort", endpoint("host: \"api.example.com:8443\", inspection: none"),
            R"(p.yaml:6:21: error: 'api.example.com:8443' is not a host (hint: write host: api.example.com and ports: [8443]))"},
        Mistake{
            "WithPath", endpoint("host: api.example.com/v1, inspection: none"),
            R"(p.yaml:6:21: error: 'api.example.com/v1' is not a host (hint: write the host alone, 'api.example.com'; paths belong to the rules))"},
        Mistake{"Brackets", endpoint("host: \"[2001:db8::1]\", inspection: none"),
                R"(p.yaml:6:21: error: '[2001:db8::1]' is not a host (hint: write the address without brackets))"},
        Mistake{
            "Unicode", endpoint("host: b\u00fccher.example, inspection: none"),
            R"(p.yaml:6:21: error: the host 'bücher.example' is not valid: a host name is not in ASCII: write its IDNA form (xn--…))"},
        Mistake{
            "UnquotedWildcard", endpoint("host: *.example.com, inspection: none"),
            R"(p.yaml:6:21: error: this is not YAML: the referenced anchor is not defined (hint: a value that starts with * needs quotes: "*.example.com"))"},
        Mistake{
            "PrivateLiteral", endpoint("host: 10.1.2.3, inspection: none"),
            R"(p.yaml:6:21: error: the address 10.1.2.3 is private, and 'addresses' does not have it (hint: add addresses: ["10.1.2.3"]))"},
        Mistake{
            "BadEndpointName", kHead + "  - {name: A B, host: a.example, inspection: none}\n",
            R"(p.yaml:6:12: error: the name 'A B' is not valid (hint: up to 63 of a-z, 0-9, '.', '_' and '-', starting and ending with a letter or digit))"},
        Mistake{"EndpointTwice",
                endpoint("host: a.example, inspection: none") + "  - {name: a, host: b.example, inspection: none}\n",
                R"(p.yaml:7:12: error: endpoint 'a' is given twice (hint: the first one is in line 6))"}),
    [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Ports, LoadMistake,
    testing::Values(
        Mistake{"Zero", endpoint("host: a.example, inspection: none, ports: [0]"),
                R"(p.yaml:6:58: error: the port '0' is not valid (hint: a number from 1 to 65535, or [any]))"},
        Mistake{"TooHigh", endpoint("host: a.example, inspection: none, ports: [65536]"),
                R"(p.yaml:6:58: error: the port '65536' is not valid (hint: a number from 1 to 65535, or [any]))"},
        Mistake{"AWord", endpoint("host: a.example, inspection: none, ports: [https]"),
                R"(p.yaml:6:58: error: the port 'https' is not valid (hint: a number from 1 to 65535, or [any]))"},
        Mistake{"Octal", endpoint("host: a.example, inspection: none, ports: [0443]"),
                R"(p.yaml:6:58: error: the port '0443' is not valid (hint: a number from 1 to 65535, or [any]))"},
        Mistake{"Negative", endpoint("host: a.example, inspection: none, ports: [-1]"),
                R"(p.yaml:6:58: error: the port '-1' is not valid (hint: a number from 1 to 65535, or [any]))"},
        Mistake{"AnyAndMore", endpoint("host: a.example, inspection: none, ports: [443, any]"),
                R"(p.yaml:6:63: error: 'any' must be the only port)"}),
    [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Addresses, LoadMistake,
    testing::Values(
        Mistake{
            "HostBits", endpoint("host: a.example, inspection: none, addresses: [10.0.0.1/8]"),
            R"(p.yaml:6:62: error: the address range '10.0.0.1/8' is not valid: '10.0.0.1/8' has bits set after its prefix: did you mean 10.0.0.0/8?)"},
        Mistake{
            "Nonsense", endpoint("host: a.example, inspection: none, addresses: [10.0.0.0/33]"),
            R"(p.yaml:6:62: error: the address range '10.0.0.0/33' is not valid: '10.0.0.0/33' needs a prefix length from 0 to 32 after the slash)"}),
    [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Inspection, LoadMistake,
    testing::Values(
        Mistake{
            "NoneWithRules",
            endpoint("host: a.example, inspection: none, rules: [{methods: [GET], path: {prefix: /}}]"),
            R"(p.yaml:6:50: error: 'rules' cannot be used with inspection: none (hint: nobody looks into the connection; remove one of the two))"},
        Mistake{
            "NoneWithScheme", endpoint("host: a.example, inspection: none, scheme: http"),
            R"(p.yaml:6:58: error: 'scheme' cannot be used with inspection: none (hint: whatever is spoken on its ports passes))"},
        Mistake{
            "NoneWithCredential",
            endpoint("host: a.example, inspection: none, credential: c") +
                "  credentials:\n  - {name: c, secret: {env: C}, inject: {header: X}}\n",
            R"(p.yaml:6:62: error: 'credential' cannot be used with inspection: none (hint: nobody looks into the connection; remove one of the two))"},
        Mistake{
            "NoneWithCaBundle", endpoint("host: a.example, inspection: none, caBundle: {file: x}"),
            R"(p.yaml:6:50: error: 'caBundle' cannot be used with inspection: none (hint: nobody looks into the connection; remove one of the two))"},
        Mistake{
            "NoneWithCrl", endpoint("host: a.example, inspection: none, crl: {file: x}"),
            R"(p.yaml:6:50: error: 'crl' cannot be used with inspection: none (hint: nobody looks into the connection; remove one of the two))"},
        Mistake{
            "NoneWithSlashes", endpoint("host: a.example, inspection: none, allowEncodedSlashes: false"),
            R"(p.yaml:6:71: error: 'allowEncodedSlashes' cannot be used with inspection: none (hint: nobody looks into the connection; remove one of the two))"},
        Mistake{
            "NoneWithMergedSlashes", endpoint("host: a.example, inspection: none, mergeSlashes: false"),
            R"(p.yaml:6:64: error: 'mergeSlashes' cannot be used with inspection: none (hint: nobody looks into the connection; remove one of the two))"},
        Mistake{
            "NoneWithClientCertificate",
            endpoint("host: a.example, inspection: none, clientCertificate: {certificate: {file: x}, key: {file: z}}"),
            R"(p.yaml:6:50: error: 'clientCertificate' cannot be used with inspection: none (hint: nobody looks into the connection; remove one of the two))"},
        Mistake{
            "ClientCertificateForEverybody",
            endpoint("host: any, clientCertificate: {certificate: {file: x}, key: {file: z}}, rules: "
                     "[{methods: [GET], path: {prefix: /}}]"),
            R"(p.yaml:6:26: error: 'clientCertificate' cannot be used with host: any (hint: it would introduce itself to every server))"},
        Mistake{"ClientCertificateWithoutKey",
                endpoint("host: a.example, clientCertificate: {certificate: {file: x}}, rules: "
                         "[{methods: [GET], path: {prefix: /}}]"),
                R"(p.yaml:6:51: error: a client certificate has no 'key' (hint: it is required))"},
        Mistake{
            "ClientCertificateWithHttp",
            endpoint("host: a.example, scheme: http, clientCertificate: {certificate: {file: x}, key: {file: z}}, "
                     "rules: [{methods: [GET], path: {prefix: /}}]"),
            R"(p.yaml:6:46: error: 'clientCertificate' cannot be used with scheme: http (hint: there is no certificate to check))"},
        Mistake{
            "ProxyOfAnotherScheme", endpoint("host: a.example, inspection: none, upstreamProxy: {url: 'https://p:1'}"),
            R"(p.yaml:6:71: error: the upstream proxy 'https://p:1' is not an http URL: it is spoken to without TLS (hint: write it as http://proxy.example.com:3128))"},
        Mistake{
            "ProxyWithoutPort", endpoint("host: a.example, inspection: none, upstreamProxy: {url: 'http://p'}"),
            R"(p.yaml:6:71: error: the upstream proxy 'http://p' has no port (hint: write it as http://proxy.example.com:3128))"},
        Mistake{
            "ProxyWithUser", endpoint("host: a.example, inspection: none, upstreamProxy: {url: 'http://u:x@p:1'}"),
            R"(p.yaml:6:71: error: the upstream proxy 'http://u:x@p:1' has a user in it (hint: user:password goes into 'credentials'))"},
        Mistake{
            "ProxyWithPath", endpoint("host: a.example, inspection: none, upstreamProxy: {url: 'http://p:1/x'}"),
            R"(p.yaml:6:71: error: the upstream proxy 'http://p:1/x' is not valid: a port must be a number from 1 to 65535 without leading zeros (hint: write it as http://proxy.example.com:3128))"},
        Mistake{"CredentialsForNoProxy",
                endpoint("host: a.example, inspection: none, upstreamProxy: {url: none, credentials: {file: x}}"),
                R"(p.yaml:6:77: error: there are credentials for no proxy (hint: remove them))"},
        Mistake{
            "ProxyForAWildcard", endpoint("host: '*.a.example', inspection: none, upstreamProxy: {url: 'http://p:1'}"),
            R"(p.yaml:6:21: warning: endpoint 'a' lets the upstream proxy look up names that the policy does not spell out, and where they lead is not checked (hint: name the hosts, or give the endpoint upstreamProxy: {url: none}))"},
        Mistake{"WebSocketSize",
                endpoint("host: a.example, websocket: {messageBytesMax: 1e6}, rules: "
                         "[{methods: [GET], path: {prefix: /}}]"),
                R"(p.yaml:6:61: error: the size '1e6' is not valid (hint: a number of bytes from 1 to 1099511627776))"},
        Mistake{
            "WebSocketUninspected", endpoint("host: a.example, inspection: none, websocket: {allow: false}"),
            R"(p.yaml:6:50: error: 'websocket' cannot be used with inspection: none (hint: nobody looks into the connection; remove one of the two))"},
        Mistake{"TcpWithoutPorts", endpoint("host: a.example, protocol: tcp"),
                R"(p.yaml:6:42: error: endpoint 'a' has protocol: tcp and no ports (hint: ports: [5432], say))"},
        Mistake{"TcpOnAnyPort", endpoint("host: a.example, protocol: tcp, ports: [any]"),
                R"(p.yaml:6:55: error: the port any cannot be used with protocol: tcp (hint: name the ports))"},
        Mistake{
            "TcpToAnyHost", endpoint("host: any, protocol: tcp, ports: [25]"),
            R"(p.yaml:6:21: error: host: any cannot be used with protocol: tcp (hint: any bytes could go to every server; name the hosts))"},
        Mistake{
            "TcpWithRules",
            endpoint("host: a.example, protocol: tcp, ports: [25], rules: [{methods: [GET], path: {prefix: /}}]"),
            R"(p.yaml:6:60: error: 'rules' cannot be used with protocol: tcp (hint: the bytes are relayed unread; remove one of the two))"},
        Mistake{
            "TcpWithInspection", endpoint("host: a.example, protocol: tcp, ports: [25], inspection: none"),
            R"(p.yaml:6:72: error: 'inspection' cannot be used with protocol: tcp (hint: the bytes are relayed unread anyway))"},
        Mistake{
            "TcpWithScheme", endpoint("host: a.example, protocol: tcp, ports: [25], scheme: https"),
            R"(p.yaml:6:68: error: 'scheme' cannot be used with protocol: tcp (hint: whatever is spoken on its ports passes))"},
        Mistake{
            "TcpToAnAddress", endpoint("host: 93.184.216.34, protocol: tcp, ports: [25]"),
            R"(p.yaml:6:21: error: an address as the host of protocol: tcp must be in 'addresses' too, and 93.184.216.34 is not (hint: add addresses: ["93.184.216.34"]))"},
        Mistake{
            "TcpOnThePortOfHttps", endpoint("host: a.example, protocol: tcp, ports: [443]"),
            R"(p.yaml:6:55: warning: endpoint 'a' relays port 443 unread, so no request on it is decided or recorded (hint: use inspection: none for TLS that must not be opened: its name is checked))"},
        Mistake{
            "TcpOnThePortOfHttp", endpoint("host: a.example, protocol: tcp, ports: [25, 80]"),
            R"(p.yaml:6:59: warning: endpoint 'a' relays port 80 unread, so no request on it is decided or recorded (hint: use scheme: http and rules for HTTP))"},
        Mistake{
            "TcpBesideHttp",
            endpoint("host: a.example, protocol: tcp, ports: [25, 8443]") +
                "  - {name: b, host: a.example, ports: [8443], rules: [{methods: [GET], path: {prefix: /}}]}\n",
            R"(p.yaml:7:5: error: endpoints 'a' and 'b' have the same host and port, but one has protocol: tcp and the other has not (hint: the first is in line 6; give them different ports))"},
        Mistake{
            "TcpBesidePassedThrough",
            endpoint("host: a.example, protocol: tcp, ports: [8443]") +
                "  - {name: b, host: a.example, ports: [any], inspection: none}\n",
            R"(p.yaml:7:5: error: endpoints 'a' and 'b' have the same host and port, but one has protocol: tcp and the other has not (hint: the first is in line 6; give them different ports))"},
        Mistake{
            "TcpInsideAWildcardOfHttp",
            endpoint("host: db.a.example, protocol: tcp, ports: [8443]") +
                "  - {name: b, host: '*.a.example', ports: [any], rules: [{methods: [GET], path: {prefix: /}}]}\n",
            R"(p.yaml:6:5: warning: endpoint 'a' relays a port unread that endpoint 'b' in line 7 has for this host too: what that one says does not hold there (hint: give them different ports if that is not meant))"},
        Mistake{
            "FullWithoutRules", endpoint("host: a.example"),
            R"(p.yaml:6:5: error: endpoint 'a' has no rules, so nothing would be allowed (hint: rules: [{methods: [any], path: {prefix: /}}] allows every request))"},
        Mistake{
            "CaBundleWithHttp",
            endpoint(
                "host: a.example, scheme: http, caBundle: {file: x}, rules: [{methods: [GET], path: {prefix: /}}]"),
            R"(p.yaml:6:46: error: 'caBundle' cannot be used with scheme: http (hint: there is no certificate to check))"},
        Mistake{
            "ConflictingInspection",
            endpoint("host: a.example, inspection: none") +
                "  - {name: b, host: A.EXAMPLE., ports: [80, 443], rules: [{methods: [GET], path: {prefix: /}}]}\n",
            R"(p.yaml:7:5: error: endpoints 'a' and 'b' have the same host and port, but one is inspected and the other is not (hint: the first is in line 6; give them different ports))"},
        Mistake{
            "ConflictingSlashes",
            rule("methods: [GET], path: {prefix: /}") + "  - {name: b, host: a.example, ports: [any], mergeSlashes: "
                                                        "true, rules: [{methods: [GET], path: {prefix: /}}]}\n",
            R"(p.yaml:7:5: error: endpoints 'a' and 'b' have the same host and port, but not the same allowEncodedSlashes and mergeSlashes (hint: the first is in line 6; give both the same values))"}),
    [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Rules, LoadMistake,
    testing::Values(
        Mistake{
            "LowerCaseMethod", rule("methods: [GET, post], path: {prefix: /}"),
            R"(p.yaml:6:56: error: the method 'post' is not in upper case, and methods are compared exactly (hint: write POST))"},
        Mistake{"MethodStar", rule("methods: [\"*\"], path: {prefix: /}"),
                R"(p.yaml:6:51: error: the method '*' is not valid (hint: write any for every method))"},
        Mistake{"MethodAny", rule("methods: [ANY], path: {prefix: /}"),
                R"(p.yaml:6:51: error: the method 'ANY' is not valid (hint: write any for every method))"},
        Mistake{"MethodAnyAndMore", rule("methods: [any, GET], path: {prefix: /}"),
                R"(p.yaml:6:51: error: 'any' must be the only method)"},
        Mistake{"MethodWithSpace", rule("methods: [\"GET POST\"], path: {prefix: /}"),
                R"(p.yaml:6:51: error: the method 'GET POST' is not valid (hint: a word such as GET or POST))"},
        Mistake{
            "Connect", rule("methods: [CONNECT], path: {prefix: /}"),
            R"(p.yaml:6:51: error: the method CONNECT cannot be allowed: the guard relays no tunnels (hint: inspection: none lets whole connections through))"},
        Mistake{"PathWithoutSlash", path("prefix: photos"),
                R"(p.yaml:6:72: error: the path 'photos' does not start with / (hint: write '/photos'))"},
        Mistake{"PathStar", path("prefix: \"*\""),
                R"(p.yaml:6:72: error: the path '*' does not start with / (hint: every path is {prefix: /}))"},
        Mistake{
            "PathWithGlob", path("prefix: \"/photos/*\""),
            R"(p.yaml:6:72: warning: in the prefix '/photos/*' the * stands for itself (hint: a prefix needs no wildcard: "/photos/" has all that is below it))"},
        Mistake{
            "PathWithQuery", path("exact: \"/photos?size=1\""),
            R"(p.yaml:6:71: error: the path '/photos?size=1' has a query (hint: rules look at the path alone; write '/photos'))"},
        Mistake{
            "PathWithDots", path("prefix: /a/../b"),
            R"(p.yaml:6:72: error: the path '/a/../b' is not canonical, so no request will have it (hint: write '/b'))"},
        Mistake{
            "PathWithEscape", path("exact: /%7euser"),
            R"(p.yaml:6:71: error: the path '/%7euser' is not canonical, so no request will have it (hint: write '/~user'))"},
        Mistake{
            "PathWithLowerHex", path("exact: /a%c3%a4"),
            R"(p.yaml:6:71: error: the path '/a%c3%a4' is not canonical, so no request will have it (hint: write '/a%C3%A4'))"},
        Mistake{
            "PathWithSpace", path("exact: /a b"),
            R"(p.yaml:6:71: error: the path '/a b' is not valid: byte 0x20 at offset 2 is not allowed in a request target (hint: percent-encode what is not a visible ASCII character: a space is %20))"},
        Mistake{
            "PathWithEncodedSlash", path("exact: /a%2Fb"),
            R"(p.yaml:6:71: error: the path '/a%2Fb' is not valid: the escape %2F at offset 2 is not allowed in a path (hint: allowEncodedSlashes: true lets them stand in this endpoint's paths))"},
        Mistake{
            "PathWithUnicode", path("exact: /\u00e4"),
            R"(p.yaml:6:71: error: the path '/ä' is not valid: byte 0xC3 at offset 1 is not allowed in a request target (hint: percent-encode what is not a visible ASCII character: a space is %20))"},
        Mistake{"BadRegex", path("regex: \"/(\""),
                R"(p.yaml:6:71: error: the regex '/(' is not valid: missing ): /( (hint: the syntax is RE2's))"},
        Mistake{
            "RegexWithoutSlash", path("regex: photos/.*"),
            R"(p.yaml:6:71: error: the regex 'photos/.*' matches no path, as every path starts with / (hint: it must match the whole path from its first /))"},
        Mistake{"RegexTooLong", path("regex: /" + std::string(limits::kRegexBytesMax, 'a')),
                R"(p.yaml:6:71: error: the regex is longer than 4096 bytes)"},
        Mistake{
            "RegexTooLarge", path("regex: \"/((a{100}){100}){10}\""),
            R"(p.yaml:6:71: error: the regex '/((a{100}){100}){10}' is not valid: invalid repetition size: {100} (hint: the syntax is RE2's))"}),
    [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Credentials, LoadMistake,
    testing::Values(
        Mistake{"Undefined",
                endpoint("host: a.example, credential: strip, rules: [{methods: [GET], path: {prefix: /}}]") +
                    "  credentials:\n  - {name: stripe, secret: {env: C}, inject: {header: X}}\n",
                R"(p.yaml:6:44: error: credential 'strip' is not defined (hint: did you mean 'stripe'?))"},
        Mistake{
            "Unused",
            endpoint("host: a.example, inspection: none") +
                "  credentials:\n  - {name: c, secret: {env: C}, inject: {header: X}}\n",
            R"(p.yaml:8:5: warning: credential 'c' is not used by any endpoint (hint: name it in an endpoint: credential: c))"},
        Mistake{"Twice",
                credential("secret: {env: C}, inject: {header: X}") +
                    "  - {name: c, secret: {env: C}, inject: {header: X}}\n",
                R"(p.yaml:9:12: error: credential 'c' is given twice (hint: the first one is in line 8))"},
        Mistake{
            "OverHttp",
            endpoint("host: a.example, scheme: http, credential: c, rules: [{methods: [GET], path: {prefix: /}}]") +
                "  credentials:\n  - {name: c, secret: {env: C}, inject: {header: X}}\n",
            R"(p.yaml:6:58: error: a credential cannot be used with scheme: http (hint: it would cross the network unencrypted))"},
        Mistake{
            "ForAnyHost",
            endpoint("host: any, credential: c, rules: [{methods: [GET], path: {prefix: /}}]") +
                "  credentials:\n  - {name: c, secret: {env: C}, inject: {header: X}}\n",
            R"(p.yaml:6:38: error: a credential cannot be used with host: any (hint: every server on the network could ask for it))"},
        Mistake{"BothSources", credential("secret: {env: C, file: /c}, inject: {header: X}"),
                R"(p.yaml:8:32: error: a secret has either 'env' or 'file', not both)"},
        Mistake{"NoSource", credential("secret: {}, inject: {header: X}"),
                R"(p.yaml:8:23: error: a secret has none of file, env and store (hint: one of them is required))"},
        Mistake{"EmptySource", credential("secret: {file: \"\"}, inject: {header: X}"),
                R"(p.yaml:8:30: error: the secret's source has no name (hint: a file, or a variable of the guard))"},
        Mistake{"BadHeader", credential("secret: {env: C}, inject: {header: \"X Y\"}"),
                R"(p.yaml:8:50: error: the header 'X Y' is not valid (hint: a name such as Authorization))"},
        Mistake{
            "ReservedHeader", credential("secret: {env: C}, inject: {header: content-LENGTH}"),
            R"(p.yaml:8:50: error: the header 'content-LENGTH' cannot carry a credential (hint: it says how the message travels, and the guard writes it))"},
        Mistake{
            "FormatWithoutSlot", credential("secret: {env: C}, inject: {header: X, format: Bearer}"),
            R"(p.yaml:8:61: error: the format 'Bearer' must have {} exactly once (hint: the secret goes there, as in "Bearer {}"))"},
        Mistake{
            "FormatWithTwoSlots", credential("secret: {env: C}, inject: {header: X, format: \"{}:{}\"}"),
            R"(p.yaml:8:61: error: the format '{}:{}' must have {} exactly once (hint: the secret goes there, as in "Bearer {}"))"},
        Mistake{
            "FormatWithSpaceAtTheEnd", credential("secret: {env: C}, inject: {header: X, format: \"{} \"}"),
            R"(p.yaml:8:61: error: the format '{} ' is not a header value (hint: printable ASCII without a space at either end))"},
        Mistake{"BadVariable", credential("secret: {env: C}, inject: {header: X}, placeholder: {env: 1A}"),
                R"(p.yaml:8:73: error: '1A' is not the name of a variable (hint: letters, digits and '_'))"},
        Mistake{
            "VariableTwice",
            kHead + "  - {name: a, host: a.example, credential: c, rules: [{methods: [GET], path: {prefix: /}}]}\n  - "
                    "{name: b, host: b.example, credential: d, rules: [{methods: [GET], path: {prefix: /}}]}\n  "
                    "credentials:\n  - {name: c, secret: {env: C}, inject: {header: X}, placeholder: {env: V}}\n  - "
                    "{name: d, secret: {env: C}, inject: {header: X}, placeholder: {env: V}}\n",
            R"(p.yaml:10:73: error: two credentials put their placeholder into 'V' (hint: the first one is in line 9))"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Load, TheCallersModeOverridesTheDocuments) {
  EXPECT_EQ(load_policy(kWhole, "p.yaml", nullptr, Mode::learn).snapshot->mode(), Mode::learn);
}

TEST(Load, ReportsSeveralMistakesAtOnceInTheOrderOfTheFile) {
  EXPECT_EQ(
      diagnose(R"(apiVersion: sallyport.dev/v1alpha1
kind: EgressPolicy
metadata: {name: shop}
spec:
  mode: enforced
  endpoints:
  - name: a
    host: a.example
    rules:
    - {method: [GET], path: {prefix: /}}
  - name: b
    host: "*"
    rules: [{methods: [get], path: {prefix: /a/../b}}]
  - {name: c, host: c.example, credential: k, inspection: none}
)"),
      R"(p.yaml:5:9: error: 'mode' must be learn, audit or enforce, but this is the string 'enforced' (hint: did you mean 'enforce'?)
p.yaml:10:8: error: unknown field 'method' in a rule (hint: did you mean 'methods'?)
p.yaml:12:11: error: the host '*' is not allowed (hint: write any for every host, or *.example.com)
p.yaml:13:24: error: the method 'get' is not in upper case, and methods are compared exactly (hint: write GET)
p.yaml:13:45: error: the path '/a/../b' is not canonical, so no request will have it (hint: write '/b')
p.yaml:14:44: error: 'credential' cannot be used with inspection: none (hint: nobody looks into the connection; remove one of the two)
p.yaml:14:44: error: credential 'k' is not defined (hint: define it in spec.credentials)
)");
}

TEST(Load, ReportsAtMostTheLimitAndCountsTheRest) {
  std::string yaml = kHead;
  for (int i = 0; i < 1'000; ++i) yaml += "  - {nam: a}\n";
  const LoadResult result = load_policy(yaml, "p.yaml", nullptr);
  EXPECT_EQ(result.snapshot, nullptr);
  ASSERT_EQ(result.diagnostics.size(), limits::kPolicyErrorsMax);
  EXPECT_EQ(result.diagnostics[0].line, 6);
  EXPECT_EQ(result.diagnostics.back().to_string(), "p.yaml: error: and 1951 more");
}

TEST(Load, PutsEachListUnderItsLimit) {
  const auto many = [](const std::string& element, std::size_t count) {
    std::string out;
    for (std::size_t i = 0; i < count; ++i) out += element;
    return out;
  };
  EXPECT_THAT(diagnose(endpoint("host: a.example, inspection: none, ports: [" +
                                many("1,", limits::kPolicyPortsPerEndpointMax + 1) + "]")),
              HasSubstr("has more than 64 ports"));
  EXPECT_THAT(diagnose(endpoint("host: a.example, inspection: none, addresses: [" +
                                many("10.0.0.1,", limits::kPolicyAddressesPerEndpointMax + 1) + "]")),
              HasSubstr("has more than 256 addresses"));
  EXPECT_THAT(
      diagnose(rule("methods: [" + many("GET,", limits::kPolicyMethodsPerRuleMax + 1) + "], path: {prefix: /}")),
      HasSubstr("the rule has too many methods"));
  EXPECT_THAT(
      diagnose(endpoint("host: a.example, rules: [" +
                        many("{methods: [GET], path: {prefix: /}},", limits::kPolicyRulesPerEndpointMax + 1) + "]")),
      HasSubstr("has more than 1024 rules"));
  std::string endpoints = kHead;
  for (std::size_t i = 0; i <= limits::kPolicyEndpointsMax; ++i) {
    endpoints += "  - {name: e" + std::to_string(i) + ", host: e" + std::to_string(i) + ".example, inspection: none}\n";
  }
  EXPECT_THAT(diagnose(endpoints), HasSubstr("more than 4096 endpoints"));
  EXPECT_THAT(
      diagnose(endpoint("host: a.example, rules: [" + many("{methods: [GET], path: {regex: /}},", 1'000) + "]") +
               "  - {name: b, host: b.example, rules: [" + many("{methods: [GET], path: {regex: /}},", 25) + "]}\n"),
      HasSubstr("more than 1024 regexes"));
}

TEST(Load, ACaseOfTheSameHostIsTheSameHost) {
  EXPECT_THAT(diagnose(endpoint("host: A.example., inspection: none") +
                       "  - {name: b, host: a.EXAMPLE, rules: [{methods: [GET], path: {prefix: /}}]}\n"),
              HasSubstr("have the same host and port"));
}

TEST(Load, EndpointsOfOneHostMayDifferOnDifferentPorts) {
  load_clean(endpoint("host: a.example, inspection: none, ports: [444]") +
             "  - {name: b, host: a.example, rules: [{methods: [GET], path: {prefix: /}}]}\n"
             "  - {name: c, host: a.example, scheme: http, mergeSlashes: true, ports: [443],"
             " rules: [{methods: [GET], path: {prefix: /}}]}\n");
}

TEST(Load, NeverThrowsOnPiecesOfAPolicy) {
  const std::string whole(kWhole);
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    const LoadResult head = load_policy(std::string_view(whole).substr(0, cut), "p.yaml", nullptr);
    EXPECT_EQ(head.snapshot == nullptr, diagnostics_text(head).find(": error: ") != std::string::npos) << cut;
    const LoadResult tail = load_policy(std::string_view(whole).substr(cut), "p.yaml", nullptr);
    EXPECT_EQ(tail.snapshot == nullptr, diagnostics_text(tail).find(": error: ") != std::string::npos) << cut;
  }
}

const std::string kWithSecret = credential("secret: {file: /run/secrets/c}, inject: {header: X-Key}");

SecretReader reader_of(std::string value) {
  return [value](const SecretRef& ref) -> Result<credentials::Secret> {
    EXPECT_EQ(ref.file, "/run/secrets/c");
    EXPECT_EQ(ref.env, "");
    return credentials::Secret::copy_of(value);
  };
}

TEST(LoadSecrets, AreReadOncePerCredential) {
  const LoadResult result = load_policy(kWithSecret, "p.yaml", reader_of("hunter2"));
  ASSERT_NE(result.snapshot, nullptr);
  EXPECT_EQ(diagnostics_text(result), "");
  EXPECT_EQ(result.snapshot->endpoints()[0].credential->secret.view(), "hunter2");
}

TEST(LoadSecrets, StayEmptyWithoutAReader) {
  const auto snapshot = load_clean(kWithSecret);
  ASSERT_NE(snapshot, nullptr);
  EXPECT_TRUE(snapshot->endpoints()[0].credential->secret.empty());
}

TEST(LoadSecrets, ThatCannotBeReadOrSentAreWarningsAndTheBindingStaysEmpty) {
  const SecretReader failing = [](const SecretRef&) -> Result<credentials::Secret> {
    return fail(ErrorSource::policy, ErrorKind::unavailable, "no such file");
  };
  for (const auto& [reader, why] : {std::pair<SecretReader, std::string>(failing, "could not be read: no such file"),
                                    {reader_of("a\nInjected: b"), "has a line break"},
                                    {reader_of(std::string("a\0b", 3)), "or control character"},
                                    {reader_of(""), "is empty"}}) {
    const LoadResult result = load_policy(kWithSecret, "p.yaml", reader);
    ASSERT_NE(result.snapshot, nullptr);
    EXPECT_THAT(diagnostics_text(result), HasSubstr(why));
    EXPECT_THAT(diagnostics_text(result), HasSubstr("p.yaml:8:30: warning: the secret of credential 'c'"));
    EXPECT_THAT(diagnostics_text(result), testing::Not(HasSubstr("hunter")));
    EXPECT_TRUE(result.snapshot->endpoints()[0].credential->secret.empty());
  }
}

TEST(LoadPlaceholders, AreRandomUnlessGiven) {
  const auto first = load_clean(kWithSecret), second = load_clean(kWithSecret);
  const std::string& placeholder = first->bindings().all()[0]->placeholder;
  EXPECT_THAT(placeholder, testing::MatchesRegex("sallyport-placeholder-[0-9a-f]+"));
  EXPECT_EQ(placeholder.size(), std::string_view("sallyport-placeholder-").size() + 32);
  EXPECT_NE(placeholder, second->bindings().all()[0]->placeholder);
}

TEST(LoadPlaceholders, SurviveAReloadAsTheFunctionHoldsThem) {
  const LoadResult first = load_policy(kWithSecret, "p.yaml", nullptr);
  const LoadResult second = load_policy(kWithSecret, "p.yaml", nullptr, {}, first.snapshot.get());
  ASSERT_NE(second.snapshot, nullptr);
  EXPECT_EQ(first.snapshot->bindings().all()[0]->placeholder, second.snapshot->bindings().all()[0]->placeholder);
}

TEST(LoadPlaceholders, ThatAreTooShortAreRefused) {
  EXPECT_THAT(diagnose(credential("secret: {env: C}, inject: {header: X}, placeholder: {value: short}")),
              HasSubstr("p.yaml:8:75: error: credential c: a placeholder has at least 16 characters"));
}

TEST(LoadOperations, APresetMayStandAloneAndAFieldInAMapping) {
  const auto operations_of = [](const std::string& text) {
    return load_clean(kHead + "  - {name: a, host: a.example, operations: " + text +
                      ", rules: [{methods: [POST], path: {exact: /}, actions: [x, y.Z#1]}]}\n")
        ->endpoints()[0]
        .operations.to_string();
  };
  for (const std::string text :
       {"aws-json", "aws-query", "graphql", "json-rpc", "soap", "{header: X-Op}", "{form: op}", "{json: /a/b~1c}"}) {
    EXPECT_EQ(operations_of(text), text);
  }
  EXPECT_EQ(operations_of("{preset: soap}"), "soap");
}

TEST(LoadOperations, MistakesAreSaidWithTheirPlace) {
  const auto said = [](const std::string& fields, const std::string& actions = "[x]") {
    return diagnose(kHead + "  - {name: a, host: a.example" + fields +
                    ", rules: [{methods: [POST], path: {exact: /}, actions: " + actions + "}]}\n");
  };
  using testing::HasSubstr;
  EXPECT_THAT(said(""),
              HasSubstr("p.yaml:6:76: error: the rule has actions, but its endpoint does not say where they stand"));
  EXPECT_THAT(said(", operations: aws-jsn"), HasSubstr("did you mean 'aws-json'?"));
  EXPECT_THAT(said(", operations: [soap]"), HasSubstr("an operations rule must be a mapping, but this is a list"));
  EXPECT_THAT(said(", operations: {}"), HasSubstr("an operations rule has none of preset, header, form and json"));
  EXPECT_THAT(said(", operations: {header: X-A, form: b}"), HasSubstr("has either 'header' or 'form', not both"));
  EXPECT_THAT(said(", operations: {header: Host}"), HasSubstr("the header 'Host' cannot tell an action"));
  EXPECT_THAT(said(", operations: {header: Sallyport-Tag}"), HasSubstr("cannot tell an action"));
  EXPECT_THAT(said(", operations: {form: 'a[]'}"), HasSubstr("the form field 'a[]' is not valid"));
  EXPECT_THAT(said(", operations: {json: a}"), HasSubstr("'a' is not a JSON pointer"));
  EXPECT_THAT(said(", operations: soap", "[]"), HasSubstr("'actions' is empty"));
  EXPECT_THAT(said(", operations: soap", "['a b']"), HasSubstr("no request has the action 'a b'"));
  EXPECT_THAT(said(", query: all"), HasSubstr("'query' must be drop, keep or sort"));
  EXPECT_THAT(diagnose(kHead + "  - {name: a, host: a.example, inspection: none, operations: soap, query: keep}\n"),
              testing::AllOf(HasSubstr("'operations' cannot be used with inspection: none"),
                             HasSubstr("'query' cannot be used with inspection: none")));
  EXPECT_THAT(
      diagnose(kHead +
               "  - {name: a, host: a.example, operations: soap, rules: [{methods: [any], path: {prefix: /}}]}\n"
               "  - {name: b, host: a.example, rules: [{methods: [any], path: {prefix: /}}]}\n"),
      HasSubstr("have the same host and port, but not the same operations"));
}

TEST(LoadFlow, AGraphMayStandAlone) {
  const std::string endpoints =
      kHead + "  - {name: a, host: a.example, rules: [{methods: [any], path: {prefix: /}}]}\n";
  const auto flow_of = [&](const std::string& text) {
    return *load_clean(endpoints + "  flow: " + text + "\n")->flow();
  };
  EXPECT_EQ(load_clean(endpoints)->flow(), nullptr);
  EXPECT_EQ(flow_of("shop.graph.yaml").graph_file, "shop.graph.yaml");
  EXPECT_TRUE(flow_of("shop.graph.yaml").enforce);
  EXPECT_FALSE(flow_of("{graph: g, mode: audit}").enforce);
  const FlowRule relaxed = flow_of("{graph: g, relaxUntil: '2030-01-02T03:04:05Z'}");
  const auto until = std::chrono::sys_days(std::chrono::year(2030) / 1 / 2) + std::chrono::hours(3) +
                     std::chrono::minutes(4) + std::chrono::seconds(5);
  EXPECT_TRUE(relaxed.relaxed(until - std::chrono::seconds(1)));
  EXPECT_FALSE(relaxed.relaxed(until));
  EXPECT_FALSE(flow_of("g").relaxed(until));
  EXPECT_EQ(relaxed.line, 7);
}

TEST(LoadFlow, MistakesAreSaidWithTheirPlace) {
  const auto said = [](const std::string& text) {
    return diagnose(kHead + "  - {name: a, host: a.example, inspection: none}\n  flow: " + text + "\n");
  };
  EXPECT_THAT(said("{}"), HasSubstr("p.yaml:7:9: error: a flow rule has no 'graph'"));
  EXPECT_THAT(said("{graph: g, mode: learn}"), HasSubstr("p.yaml:7:26: error: the flow rule's mode is 'learn'"));
  EXPECT_THAT(said("{graph: g, relaxUntil: tomorrow}"),
              HasSubstr("the time 'tomorrow' is not valid (hint: write it as 2026-12-01T12:00:00Z)"));
  EXPECT_THAT(said("g"),
              HasSubstr("p.yaml:6:5: warning: endpoint 'a' is relayed unread: the flow graph does not see it"));
}

// Limits.

std::string with_limits(const std::string& limits) {
  return "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: limited}\nspec:\n  endpoints:\n"
         "  - {name: api, host: a.example, rules: [{methods: [any], path: {prefix: /}}]}\n"
         "  - {name: raw, host: b.example, inspection: none}\n"
         "  limits:\n" +
         limits;
}

LoadResult load_limits(const std::string& limits, const Snapshot* previous = nullptr) {
  return load_policy(with_limits(limits), "p.yaml", nullptr, {}, previous);
}

TEST(Limits, AreReadWithTheirDefaults) {
  const auto loaded = load_limits(
      "  - {name: writes, endpoint: api, methods: [POST, PUT], rate: 20/s, burst: 40}\n"
      "  - {name: all, rate: 600/m}\n"
      "  - {name: slow, rate: 1000/h}\n");
  ASSERT_NE(loaded.snapshot, nullptr) << loaded.diagnostics.at(0).to_string();
  const std::vector<Limit>& limits = loaded.snapshot->limits();
  ASSERT_EQ(limits.size(), 3U);
  EXPECT_EQ(limits[0].bucket->rate(), (rate::Rate{std::chrono::milliseconds(50), 40}));
  EXPECT_EQ(limits[1].bucket->rate(), (rate::Rate{std::chrono::milliseconds(100), 10})) << "a second's worth";
  EXPECT_EQ(limits[2].bucket->rate(), (rate::Rate{std::chrono::milliseconds(3'600), 1}));
  const Endpoint& api = loaded.snapshot->endpoints()[0];
  EXPECT_TRUE(limits[0].has(&api, "POST", ""));
  EXPECT_FALSE(limits[0].has(&api, "GET", ""));
  EXPECT_FALSE(limits[0].has(&loaded.snapshot->endpoints()[1], "POST", ""));
  EXPECT_FALSE(limits[0].has(nullptr, "POST", ""));
  EXPECT_TRUE(limits[1].has(nullptr, "GET", "x"));
}

TEST(Limits, GoOnFromTheOnesBeforeWhereTheyAreTheSame) {
  const auto before = load_limits("  - {name: a, rate: 1/h}\n  - {name: b, rate: 1/h}\n");
  ASSERT_NE(before.snapshot, nullptr);
  const auto after =
      load_limits("  - {name: b, rate: 1/h, methods: [GET]}\n  - {name: a, rate: 2/h}\n", before.snapshot.get());
  ASSERT_NE(after.snapshot, nullptr);
  EXPECT_EQ(after.snapshot->limits()[0].bucket, before.snapshot->limits()[1].bucket);
  EXPECT_NE(after.snapshot->limits()[1].bucket, before.snapshot->limits()[0].bucket);
}

TEST(Limits, AreRefusedAtTheirPlace) {
  const std::pair<const char*, const char*> cases[] = {
      {"  - {rate: 1/s}\n", "p.yaml:9:5: error: a limit has no 'name'"},
      {"  - {name: a}\n", "p.yaml:9:5: error: a limit has no 'rate'"},
      {"  - {name: a, rate: 0/s}\n", "p.yaml:9:21: error: the rate '0/s' is not valid"},
      {"  - {name: a, rate: '5'}\n", "the rate '5' is not valid"},
      {"  - {name: a, rate: 5/d}\n", "20/s, 100/m, 1000/h"},
      {"  - {name: a, rate: -5/s}\n", "the rate '-5/s' is not valid"},
      {"  - {name: a, rate: 1000001/s}\n", "is not valid"},
      {"  - {name: a, rate: 99999999999999999999/s}\n", "is not valid"},
      {"  - {name: a, rate: 1/s, burst: 0}\n", "the burst 0 is not valid"},
      {"  - {name: a, rate: 1/s, burst: 1000001}\n", "the burst 1000001 is not valid"},
      {"  - {name: a, rate: 1/s, methods: []}\n", "methods"},
      {"  - {name: a, rate: 1/s, methods: [post]}\n", "the limit's method 'post' is not valid"},
      {"  - {name: a, rate: 1/s, endpoint: apo}\n", "did you mean 'api'?"},
      {"  - {name: a, rate: 1/s, endpoint: raw}\n", "nothing is counted"},
      {"  - {name: a, rate: 1/s, endpoint: api, actions: [X]}\n", "have no actions"},
      {"  - {name: a, rate: 1/s, scope: x}\n", "unknown field 'scope' in a limit"},
      {"  - {name: a b, rate: 1/s}\n", "the limit's name 'a b' is not valid"},
      {"  - {name: a, rate: 1/s}\n  - {name: a, rate: 2/s}\n", "limit 'a' is given twice"},
  };
  for (const auto& [text, said] : cases) {
    const auto loaded = load_limits(text);
    EXPECT_EQ(loaded.snapshot, nullptr) << text;
    std::string all;
    for (const Diagnostic& diagnostic : loaded.diagnostics) all += diagnostic.to_string() + "\n";
    EXPECT_THAT(all, HasSubstr(said)) << text;
  }
}

TEST(Printable, LeavesNothingThatATerminalWouldObey) {
  EXPECT_EQ(printable("plain, grün\\"), "plain, grün\\");
  EXPECT_EQ(printable("\x1b[2J\n\t\x7f"), R"(\x1b[2J\x0a\x09\x7f)");
  EXPECT_EQ(printable("\xC2\x9B"
                      "31m"),
            R"(\xc2\x9b31m)");
  EXPECT_EQ(printable("a\u202Eb\u2066c\u2028"), R"(a\xe2\x80\xaeb\xe2\x81\xa6c\xe2\x80\xa8)");
  EXPECT_EQ(printable("\xC0\xAF\xED\xA0\x80\xFF"), R"(\xc0\xaf\xed\xa0\x80\xff)");
}

}  // namespace
}  // namespace sallyport::document
