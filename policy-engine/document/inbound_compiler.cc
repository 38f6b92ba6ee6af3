#include "policy-engine/document/inbound_compiler.h"

#include <openssl/crypto.h>

#include <array>
#include <charconv>
#include <span>
#include <string>
#include <utility>

#include "base/limits.h"
#include "policy-engine/document/names.h"
#include "policy-engine/request/target.h"

namespace sallyport::document {

namespace {

namespace api = sallyport::policy::v1alpha1;

Inbound::Probe compile_probe(const api::Probe& source, const Places& places, Diagnostics& diagnostics) {
  Inbound::Probe probe;
  const Place at = places.of(source, api::Probe::kPathFieldNumber);
  const auto canonical = request::canonical_target(source.path(), {});
  if (!source.path().starts_with('/') || !canonical) {
    diagnostics.error(at, "the probe's path " + quoted(source.path()) + " is not valid",
                      canonical ? "it must begin with \"/\"" : canonical.error().text);
  } else if (canonical->text != source.path()) {
    diagnostics.error(at, "the probe's path " + quoted(source.path()) + " is not canonical, and no request has it",
                      "write it as " + quoted(canonical->text));
  } else if (canonical->path_size != canonical->text.size()) {
    diagnostics.error(at, "the probe's path " + quoted(source.path()) + " has a query",
                      "only paths are compared: leave it out");
  }
  probe.path = source.path();
  for (int i = 0; i < source.methods_size(); ++i) {
    if (!is_policy_method(source.methods(i))) {
      diagnostics.error(places.of(source, api::Probe::kMethodsFieldNumber, i),
                        "the probe's method " + quoted(source.methods(i)) + " is not valid", "methods: [GET], say");
    }
    probe.methods.push_back(source.methods(i));
  }
  return probe;
}

constexpr std::size_t kKeyDigits = 2 * tag::kKeyBytes;

// False for other texts than so many digits.
bool read_digits(std::string_view digits, std::span<char, tag::kKeyBytes> out) {
  if (digits.size() != kKeyDigits) return false;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const char* at = digits.data() + 2 * i;
    unsigned char byte = 0;
    const auto [end, error] = std::from_chars(at, at + 2, byte, 16);
    if (error != std::errc() || end != at + 2) return false;
    out[i] = static_cast<char>(byte);
  }
  return true;
}

// ErrorKind::invalid: what is wrong with the key.
Result<void> add_key(std::string_view bytes, Tags& tags) {
  auto requests = tag::Key::create(tags.application, bytes);
  if (!requests) return std::unexpected(requests.error());
  auto answers = requests->for_answers();
  if (!answers) return std::unexpected(answers.error());
  tags.requests.push_back(std::move(*requests));
  tags.answers.push_back(std::move(*answers));
  return {};
}

// The same of digits, as a policy's key has them; the text says what is wrong with it.
Result<void> add_written_key(const Result<credentials::Secret>& secret, Tags& tags) {
  const auto unusable = [](std::string why) { return fail(ErrorSource::policy, ErrorKind::invalid, std::move(why)); };
  if (!secret) return unusable("could not be read: " + secret.error().text);
  std::array<char, tag::kKeyBytes> bytes{};
  const bool whole = read_digits(secret->view(), bytes);
  Result<void> added;
  if (whole) added = add_key({bytes.data(), bytes.size()}, tags);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  if (!whole) return unusable("is not " + std::to_string(kKeyDigits) + " hexadecimal digits");
  if (!added) return unusable("can't be used: " + added.error().text);
  return {};
}

// Without a controller there must be one; a policy that is only checked may be meant for a controller.
void miss_key(const api::Tags& source, const Places& places, Diagnostics& diagnostics, const SecretSources& secrets) {
  constexpr std::string_view kRemedy = "key: {file: PATH}, of 64 hexadecimal digits; only a controller has keys itself";
  const Place place = places.of(source);
  if (secrets.reads() || secrets.controller) {
    diagnostics.error(place, "a tags rule has no 'key'", kRemedy);
  } else {
    diagnostics.warning(place, "a tags rule has no 'key'", kRemedy);
  }
}

void compile_callers(const api::Inbound& source, const Places& places, Diagnostics& diagnostics, Inbound& made) {
  constexpr int kField = api::Inbound::kCallersFieldNumber;
  if (static_cast<std::size_t>(source.callers_size()) > limits::kInboundCallersMax) {
    return diagnostics.error(places.of(source, kField),
                             "there are more than " + std::to_string(limits::kInboundCallersMax) + " callers");
  }
  for (int i = 0; i < source.callers_size(); ++i) {
    if (!is_subdomain(source.callers(i))) {
      diagnostics.error(places.of(source, kField, i), "the caller " + quoted(source.callers(i)) + " is not valid",
                        "the name of a function, as its policy has it");
    }
    made.callers.push_back(source.callers(i));
  }
  made.external = source.external();
  if (source.has_external() && source.callers_size() == 0) {
    diagnostics.error(places.of(source, api::Inbound::kExternalFieldNumber), "'external' says nothing without callers",
                      "remove it: whoever reaches the function may send it messages");
  }
}

}  // namespace

