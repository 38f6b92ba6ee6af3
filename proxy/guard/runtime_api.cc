#include "proxy/guard/runtime_api.h"

#include <algorithm>

namespace sallyport::guard {
namespace {

constexpr std::string_view kInvocations = "/2018-06-01/runtime/invocation/";
constexpr std::size_t kInvocationBytesMax = 128;  // AWS's have 36

bool is_invocation(std::string_view text) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  return !text.empty() && text.size() <= kInvocationBytesMax && std::ranges::all_of(text, good);
}

bool is_lower_hex(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

Result<std::unique_ptr<const RuntimeApi>> parse_runtime_api(std::string_view text) {
  auto authority = request::parse_authority(text);
  if (!authority || !authority->port) {
    return fail(ErrorSource::policy, ErrorKind::invalid,
                "'" + std::string(text) + "' is not the address of a runtime API: HOST:PORT, as in 127.0.0.1:9001");
  }
  auto made = std::make_unique<RuntimeApi>();
  made->host = std::move(authority->host);
  made->port = *authority->port;
  const bool v6 = made->host.address && !made->host.address->is_v4();
  made->authority = (v6 ? "[" + made->host.name + "]" : made->host.name) + ":" + std::to_string(made->port);
  made->endpoint.name = "runtime-api";
  made->endpoint.host_pattern = made->host.name;
  made->endpoint.scheme = request::Scheme::http;
  made->endpoint.ports = {made->port};
  return std::unique_ptr<const RuntimeApi>(std::move(made));
}

RuntimeCall runtime_call(std::string_view method, std::string_view path) {
  if (!path.starts_with(kInvocations)) return {};
  path.remove_prefix(kInvocations.size());
  if (path == "next") return {method == "GET" ? RuntimeCall::Kind::next : RuntimeCall::Kind::other, {}};
  const std::size_t slash = path.find('/');
  if (slash == std::string_view::npos || method != "POST") return {};
  const std::string_view id = path.substr(0, slash), what = path.substr(slash + 1);
  if (!is_invocation(id) || (what != "response" && what != "error")) return {};
  return {RuntimeCall::Kind::end, std::string(id)};
}

std::optional<std::string> invocation_of(const request::HeaderList& headers) {
  constexpr std::string_view kField = "lambda-runtime-aws-request-id";
  if (headers.count(kField) != 1) return std::nullopt;
  const std::string_view id = headers.find(kField)->value;
  if (!is_invocation(id)) return std::nullopt;
  return std::string(id);
}

std::optional<std::string> trace_id_of_xray(const request::HeaderList& headers) {
  constexpr std::string_view kField = "lambda-runtime-trace-id", kRoot = "Root=1-";
  constexpr std::size_t kTimeDigits = 8, kRandomDigits = 24;
  if (headers.count(kField) != 1) return std::nullopt;
  std::string_view rest = headers.find(kField)->value;
  while (!rest.empty()) {
    const std::string_view part = rest.substr(0, rest.find(';'));
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
    if (!part.starts_with(kRoot) || part.size() != kRoot.size() + kTimeDigits + 1 + kRandomDigits) continue;
    const std::string_view time = part.substr(kRoot.size(), kTimeDigits);
    const std::string_view random = part.substr(kRoot.size() + kTimeDigits + 1);
    if (part[kRoot.size() + kTimeDigits] != '-' || !is_lower_hex(time) || !is_lower_hex(random)) return std::nullopt;
    return std::string(time) + std::string(random);
  }
  return std::nullopt;
}

}  // namespace sallyport::guard
