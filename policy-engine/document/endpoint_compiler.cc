#include "policy-engine/document/endpoint_compiler.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/names.h"
#include "policy-engine/document/operations_compiler.h"
#include "policy-engine/document/path_match.h"
#include "policy-engine/document/rule.h"

namespace sallyport::document {

namespace {

namespace api = sallyport::policy::v1alpha1;

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole || port == 0 || text.front() == '0') return std::nullopt;
  return port;
}

class EndpointCompiler {
 public:
  EndpointCompiler(const api::Endpoint& source, const Places& places, Diagnostics& diagnostics, std::size_t& regexes)
      : source_(source), places_(places), diagnostics_(diagnostics), regexes_(regexes) {}

  CompiledEndpoint compile() {
    compile_name();
    compile_host();
    compile_inspection();
    compile_protocol();
    compile_ports();
    compile_addresses();
    compile_files();
    compile_target();
    compile_websocket();
    compile_operations();
    compile_function();
    compile_rules();
    check_credential();
    out_.endpoint.line = places_.of(source_).line;
    return std::move(out_);
  }

 private:
  void error(int field, std::string message, std::string hint = {}) {
    diagnostics_.error(places_.of(source_, field), std::move(message), std::move(hint));
  }
  void error_at(int field, int index, std::string message, std::string hint = {}) {
    diagnostics_.error(places_.of(source_, field, index), std::move(message), std::move(hint));
  }

  std::string who() const { return "endpoint " + quoted(source_.name()); }

  void compile_name() {
    if (!is_label(source_.name())) {
      error(api::Endpoint::kNameFieldNumber, "the name " + quoted(source_.name()) + " is not valid",
            "up to 63 of a-z, 0-9, '.', '_' and '-', starting and ending with a letter or digit");
    }
    out_.endpoint.name = source_.name();
  }

  void compile_host() {
    HostPatternError problem;
    auto host = parse_host_pattern(source_.host(), problem);
    if (!host) return error(api::Endpoint::kHostFieldNumber, std::move(problem.message), std::move(problem.hint));
    out_.endpoint.host_pattern = host->text;
    out_.host = std::move(*host);
  }

  void compile_inspection() {
    Endpoint& endpoint = out_.endpoint;
    endpoint.scheme = source_.scheme() == api::SCHEME_HTTP ? request::Scheme::http : request::Scheme::https;
    if (source_.inspection() != api::INSPECTION_NONE) return;
    endpoint.inspection = Inspection::none;
    if (source_.protocol() == api::PROTOCOL_TCP) return;  // which says it all again
    refuse_fields_of_http("inspection: none", "nobody looks into the connection; remove one of the two");
  }

  // What only an HTTP request could obey.
  void refuse_fields_of_http(const std::string& other, const std::string& uninspected) {
    const std::string why = " cannot be used with " + other;
    if (source_.scheme() != api::SCHEME_UNSPECIFIED) {
      error(api::Endpoint::kSchemeFieldNumber, "'scheme'" + why, "whatever is spoken on its ports passes");
    }
    if (source_.rules_size() > 0) error(api::Endpoint::kRulesFieldNumber, "'rules'" + why, uninspected);
    if (source_.has_credential()) error(api::Endpoint::kCredentialFieldNumber, "'credential'" + why, uninspected);
    if (source_.has_ca_bundle()) error(api::Endpoint::kCaBundleFieldNumber, "'caBundle'" + why, uninspected);
    if (source_.has_crl()) error(api::Endpoint::kCrlFieldNumber, "'crl'" + why, uninspected);
    if (source_.has_client_certificate()) {
      error(api::Endpoint::kClientCertificateFieldNumber, "'clientCertificate'" + why, uninspected);
    }
    if (source_.has_websocket()) error(api::Endpoint::kWebsocketFieldNumber, "'websocket'" + why, uninspected);
    if (source_.has_operations()) error(api::Endpoint::kOperationsFieldNumber, "'operations'" + why, uninspected);
    if (source_.has_function()) error(api::Endpoint::kFunctionFieldNumber, "'function'" + why, uninspected);
    if (source_.query() != api::QUERY_RULE_UNSPECIFIED) {
      error(api::Endpoint::kQueryFieldNumber, "'query'" + why, uninspected);
    }
    if (source_.has_allow_encoded_slashes()) {
      error(api::Endpoint::kAllowEncodedSlashesFieldNumber, "'allowEncodedSlashes'" + why, uninspected);
    }
    if (source_.has_merge_slashes()) {
      error(api::Endpoint::kMergeSlashesFieldNumber, "'mergeSlashes'" + why, uninspected);
    }
  }

