#pragma once
// A compiled policy: immutable, shared between workers, swapped whole. Everything that the data path asks a policy is
// asked here; nothing here does I/O, allocates on the allow path, or looks at the clock.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/limits.h"
#include "base/reason.h"
#include "policy-engine/action/action.h"
#include "policy-engine/credentials/secret.h"
#include "policy-engine/rate/gcra.h"
#include "policy-engine/request/address.h"
#include "policy-engine/request/head.h"
#include "policy-engine/request/target.h"
#include "policy-engine/tag/tag.h"

namespace sallyport::credentials {
class Binding;
class BindingSet;
}  // namespace sallyport::credentials

namespace sallyport::document {

enum class Mode : std::uint8_t {
  learn,    // everything passes and is recorded
  audit,    // decided and recorded, everything passes
  enforce,  // decided, and a denial denies
};
std::string_view to_string(Mode mode);
std::optional<Mode> parse_mode(std::string_view text);

enum class Inspection : std::uint8_t {
  full,  // TLS is terminated and every request is decided
  none,  // the connection is passed through whatever it speaks; only name, port and addresses are decided
};

enum class Protocol : std::uint8_t {
  http,  // and whatever `inspection` says of the TLS around it
  tcp,   // relayed unread from the first byte on, also where the server speaks first
};

// What becomes of queries in the operations that flow graphs look at.
enum class QueryRule : std::uint8_t { drop, keep, sort };

// Where connections to servers are asked for by CONNECT.
struct UpstreamProxy {
  std::string host;                           // canonical
  std::optional<request::IpAddress> literal;  // set when the host is an IP address
  std::uint16_t port = 0;
  bool needs_credentials = false;
  credentials::Secret credentials;  // "user:password"; empty where it could not be read: connections fail
};

// Which file says what may follow what, and how it is decided.
struct FlowRule {
  std::string graph_file;
  bool enforce = true;  // where the policy's mode is enforce
  std::optional<std::chrono::sys_seconds> relaxed_until;
  int line = 0;  // in the document; 0 when it had no lines

  bool relaxed(std::chrono::system_clock::time_point now) const { return relaxed_until && now < *relaxed_until; }
};

class Rule;  // methods and a path match (rule.h); whoever has an Endpoint sees rules only by their index

// One entry of spec.endpoints. Stable address for the life of its Snapshot.
struct Endpoint {
  std::string name;
  std::string host_pattern;          // canonical: "api.example.com", "*.example.com", an IP literal, or "any"
  std::vector<std::uint16_t> ports;  // sorted; empty only with any_port
  bool any_port = false;
  request::Scheme scheme = request::Scheme::https;
  Inspection inspection = Inspection::full;
  Protocol protocol = Protocol::http;
  std::vector<request::Cidr> addresses;  // special ranges that this endpoint may reach
  request::TargetOptions target;         // how its paths are made canonical
  action::Source operations;             // where the actions of its requests stand
  QueryRule query = QueryRule::drop;
  std::string function;                 // of the application, which is behind it; empty: none
  std::string ca_bundle_file;           // PEM; replaces the system's roots for this endpoint. Empty: the system's.
  std::string crl_file;                 // PEM; certificates of the chain are checked against it. Empty: none.
  std::string client_certificate_file;  // PEM; shown to the server, with client_key_file. Empty: none.
  std::string client_key_file;          // PEM; a secret
  std::vector<Rule> rules;
  const credentials::Binding* credential = nullptr;  // owned by the Snapshot's BindingSet
  bool websocket_allowed = true;
  std::uint64_t websocket_message_bytes_max = limits::kWebSocketMessageBytesMax;
  const UpstreamProxy* proxy = nullptr;  // owned by the Snapshot; null: straight
  std::uint32_t index = 0;               // in document order: labels of metrics, key of upstream pools
  int line = 0;                          // in the document; 0 when it had no lines

  // True for a public address, and for a special one that `addresses` contains.
  bool allows(const request::IpAddress& address) const;

  Endpoint();
  ~Endpoint();
  Endpoint(Endpoint&&) noexcept;
};

// The messages to the function, where the guard stands before it (spec.inbound).
struct Inbound {
  struct Probe {
    std::string path;  // canonical
    std::vector<std::string> methods;
  };
  std::vector<Probe> probes;
  bool fresh_traces_sampled = true;  // of messages that came without a trace
  std::vector<std::string> callers;  // functions of the application; empty: whoever reaches it may send messages
  bool external = false;             // with callers: who bears no tag may, too
  // Whether a request asks only how the function is. `path` is canonical and without its query.
  bool is_probe(std::string_view method, std::string_view path) const;
};

// The application that the function is of (spec.tags).
struct Tags {
  std::string application;
  // The first of each makes tags, all verify them. Empty where no key could be read: no tag can be made or believed.
  std::vector<tag::Key> requests, answers;
  bool cloud_events = false;  // tags also travel as an extension of CloudEvents
};

// One entry of spec.limits.
struct Limit {
  std::string name;
  const Endpoint* endpoint = nullptr;  // null: any
  std::vector<std::string> methods;    // empty: any
  std::vector<std::string> actions;    // empty: any
  std::string rate_text;               // "20/s"
  // Shared with the policies before and after this one that have the same limit, as the requests are.
  std::shared_ptr<rate::Gcra> bucket;

