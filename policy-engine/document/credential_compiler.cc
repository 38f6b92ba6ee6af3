#include "policy-engine/document/credential_compiler.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "base/hex.h"
#include "base/random.h"
#include "policy-engine/document/names.h"

namespace sallyport::document {

namespace {

namespace api = sallyport::policy::v1alpha1;

// Fields that the guard writes itself or that belong to one connection (RFC 9110 section 7.6.1): a secret there would
// be lost, or would change what the message means.
constexpr std::array<std::string_view, 13> kReservedHeaders = {
    "host", "content-length", "transfer-encoding", "connection", "keep-alive",
    "te",   "trailer",        "upgrade",           "expect",     "proxy-connection",
    "via",  "date",           "sallyport-denied"};

bool is_reserved(std::string_view header) {
  return std::ranges::any_of(kReservedHeaders,
                             [&](std::string_view reserved) { return request::name_equals(header, reserved); });
}

// 128 random bits: nobody guesses it, and nothing else looks like it. Empty if the machine has no randomness to give.
std::string random_placeholder() {
  std::array<unsigned char, 16> bytes{};
  if (!random_bytes(bytes)) return {};
  return "sallyport-placeholder-" + to_hex(bytes);
}

class CredentialCompiler {
 public:
  CredentialCompiler(const api::Credential& source, const Places& places, Diagnostics& diagnostics)
      : source_(source), places_(places), diagnostics_(diagnostics) {}

  std::optional<credentials::Binding> compile(const SecretSources& secrets, std::string_view kept_placeholder) {
    out_.foreign = source_.foreign() == api::FOREIGN_DENY ? credentials::Foreign::deny : credentials::Foreign::replace;
    compile_name();
    compile_injection();
    compile_placeholder(kept_placeholder);
    compile_secret(secrets);
    if (!good_) return std::nullopt;
    return std::move(out_);
  }

 private:
  void error(Place place, std::string message, std::string hint = {}) {
    good_ = false;
    diagnostics_.error(place, std::move(message), std::move(hint));
  }

  void compile_name() {
    out_.name = source_.name();
    if (is_label(out_.name)) return;
    error(places_.of(source_, api::Credential::kNameFieldNumber), "the name " + quoted(out_.name) + " is not valid",
          "up to 63 of a-z, 0-9, '.', '_' and '-', starting and ending with a letter or digit");
  }

  void compile_injection() {
    const api::HeaderInjection& inject = source_.inject();
    const Place header_place = places_.of(inject, api::HeaderInjection::kHeaderFieldNumber);
    out_.header = inject.header();
    if (!is_token(out_.header)) {
      error(header_place, "the header " + quoted(out_.header) + " is not valid", "a name such as Authorization");
    } else if (is_reserved(out_.header)) {
      error(header_place, "the header " + quoted(out_.header) + " cannot carry a credential",
            "it says how the message travels, and the guard writes it");
    }
    split_format(inject.has_format() ? inject.format() : "{}",
                 places_.of(inject, api::HeaderInjection::kFormatFieldNumber));
  }

  void split_format(std::string_view format, Place place) {
    constexpr std::string_view kSlot = "{}";
    const std::size_t slot = format.find(kSlot);
    if (slot == std::string_view::npos || format.find(kSlot, slot + 1) != std::string_view::npos) {
      return error(place, "the format " + quoted(format) + " must have {} exactly once",
                   "the secret goes there, as in \"Bearer {}\"");
    }
    const bool printable = std::ranges::all_of(format, [](char c) { return c >= ' ' && c <= '~'; });
    if (!printable || format.starts_with(' ') || format.ends_with(' ')) {
      return error(place, "the format " + quoted(format) + " is not a header value",
                   "printable ASCII without a space at either end");
    }
    out_.prefix = format.substr(0, slot);
    out_.suffix = format.substr(slot + kSlot.size());
  }

  void compile_placeholder(std::string_view kept) {
    const api::Placeholder& placeholder = source_.placeholder();
    if (placeholder.has_env()) {
      out_.placeholder_env = placeholder.env();
      if (!is_variable(out_.placeholder_env)) {
        error(places_.of(placeholder, api::Placeholder::kEnvFieldNumber),
              quoted(out_.placeholder_env) + " is not the name of a variable", "letters, digits and '_'");
      }
    }
    if (placeholder.has_value()) {
      out_.placeholder = placeholder.value();
    } else {
      out_.placeholder = kept.empty() ? random_placeholder() : std::string(kept);
      if (out_.placeholder.empty()) error(places_.of(source_), "no random bytes for a placeholder");
    }
  }

  void compile_secret(const SecretSources& secrets) {
    const api::SecretSource& source = source_.secret();
    const Place place = places_.of(source, static_cast<int>(source.source_case()));
    auto read = read_source(source, place, good_ ? secrets : SecretSources{}, diagnostics_);
    if (!read) return;
    if (!*read) return unusable(place, "could not be read: " + read->error().text);
    auto& secret = *read;
    if (secret->empty()) return unusable(place, "is empty");
    const bool sendable = std::ranges::none_of(
        secret->view(), [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F; });
    if (!sendable) return unusable(place, "has a line break or control character, which no header can carry");
    out_.secret = std::move(*secret);
  }

  // The policy can still be used: only requests to the endpoints of this credential are refused.
  void unusable(Place place, const std::string& why) {
    diagnostics_.warning(place, "the secret of credential " + quoted(out_.name) + " " + why,
                         "requests that need it are refused until it can be read");
  }

  const api::Credential& source_;
  const Places& places_;
  Diagnostics& diagnostics_;
  credentials::Binding out_;
  bool good_ = true;
};

}  // namespace

std::optional<credentials::Binding> compile_credential(const api::Credential& source, const Places& places,
                                                       Diagnostics& diagnostics, const SecretSources& secrets,
                                                       std::string_view kept_placeholder) {
  return CredentialCompiler(source, places, diagnostics).compile(secrets, kept_placeholder);
}

}  // namespace sallyport::document