  // Nothing but host, port and addresses bounds such an endpoint, so all three must be said.
  void compile_protocol() {
    if (source_.protocol() != api::PROTOCOL_TCP) return;
    out_.endpoint.protocol = Protocol::tcp;
    out_.endpoint.inspection = Inspection::none;
    const std::string why = " cannot be used with protocol: tcp";
    refuse_fields_of_http("protocol: tcp", "the bytes are relayed unread; remove one of the two");
    if (source_.inspection() != api::INSPECTION_UNSPECIFIED) {
      error(api::Endpoint::kInspectionFieldNumber, "'inspection'" + why, "the bytes are relayed unread anyway");
    }
    if (out_.host.kind == HostPattern::Kind::any) {
      error(api::Endpoint::kHostFieldNumber, "host: any" + why, "any bytes could go to every server; name the hosts");
    }
    constexpr int kPorts = api::Endpoint::kPortsFieldNumber;
    if (source_.ports_size() == 0) {
      error(api::Endpoint::kProtocolFieldNumber, who() + " has protocol: tcp and no ports", "ports: [5432], say");
    }
    for (int i = 0; i < source_.ports_size(); ++i) {
      const std::string& port = source_.ports(i);
      if (port == "any") error_at(kPorts, i, "the port any" + why, "name the ports");
      if (port != "80" && port != "443") continue;
      diagnostics_.warning(places_.of(source_, kPorts, i),
                           who() + " relays port " + port + " unread, so no request on it is decided or recorded",
                           port == "443" ? "use inspection: none for TLS that must not be opened: its name is checked"
                                         : "use scheme: http and rules for HTTP");
    }
  }

  void compile_ports() {
    Endpoint& endpoint = out_.endpoint;
    constexpr int kField = api::Endpoint::kPortsFieldNumber;
    if (static_cast<std::size_t>(source_.ports_size()) > limits::kPolicyPortsPerEndpointMax) {
      return error(kField, who() + " has more than " + std::to_string(limits::kPolicyPortsPerEndpointMax) + " ports",
                   "every port is [any]");
    }
    for (int i = 0; i < source_.ports_size(); ++i) {
      const std::string& text = source_.ports(i);
      if (text == "any") {
        if (source_.ports_size() > 1) error_at(kField, i, "'any' must be the only port");
        endpoint.any_port = true;
        continue;
      }
      const auto port = parse_port(text);
      if (!port) {
        error_at(kField, i, "the port " + quoted(text) + " is not valid", "a number from 1 to 65535, or [any]");
        continue;
      }
      endpoint.ports.push_back(*port);
    }
    if (source_.ports_size() == 0)
      endpoint.ports = {static_cast<std::uint16_t>(endpoint.scheme == request::Scheme::http ? 80 : 443)};
    std::ranges::sort(endpoint.ports);
    const auto repeated = std::ranges::unique(endpoint.ports);
    endpoint.ports.erase(repeated.begin(), repeated.end());
  }

  void compile_addresses() {
    constexpr int kField = api::Endpoint::kAddressesFieldNumber;
    if (static_cast<std::size_t>(source_.addresses_size()) > limits::kPolicyAddressesPerEndpointMax) {
      return error(kField,
                   who() + " has more than " + std::to_string(limits::kPolicyAddressesPerEndpointMax) + " addresses",
                   "join them to shorter prefixes");
    }
    bool good = true;
    for (int i = 0; i < source_.addresses_size(); ++i) {
      auto cidr = request::Cidr::parse(source_.addresses(i));
      if (cidr) {
        out_.endpoint.addresses.push_back(*cidr);
        continue;
      }
      good = false;
      error_at(kField, i, "the address range " + quoted(source_.addresses(i)) + " is not valid: " + cidr.error().text);
    }
    if (good) check_literal();
  }