  // Whether a request counts. `endpoint` is the one that it is decided by, or null.
  bool has(const Endpoint* decided_by, std::string_view method, std::string_view action) const;
};

// A canonical destination (request/host.h).
struct Destination {
  request::Scheme scheme = request::Scheme::https;
  std::string_view host;
  std::uint16_t port = 0;
};

enum class ConnectionAction : std::uint8_t { intercept, pass_through, deny };

struct ConnectionDecision {
  ConnectionAction action = ConnectionAction::deny;
  Reason reason = Reason::host_not_allowed;  // none unless action is deny
  const Endpoint* endpoint = nullptr;        // the first that matches, if any
};

struct RequestDecision {
  bool allowed = false;
  Reason reason = Reason::host_not_allowed;
  const Endpoint* endpoint = nullptr;  // also set on a denial when host and port matched one
  int rule = -1;                       // index in endpoint->rules when allowed; -1 when inspection none allowed it
};

class Snapshot {
 public:
  ~Snapshot();
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  // A policy without endpoints: what `run` without --policy uses.
  static std::shared_ptr<const Snapshot> empty(Mode mode);

  // What is in force in the place of `of` while that may not be used: everything is refused for this reason, in the
  // words of `text`. Names are looked up as before, so that who asks is told.
  static std::shared_ptr<const Snapshot> refusing(std::shared_ptr<const Snapshot> of, Reason reason, std::string text);
  // Nothing: each decision has its own.
  struct Refusal {
    Reason reason = Reason::internal;
    std::string text;
  };
  const Refusal* refusal() const { return refusal_ ? &*refusal_ : nullptr; }

  Mode mode() const { return mode_; }
  const std::string& function() const { return function_; }
  const std::vector<Endpoint>& endpoints() const { return endpoints_; }
  const credentials::BindingSet& bindings() const { return *bindings_; }
  const FlowRule* flow() const { return flow_ ? &*flow_ : nullptr; }  // null: any order is allowed
  const Inbound& inbound() const { return inbound_; }
  // The names of the secrets of the controller's that it needs.
  const std::set<std::string>& stored_secrets() const { return stored_secrets_; }
  const Tags* tags() const { return tags_.get(); }  // null: the function is of no application
  const std::vector<Limit>& limits() const { return limits_; }
  // For what no endpoint has, in learn and audit; null: straight.
  const UpstreamProxy* proxy() const { return proxy_; }

  // What to do with a connection once its destination is known. Mode is not applied: the caller turns a denial into a
  // record in learn and audit. Endpoints are tried in the order of decide_request. An endpoint with inspection none
  // takes every connection to its host and port, unless an endpoint tried before has inspection full for that port with
  // the other scheme: what is inspected for one host is not passed through for a wildcard around it.
  ConnectionDecision decide_connection(const Destination& destination) const;

  // The endpoint with protocol tcp that relays every connection to this host and port, or null. Asked as soon as the
  // destination is known, before a byte is read. Endpoints are tried in the order of decide_request, and the first that
  // has the port decides: what is HTTP for one host is not relayed unread for a wildcard around it. Everything below
  // passes endpoints with protocol tcp over.
  const Endpoint* decide_tcp(std::string_view host, std::uint16_t port) const;

  // May this request be sent? `path` is canonical and without its query. Exact hosts are tried before wildcards, longer
  // wildcards before shorter, `any` last; among endpoints of one host pattern the document's order decides, and the
  // first endpoint with a matching rule wins. Where decide_connection would pass the connection through, every request
  // is allowed. `action` is what was found by the operations of reading(), empty for none. Endpoints with other target
  // options or operations than reading() are passed over: `path` is not canonical for them, or `action` not theirs.
  RequestDecision decide_request(const Destination& destination, std::string_view method, std::string_view path,
                                 std::string_view action = {}) const;

  // Whether decide_request would allow it with some action, or with none.
  bool could_allow(const Destination& destination, std::string_view method, std::string_view path) const;

  // The endpoint that says how targets and actions of this destination are read: the first that matches it, or null.
  const Endpoint* reading(const Destination& destination) const { return decide_connection(destination).endpoint; }

  // The options for canonicalising targets of this destination: of reading(), else the defaults.
  request::TargetOptions target_options(const Destination& destination) const;

  // May this canonical name be looked up? True if some endpoint's host pattern matches it.
  bool resolves(std::string_view host) const;

  // The rule that allowed a request, for people. `rule` is a RequestDecision's, not -1.
  struct RuleText {
    std::string text;  // "GET, HEAD on prefix: /photos"
    int line = 0;      // in the document; 0 when it had no lines
  };
  RuleText rule_text(const Endpoint& endpoint, int rule) const;

  // Counted over all endpoints.
  std::size_t rule_count() const;

  // "thumbnailer: enforce, 4 endpoints, 6 rules, 2 credentials".
  std::string summary() const;

  // A sentence for the denied client and for `policy test`: names the host, method and path, what would have matched,
  // and the remedy.
  std::string explain(const RequestDecision& decision, const Destination& destination, std::string_view method,
                      std::string_view path, std::string_view action = {}) const;
  // The same for a connection that is neither TLS nor HTTP, where decide_tcp() found nothing.
  std::string explain_tcp(std::string_view host, std::uint16_t port) const;

 private:
  friend class Compiler;
  Snapshot();
  Mode mode_ = Mode::enforce;
  std::string function_;
  std::vector<Endpoint> endpoints_;
  std::unique_ptr<credentials::BindingSet> bindings_;
  Inbound inbound_;
  std::set<std::string> stored_secrets_;
  std::unique_ptr<const Tags> tags_;
  std::vector<Limit> limits_;
  std::vector<std::unique_ptr<UpstreamProxy>> proxies_;
  const UpstreamProxy* proxy_ = nullptr;
  std::optional<FlowRule> flow_;
  struct Index;
  std::unique_ptr<Index> index_;
  std::optional<Refusal> refusal_;
  std::shared_ptr<const Snapshot> before_;  // with a refusal
};

}  // namespace sallyport::document
