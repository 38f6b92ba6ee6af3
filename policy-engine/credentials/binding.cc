#include "policy-engine/credentials/binding.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <cstring>

#include "policy-engine/credentials/decode.h"

namespace sallyport::credentials {
namespace {

using request::HeaderList;
using request::RequestHead;

constexpr std::size_t kPlaceholderBytesMin = 16;
constexpr std::string_view kRandomPrefix = "sallyport-placeholder-";
constexpr int kPercentRoundsMax = 3;

std::unexpected<Error> refuse(const Binding& binding, std::string_view what) {
  return fail(ErrorSource::policy, ErrorKind::invalid, "credential " + binding.name + ": " + std::string(what));
}

bool is_placeholder_byte(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
         c == '~' || c == '-';
}

bool is_field_text(std::string_view text) {
  return std::ranges::none_of(text,
                              [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; });
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::size_t find_text(std::string_view text, std::string_view part, std::size_t from) {
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found == nullptr ? std::string_view::npos
                          : static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

// Servers in the manner of CGI hand "X_Api_Key" and "X-Api-Key" to the application under one name, so a foreign value
// under the one could stand in for the credential under the other.
bool same_field(std::string_view a, std::string_view b) {
  const auto folded = [](char c) { return c == '_' ? '-' : c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
  return std::ranges::equal(a, b, {}, folded, folded);
}

// Made in the caller's argument, so that no second copy of the secret is left behind.
std::string rendered(const Binding& binding) {
  std::string value;
  value.reserve(binding.prefix.size() + binding.secret.view().size() + binding.suffix.size());
  value += binding.prefix;
  value += binding.secret.view();
  value += binding.suffix;
  return value;
}

// Fields in which services look for a key, whatever the one is that they name first.
bool carries_credential(std::string_view name) {
  static constexpr std::string_view kNames[] = {"authorization", "x-api-key",      "api-key",
                                                "apikey",        "x-goog-api-key", "x-auth-token",
                                                "x-auth-key",    "x-access-token", "private-token"};
  return std::ranges::any_of(kNames, [name](std::string_view one) { return same_field(name, one); });
}

void inject(const Binding& binding, HeaderList& headers) {
  bool placed = false;
  for (std::size_t i = 0; i < headers.size();) {
    if (!same_field(headers[i].name, binding.header)) {
      ++i;
    } else if (!placed && request::name_equals(headers[i].name, binding.header)) {
      headers.replace_value(i++, rendered(binding));
      placed = true;
    } else {
      headers.erase_at(i);
    }
  }
  if (!placed) headers.add_owned(binding.header, rendered(binding));
}

}  // namespace

Result<const Binding*> BindingSet::add(Binding binding) {
  const std::string& placeholder = binding.placeholder;
  if (placeholder.size() < kPlaceholderBytesMin || !std::ranges::all_of(placeholder, is_placeholder_byte)) {
    return refuse(binding, "a placeholder has at least 16 characters, of letters, digits, '.', '_', '~' and '-'");
  }
  for (const auto& other : bindings_) {
    if (contains(placeholder, other->placeholder) || contains(other->placeholder, placeholder)) {
      return refuse(binding, "its placeholder and that of " + other->name + " contain one another; give each its own");
    }
  }
  const std::string_view secret = binding.secret.view();
  const bool random = placeholder.starts_with(kRandomPrefix);
  if (!random && !secret.empty() && contains(placeholder, secret)) {
    return refuse(binding, "its placeholder holds the secret; the function would have what it must not have");
  }
  if (!is_field_text(binding.prefix) || !is_field_text(secret) || !is_field_text(binding.suffix)) {
    return refuse(binding, "its format or its secret has a line break or control character, which no header can carry");
  }
  const std::string_view text = random ? kRandomPrefix : std::string_view(placeholder);
  auto needle = std::ranges::find(needles_, text, &Needle::text);
  if (needle == needles_.end()) needle = needles_.insert(needle, Needle{std::string(text), {}});
  bindings_.push_back(std::make_unique<Binding>(std::move(binding)));
  needle->bindings.push_back(bindings_.back().get());
  return bindings_.back().get();
}

Applied BindingSet::apply(const Binding* bound, bool verified_tls, std::string_view target, RequestHead& head) const {
  if (bindings_.empty()) return {};
  if (auto found = misuse(bound, target, head)) return std::move(*found);
  if (bound == nullptr) return {};
  if (const Reason reason = check_own_values(*bound, head.headers); reason != Reason::none) return {reason, bound, {}};
  // Fails closed: without the credential the request would go out as nobody, or with the placeholder in it.
  if (!verified_tls || bound->secret.empty()) return {Reason::credential_unavailable, bound, {}};
  inject(*bound, head.headers);
  return {Reason::none, bound, {}};
}

std::optional<Applied> BindingSet::misuse(const Binding* bound, std::string_view target,
                                          const RequestHead& head) const {
  const auto found = [](const Binding* binding, std::string place) {
    return Applied{Reason::placeholder_misuse, binding, std::move(place)};
  };
  if (const Binding* binding = find_decoded(target, nullptr)) {
    const std::string_view path = target.substr(0, target.find('?'));
    return found(binding, find_decoded(path, nullptr) != nullptr ? "path" : "query");
  }
  if (const Binding* binding = find_decoded(head.authority, nullptr)) return found(binding, "authority");
  for (const request::Header& header : head.headers) {
    if (const Binding* binding = find(header.name, nullptr)) return found(binding, "a header's name");
    const Binding* own = bound != nullptr && same_field(header.name, bound->header) ? bound : nullptr;
    if (const Binding* binding = find_in_value(header.value, own)) {
      return found(binding, "header " + std::string(header.name));
    }
  }
  return std::nullopt;
}

// The first placeholder in `text` that is not `own`'s.
const Binding* BindingSet::find(std::string_view text, const Binding* own) const {
  for (const Needle& needle : needles_) {
    for (std::size_t at = find_text(text, needle.text, 0); at != std::string_view::npos;
         at = find_text(text, needle.text, at + 1)) {
      const auto found = std::ranges::find_if(needle.bindings, [&](const Binding* binding) {
        return binding != own && text.substr(at).starts_with(binding->placeholder);
      });
      if (found != needle.bindings.end()) return *found;
    }
  }
  return nullptr;
}

const Binding* BindingSet::find_decoded(std::string_view text, const Binding* own) const {
  if (const Binding* binding = find(text, own)) return binding;
  std::string decoded;
  for (int round = 0; round < kPercentRoundsMax && contains(text, "%"); ++round) {
    decoded = percent_decoded(text);
    if (const Binding* binding = find(decoded, own)) return binding;
    text = decoded;
  }
  return nullptr;
}

const Binding* BindingSet::find_in_value(std::string_view value, const Binding* own) const {
  if (const Binding* binding = find_decoded(value, own)) return binding;
  const std::optional<std::string> basic = basic_credentials(value);
  return basic ? find_decoded(*basic, own) : nullptr;
}

bool BindingSet::holds(std::string_view value, const Binding& binding) const {
  const auto plain = [&](std::string_view text) {
    return contains(text, binding.placeholder) || contains(percent_decoded(text), binding.placeholder);
  };
  if (plain(value)) return true;
  const std::optional<std::string> basic = basic_credentials(value);
  return basic && plain(*basic);
}

Reason BindingSet::check_own_values(const Binding& bound, const HeaderList& headers) const {
  std::size_t values = 0;
  for (const request::Header& header : headers) {
    if (!same_field(header.name, bound.header)) {
      // A second key beside the bound one could be the one that counts, and the data would be in another's account.
      if (bound.foreign == Foreign::deny && !header.value.empty() && carries_credential(header.name)) {
        return Reason::foreign_credential;
      }
      continue;
    }
    ++values;
    const bool foreign = !header.value.empty() && !holds(header.value, bound);
    if (foreign && bound.foreign == Foreign::deny) return Reason::foreign_credential;
  }
  // Authorization is no list (RFC 9110 section 11.6.2): which of two a server would have taken is anybody's guess.
  return values > 1 && request::name_equals(bound.header, "Authorization") ? Reason::malformed_http : Reason::none;
}

}  // namespace sallyport::credentials
