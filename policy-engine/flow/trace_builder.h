#pragma once
// Traces for tests, one request after the other: TraceBuilder().get("a.example", "/x").put(…).done().

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "policy-engine/api/flow.pb.h"

namespace sallyport::flow {

class TraceBuilder {
 public:
  explicit TraceBuilder(const std::string& function = "thumbnailer") {
    trace_.set_function(function);
    trace_.set_end(v1alpha1::EXECUTION_END_COMPLETE);
    trace_.set_attributed(true);
  }

  // Ten milliseconds, behind the one before.
  TraceBuilder& request(std::string_view method, std::string_view host, std::string_view path,
                        std::string_view query = "", std::string_view action = "") {
    v1alpha1::Flow& flow = *trace_.add_flows();
    set(*flow.mutable_operation(), method, host, path, query, action);
    flow.set_status(200);
    flow.set_end(v1alpha1::FLOW_END_ANSWERED);
    last_from(now_ms_, 10);
    now_ms_ += 11;
    return *this;
  }
  TraceBuilder& get(std::string_view host, std::string_view path, std::string_view query = "") {
    return request("GET", host, path, query);
  }
  TraceBuilder& put(std::string_view host, std::string_view path) { return request("PUT", host, path); }
  TraceBuilder& post(std::string_view host, std::string_view path, std::string_view action = "") {
    return request("POST", host, path, "", action);
  }
  // "ABC": GET a.example/A, then /B, then /C.
  TraceBuilder& letters(std::string_view letters) {
    for (const char letter : letters) get("a.example", std::string("/") + letter);
    return *this;
  }

  // Of the last request.
  TraceBuilder& status(std::uint32_t status) {
    last().set_status(status);
    return *this;
  }
  TraceBuilder& failed() {
    last().set_status(0);
    last().set_end(v1alpha1::FLOW_END_FAILED);
    return *this;
  }
  TraceBuilder& redirects(std::uint32_t status, std::string_view host, std::string_view path) {
    last().set_status(status);
    set(*last().mutable_redirect(), last().operation().method(), host, path, "", "");
    return *this;
  }
  // Began when the one before did, and so ran beside it.
  TraceBuilder& beside() {
    const auto before = trace_.flows(trace_.flows_size() - 2).began();
    last_from(before.seconds() * 1'000 + before.nanos() / 1'000'000, 10);
    now_ms_ -= 11;
    return *this;
  }
  TraceBuilder& at_ms(std::int64_t began, std::int64_t ended) {
    last_from(began, ended - began);
    return *this;
  }

  v1alpha1::Trace& raw() { return trace_; }
  v1alpha1::Trace done() { return std::move(trace_); }

 private:
  v1alpha1::Flow& last() { return *trace_.mutable_flows(trace_.flows_size() - 1); }
  static void set(v1alpha1::Operation& to, std::string_view method, std::string_view host, std::string_view path,
                  std::string_view query, std::string_view action) {
    to.set_method(std::string(method));
    to.set_host(std::string(host));
    to.set_path(std::string(path));
    to.set_query(std::string(query));
    to.set_action(std::string(action));
  }
  static void set(google::protobuf::Duration& to, std::int64_t ms) {
    to.set_seconds(ms / 1'000);
    to.set_nanos(static_cast<std::int32_t>(ms % 1'000 * 1'000'000));
  }
  void last_from(std::int64_t began_ms, std::int64_t for_ms) {
    set(*last().mutable_began(), began_ms);
    set(*last().mutable_ended(), began_ms + for_ms);
  }

  v1alpha1::Trace trace_;
  std::int64_t now_ms_ = 0;
};

}  // namespace sallyport::flow
