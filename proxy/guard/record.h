#pragma once
// The decision record: exactly one per exchange, per connection that ended without one, per refused name, and per
// execution where those are tracked. Log line,
// metrics, terminal line, policy draft and summary are all made from it.

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/reason.h"
#include "policy-engine/document/snapshot.h"
#include "policy-engine/request/address.h"

namespace sallyport::flow::v1alpha1 {
class Operation;
class Trace;
}  // namespace sallyport::flow::v1alpha1

namespace sallyport::guard {

using ExecutionId = std::array<unsigned char, 16>;  // random

enum class RecordKind : std::uint8_t {
  exchange,    // one HTTP request of the function and its response
  inbound,     // one HTTP request to the function and its response
  connection,  // a connection that carried no HTTP: passed through, opaque, or ended before a request
  dns,         // a name that was not resolved
  execution,   // one execution of the function, when it and all that it sent have ended
};

enum class Outcome : std::uint8_t {
  allow,       // the policy allowed it, and an upstream's answer was relayed
  deny,        // refused: by the policy, or because it was malformed
  would_deny,  // the policy refuses it; the mode let it through
  error,       // allowed, but it failed
};

// What came of asking the controller before an execution began.
enum class AskEnd : std::uint8_t {
  allowed,
  refused,
  unanswered_denied,
  unanswered_allowed,  // as onControllerLoss says, or as nothing is enforced: recorded
};
struct EntryAsked {
  AskEnd end = AskEnd::unanswered_denied;
  std::chrono::microseconds took{0};
};

struct Record {
  RecordKind kind = RecordKind::exchange;
  Outcome outcome = Outcome::error;
  Reason reason = Reason::none;
  document::Mode mode = document::Mode::enforce;
  std::chrono::system_clock::time_point time;
  std::uint64_t id = 0;  // random: names the record in the client's error body
  std::optional<request::Scheme> scheme;
  std::string host;  // canonical; empty if never known
  std::uint16_t port = 0;
  std::string method;
  std::string path;    // canonical, never with the query
  std::string action;  // of the API, where the endpoint says where it stands
  std::string endpoint;
  std::string credential;  // name of the binding that was injected or misused
  std::string text;        // for a person; empty when there is nothing to say
  int rule = -1;
  std::chrono::milliseconds retry_after{0};  // of a denial that holds for a while only; 0: of none
  int status = 0;                            // that the client got; 0 if none
  std::uint64_t bytes_up = 0;                // body bytes from the function; of an inbound exchange: of the request
  std::uint64_t bytes_down = 0;              // body bytes to the function; of an inbound exchange: of the response
  std::chrono::microseconds duration{0};
  std::optional<std::chrono::microseconds> first_byte;  // until the upstream's response head
  std::string upstream;                                 // "192.0.2.1:443"
  std::optional<request::IpAddress> upstream_address;
  bool reused = false;
  bool inspected = true;
  bool tcp = false;                                    // relayed, and neither TLS nor HTTP
  const char* protocol = "";                           // "HTTP/1.1", "WebSocket", "TCP"
  std::optional<ExecutionId> execution;                // where executions are tracked and it belongs to one
  std::string_view attribution;                        // how that is known: "only", "trace-context", "set"
  std::string node;                                    // of the flow graph, that the request was allowed at
  std::string_view end;                                // of an execution: "complete", "timeout", "cut"
  std::uint64_t flows = 0;                             // of an execution: requests that it has sent
  std::shared_ptr<const flow::v1alpha1::Trace> trace;  // of an execution, for the file of traces; null: none is kept
  // For a controller, where there is one: what flow graphs call the exchange, of which request to the application it is
  // part, and the function that it has shown a tag.
  std::shared_ptr<const flow::v1alpha1::Operation> operation;
  std::optional<ExecutionId> request;
  std::string to_function;
  std::optional<EntryAsked> asked;
};

// "0123456789abcdef"
std::string id_text(std::uint64_t id);

// Appends one line of JSON without the line feed. Bytes that are not valid UTF-8 are escaped as \u00XX.
void append_json(std::string& out, const Record& record, std::string_view function);

std::string_view to_string(RecordKind kind);
std::string_view to_string(Outcome outcome);

}  // namespace sallyport::guard
