#pragma once
// AWS Lambda's Runtime API, between the function's runtime and who invokes it: the guard passes it on, and sees where
// executions begin and end (docs/executions.md). It is reached under a name of the guard's own, whatever the policy
// has.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "policy-engine/document/snapshot.h"
#include "policy-engine/request/head.h"
#include "policy-engine/request/host.h"

namespace sallyport::guard {

// What AWS_LAMBDA_RUNTIME_API says to the function: a name that nobody else has, and the port of http.
inline constexpr std::string_view kRuntimeApiHost = "runtime-api.sallyport.internal";
inline constexpr std::uint16_t kRuntimeApiPort = 80;

struct RuntimeApi {
  request::Host host;
  std::uint16_t port = 0;
  std::string authority;        // as Host says it
  document::Endpoint endpoint;  // what connecting to it goes by
};
// "HOST:PORT", as AWS_LAMBDA_RUNTIME_API has it. ErrorKind::invalid.
Result<std::unique_ptr<const RuntimeApi>> parse_runtime_api(std::string_view text);

// What a request to the API means for executions.
struct RuntimeCall {
  enum class Kind : std::uint8_t {
    next,   // its answer is the m_in of an invocation
    end,    // the response or the error of one: its m_out
    other,  // init errors, and whatever else the API has
  };
  Kind kind = Kind::other;
  std::string invocation;  // of end: its request id
};
// `path` is canonical.
RuntimeCall runtime_call(std::string_view method, std::string_view path);

// The request id of an invocation: what `next` was answered with. Nothing where there is not exactly one that is a
// word.
std::optional<std::string> invocation_of(const request::HeaderList& headers);

// The trace-id of W3C Trace Context that AWS X-Ray's header stands for ("Root=1-5759e988-bd862e3fe1be46a994272793;…"),
// as OpenTelemetry's propagator translates it. Nothing where there is none.
std::optional<std::string> trace_id_of_xray(const request::HeaderList& headers);

}  // namespace sallyport::guard