  // An address as host is reached like any other: a special one must be in `addresses`, or no request would ever pass.
  void check_literal() {
    if (!out_.host.address) return;
    // No name was looked up and no certificate is checked: that this address is meant must be said twice.
    const bool said = std::ranges::any_of(
        out_.endpoint.addresses, [&](const request::Cidr& range) { return range.contains(*out_.host.address); });
    if (out_.endpoint.protocol == Protocol::tcp && !said) {
      return error(
          api::Endpoint::kHostFieldNumber,
          "an address as the host of protocol: tcp must be in 'addresses' too, and " + out_.host.text + " is not",
          "add addresses: [\"" + out_.host.text + "\"]");
    }
    if (out_.endpoint.allows(*out_.host.address)) return;
    error(api::Endpoint::kHostFieldNumber,
          "the address " + out_.host.text + " is " + std::string(request::special_range(*out_.host.address)) +
              ", and 'addresses' does not have it",
          "add addresses: [\"" + out_.host.text + "\"]");
  }

  void compile_files() {
    compile_file(api::Endpoint::kCaBundleFieldNumber, "'caBundle'", source_.has_ca_bundle(), source_.ca_bundle(),
                 out_.endpoint.ca_bundle_file);
    compile_file(api::Endpoint::kCrlFieldNumber, "'crl'", source_.has_crl(), source_.crl(), out_.endpoint.crl_file);
    constexpr int kClient = api::Endpoint::kClientCertificateFieldNumber;
    if (!source_.has_client_certificate() || places_.broken(source_.client_certificate())) return;
    compile_file(kClient, "'clientCertificate'", true, source_.client_certificate().certificate(),
                 out_.endpoint.client_certificate_file);
    compile_file(kClient, "the key of 'clientCertificate'", true, source_.client_certificate().key(),
                 out_.endpoint.client_key_file);
    if (out_.host.kind == HostPattern::Kind::any) {
      error(kClient, "'clientCertificate' cannot be used with host: any", "it would introduce itself to every server");
    }
  }

  void compile_file(int field, const std::string& what, bool given, const api::PemFile& file, std::string& out) {
    if (!given) return;
    out = file.file();
    if (out.empty()) error(field, what + " has an empty file name");
    if (out_.endpoint.scheme == request::Scheme::http) {
      error(field, what + " cannot be used with scheme: http", "there is no certificate to check");
    }
  }

  void compile_target() {
    out_.endpoint.target.encoded_slashes = source_.allow_encoded_slashes();
    out_.endpoint.target.merge_slashes = source_.merge_slashes();
  }