std::unique_ptr<Tags> given_tags(const Application& application, Place place, Diagnostics& diagnostics) {
  auto made = std::make_unique<Tags>();
  made->application = application.name;
  for (const credentials::Secret& key : application.keys) {
    const Result<void> added = add_key(key.view(), *made);
    if (!added) {
      diagnostics.error(
          place, "a key of the application " + quoted(application.name) + " can't be used: " + added.error().text);
    }
  }
  return made;
}

std::unique_ptr<const Tags> compile_tags(const api::Tags& source, const Places& places, Diagnostics& diagnostics,
                                         const SecretSources& secrets, const Application* application) {
  auto made = std::make_unique<Tags>();
  made->application = source.application();
  const Place named = places.of(source, api::Tags::kApplicationFieldNumber);
  if (!is_label(source.application())) {
    diagnostics.error(named, "the application " + quoted(source.application()) + " is not valid",
                      "up to 63 of a-z, 0-9, '.', '_' and '-', starting and ending with a letter or digit");
    return made;
  }
  if (application != nullptr && application->name != source.application()) {
    diagnostics.error(named, "the policy is for the application " + quoted(source.application()),
                      "the guard is a member of " + quoted(application->name));
    return made;
  }
  if (places.broken(source.key())) return made;
  if (application != nullptr && !application->keys.empty()) made = given_tags(*application, named, diagnostics);
  made->cloud_events = source.cloud_events();
  if (application != nullptr && !application->keys.empty()) return made;
  if (!source.has_key()) {
    miss_key(source, places, diagnostics, secrets);
    return made;
  }
  const api::SecretSource& from = source.key();
  const Place place = places.of(from, static_cast<int>(from.source_case()));
  const auto read = read_source(from, place, secrets, diagnostics);
  if (!read) return made;
  if (const Result<void> added = add_written_key(*read, *made); !added) {
    diagnostics.warning(place, "the key of application " + quoted(source.application()) + " " + added.error().text,
                        "requests to its functions and their messages are refused until it can be read");
  }
  return made;
}

Inbound compile_inbound(const api::Inbound& source, const Places& places, Diagnostics& diagnostics) {
  Inbound made;
  made.fresh_traces_sampled = source.fresh_trace() != api::FRESH_TRACE_UNSAMPLED;
  if (static_cast<std::size_t>(source.probes_size()) > limits::kInboundProbesMax) {
    diagnostics.error(places.of(source, api::Inbound::kProbesFieldNumber),
                      "there are more than " + std::to_string(limits::kInboundProbesMax) + " probes");
    return made;
  }
  for (const api::Probe& probe : source.probes()) {
    if (!places.broken(probe)) made.probes.push_back(compile_probe(probe, places, diagnostics));
  }
  compile_callers(source, places, diagnostics, made);
  return made;
}

}  // namespace sallyport::document
