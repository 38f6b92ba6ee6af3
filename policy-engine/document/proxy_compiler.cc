#include "policy-engine/document/proxy_compiler.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "policy-engine/request/host.h"

namespace sallyport::document {

namespace {

namespace api = sallyport::policy::v1alpha1;

constexpr std::string_view kScheme = "http://";

// RFC 7617: a user without a colon, and no control characters.
bool is_user_and_password(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  return std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

void read_credentials(const api::UpstreamProxy& source, const Places& places, Diagnostics& diagnostics,
                      const SecretSources& secrets, UpstreamProxy& out) {
  const api::SecretSource& from = source.credentials();
  const Place place = places.of(from, static_cast<int>(from.source_case()));
  const auto unusable = [&](const std::string& why) {
    diagnostics.warning(place, "the credentials of the upstream proxy " + why,
                        "connections through it fail until they can be read");
  };
  auto read = read_source(from, place, secrets, diagnostics);
  if (!read) return;
  auto& secret = *read;
  if (!secret) return unusable("could not be read: " + secret.error().text);
  if (!is_user_and_password(secret->view())) return unusable("are not of the form user:password");
  out.credentials = std::move(*secret);
}

}  // namespace

std::unique_ptr<UpstreamProxy> compile_proxy(const api::UpstreamProxy& source, const Places& places,
                                             Diagnostics& diagnostics, const SecretSources& secrets) {
  const Place place = places.of(source, api::UpstreamProxy::kUrlFieldNumber);
  const auto refuse = [&](const std::string& why, std::string_view hint) {
    diagnostics.error(place, "the upstream proxy " + quoted(source.url()) + " " + why, hint);
    return nullptr;
  };
  constexpr std::string_view kExample = "write it as http://proxy.example.com:3128";
  std::string_view text = source.url();
  if (!text.starts_with(kScheme)) return refuse("is not an http URL: it is spoken to without TLS", kExample);
  text.remove_prefix(kScheme.size());
  if (text.ends_with('/')) text.remove_suffix(1);
  if (text.find('@') != text.npos) return refuse("has a user in it", "user:password goes into 'credentials'");
  auto authority = request::parse_authority(text);
  if (!authority) return refuse("is not valid: " + authority.error().text, kExample);
  if (!authority->port) return refuse("has no port", kExample);
  auto made = std::make_unique<UpstreamProxy>();
  made->host = std::move(authority->host.name);
  made->literal = authority->host.address;
  made->port = *authority->port;
  made->needs_credentials = source.has_credentials();
  if (made->needs_credentials) read_credentials(source, places, diagnostics, secrets, *made);
  return made;
}

}  // namespace sallyport::document