  void compile_websocket() {
    const api::WebSocket& websocket = source_.websocket();
    out_.endpoint.websocket_allowed = !websocket.has_allow() || websocket.allow();
    if (!websocket.has_message_bytes_max()) return;
    const std::string& text = websocket.message_bytes_max();
    std::uint64_t bytes = 0;
    const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), bytes);
    const bool whole = wrong == std::errc() && end == text.data() + text.size() && text.front() != '0';
    if (!whole || bytes > limits::kWebSocketMessageBytesLimit) {
      diagnostics_.error(places_.of(websocket, api::WebSocket::kMessageBytesMaxFieldNumber),
                         "the size " + quoted(text) + " is not valid",
                         "a number of bytes from 1 to " + std::to_string(limits::kWebSocketMessageBytesLimit));
      return;
    }
    out_.endpoint.websocket_message_bytes_max = bytes;
  }

  void compile_operations() {
    if (source_.query() == api::QUERY_RULE_KEEP) out_.endpoint.query = QueryRule::keep;
    if (source_.query() == api::QUERY_RULE_SORT) out_.endpoint.query = QueryRule::sort;
    if (!source_.has_operations() || places_.broken(source_.operations())) return;
    out_.endpoint.operations = document::compile_operations(source_.operations(), places_, diagnostics_);
  }

  // A tag is for one function, and for nobody who merely has a name that a pattern matches.
  void compile_function() {
    if (!source_.has_function()) return;
    constexpr int kField = api::Endpoint::kFunctionFieldNumber;
    out_.endpoint.function = source_.function();
    if (!is_subdomain(source_.function())) {
      error(kField, "the function " + quoted(source_.function()) + " is not valid",
            "the name of a function, as its own policy has it");
    }
    if (out_.host.kind != HostPattern::Kind::exact) {
      error(kField, "'function' needs one host, and " + quoted(source_.host()) + " may be many", "name the host");
    }
  }

  void compile_rules() {
    if (out_.endpoint.inspection == Inspection::none) return;
    if (source_.rules_size() == 0) {
      return diagnostics_.error(places_.of(source_), who() + " has no rules, so nothing would be allowed",
                                "rules: [{methods: [any], path: {prefix: /}}] allows every request");
    }
    if (static_cast<std::size_t>(source_.rules_size()) > limits::kPolicyRulesPerEndpointMax) {
      return error(api::Endpoint::kRulesFieldNumber,
                   who() + " has more than " + std::to_string(limits::kPolicyRulesPerEndpointMax) + " rules");
    }
    for (const api::Rule& rule : source_.rules()) {
      Rule compiled;
      compiled.line = places_.of(rule).line;
      compile_methods(rule, compiled.methods);
      compiled.path = compile_path(rule.path(), out_.endpoint.target, places_, diagnostics_, regexes_);
      compiled.actions = compile_actions(rule, source_.has_operations(), places_, diagnostics_);
      out_.endpoint.rules.push_back(std::move(compiled));
    }
  }

  void compile_methods(const api::Rule& rule, MethodSet& out) {
    if (static_cast<std::size_t>(rule.methods_size()) > limits::kPolicyMethodsPerRuleMax) {
      diagnostics_.error(places_.of(rule, api::Rule::kMethodsFieldNumber), "the rule has too many methods",
                         "every method is [any]");
      return;
    }
    for (int i = 0; i < rule.methods_size(); ++i) {
      const std::string& method = rule.methods(i);
      const Place place = places_.of(rule, api::Rule::kMethodsFieldNumber, i);
      if (method == "any") {
        if (rule.methods_size() > 1) diagnostics_.error(place, "'any' must be the only method");
        out.add_any();
      } else if (check_method(method, place)) {
        out.add(method);
      }
    }
  }

  bool check_method(const std::string& method, Place place) {
    if (is_policy_method(method)) return true;
    std::string upper = method;
    for (char& c : upper) {
      if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    }
    if (method == "*" || upper == "ANY" || upper == "ALL") {
      diagnostics_.error(place, "the method " + quoted(method) + " is not valid", "write any for every method");
    } else if (!is_token(method)) {
      diagnostics_.error(place, "the method " + quoted(method) + " is not valid", "a word such as GET or POST");
    } else if (upper != method) {
      diagnostics_.error(place,
                         "the method " + quoted(method) + " is not in upper case, and methods are compared exactly",
                         "write " + upper);
    } else {
      diagnostics_.error(place, "the method CONNECT cannot be allowed: the guard relays no tunnels",
                         "inspection: none lets whole connections through");
    }
    return false;
  }

  void check_credential() {
    if (!source_.has_credential() || out_.endpoint.inspection == Inspection::none) return;
    constexpr int kField = api::Endpoint::kCredentialFieldNumber;
    if (out_.endpoint.scheme == request::Scheme::http) {
      error(kField, "a credential cannot be used with scheme: http", "it would cross the network unencrypted");
    }
    if (out_.host.kind == HostPattern::Kind::any) {
      error(kField, "a credential cannot be used with host: any", "every server on the network could ask for it");
    }
  }

  const api::Endpoint& source_;
  const Places& places_;
  Diagnostics& diagnostics_;
  std::size_t& regexes_;
  CompiledEndpoint out_;
};

}  // namespace

CompiledEndpoint compile_endpoint(const api::Endpoint& source, const Places& places, Diagnostics& diagnostics,
                                  std::size_t& regexes) {
  return EndpointCompiler(source, places, diagnostics, regexes).compile();
}

}  // namespace sallyport::document
