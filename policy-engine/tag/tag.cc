#include "policy-engine/tag/tag.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/limits.h"
#include "policy-engine/tag/base64url.h"

namespace sallyport::tag {
namespace {

constexpr std::string_view kVersion = "v1.";
constexpr std::size_t kMacBytes = 32, kIssuedBytes = 8;
constexpr std::string_view kKeyIdLabel = "sallyport-tag key id", kAnswersLabel = "sallyport-tag answers";

using Mac = std::array<unsigned char, kMacBytes>;

// Nothing when OpenSSL fails, which is out of memory: the caller fails closed.
std::optional<Mac> mac_of(std::string_view key, std::string_view text) {
  Mac mac{};
  unsigned int size = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes, text.size(), mac.data(), &size) == nullptr ||
      size != mac.size()) {
    return std::nullopt;
  }
  return mac;
}

bool is_word(std::string_view text, std::string_view more) {
  const auto edge = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && edge(text.front()) && edge(text.back()) &&
         std::ranges::all_of(text, [&](char c) { return edge(c) || more.find(c) != std::string_view::npos; });
}

bool is_application(std::string_view name) {
  return name.size() <= limits::kTagApplicationBytesMax && is_word(name, "._-");
}
bool is_function(std::string_view name) { return name.size() <= limits::kTagFunctionBytesMax && is_word(name, "-."); }

std::string_view text_of(std::span<const unsigned char> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string payload_of(const Tag& tag, const KeyId& key) {
  std::string out(text_of(key));
  out += text_of(tag.guard);
  out += text_of(tag.request);
  const auto seconds = static_cast<std::uint64_t>(tag.issued.time_since_epoch().count());
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>((seconds >> shift) & 0xFF);
  for (const std::string* name : {&tag.application, &tag.function}) {
    out += static_cast<char>(name->size());
    out += *name;
  }
  return out;
}

// Takes a payload apart from its front; whatever is missing makes it bad.
class Payload {
 public:
  explicit Payload(std::string_view bytes) : rest_(bytes) {}

  std::string_view take(std::size_t count) {
    if (count > rest_.size()) {
      good_ = false;
      return {};
    }
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  template <std::size_t N>
  void take_into(std::array<unsigned char, N>& out) {
    const std::string_view taken = take(N);
    if (good_) std::copy(taken.begin(), taken.end(), out.begin());
  }
  std::string_view take_name() {
    const std::string_view size = take(1);
    return good_ ? take(static_cast<unsigned char>(size.front())) : std::string_view();
  }
  bool complete() const { return good_ && rest_.empty(); }
  bool good() const { return good_; }

 private:
  std::string_view rest_;
  bool good_ = true;
};

std::unexpected<Error> refuse(ErrorKind kind, std::string text) {
  return fail(ErrorSource::downstream, kind, "the tag " + std::move(text));
}

Result<Tag> read_payload(std::string_view bytes) {
  Payload payload(bytes);
  Tag tag;
  payload.take(KeyId{}.size());
  payload.take_into(tag.guard);
  payload.take_into(tag.request);
  std::uint64_t seconds = 0;
  for (const char c : payload.take(kIssuedBytes)) seconds = (seconds << 8) | static_cast<unsigned char>(c);
  tag.application = payload.take_name();
  tag.function = payload.take_name();
  // Beyond this no clock's seconds are; within, no sum below overflows.
  constexpr std::uint64_t kSecondsMax = std::uint64_t{1} << 40;
  const bool good =
      payload.complete() && seconds < kSecondsMax && is_application(tag.application) && is_function(tag.function);
  if (!good) return refuse(ErrorKind::malformed, "has a payload that no guard makes");
  tag.issued = std::chrono::sys_seconds(std::chrono::seconds(seconds));
  return tag;
}

// The texts of a tag, and what they stand for.
struct Parts {
  std::string_view signed_text;
  std::string payload, mac;
};

std::optional<Parts> take_apart(std::string_view text) {
  if (text.size() > limits::kTagBytesMax || !text.starts_with(kVersion)) return std::nullopt;
  const std::size_t dot = text.find('.', kVersion.size());
  if (dot == std::string_view::npos) return std::nullopt;
  auto payload = from_base64url(text.substr(kVersion.size(), dot - kVersion.size()));
  auto mac = from_base64url(text.substr(dot + 1));
  if (!payload || !mac || mac->size() != kMacBytes || payload->size() < KeyId{}.size()) return std::nullopt;
  return Parts{text.substr(0, dot), std::move(*payload), std::move(*mac)};
}

}  // namespace

Result<Key> Key::create(std::string application, std::string_view bytes) {
  if (bytes.size() != kKeyBytes) {
    return fail(ErrorSource::policy, ErrorKind::invalid,
                "the key of an application has " + std::to_string(kKeyBytes) + " random bytes");
  }
  if (!is_application(application)) {
    return fail(ErrorSource::policy, ErrorKind::invalid, "'" + application + "' is not the name of an application");
  }
  auto secret = credentials::Secret::copy_of(bytes);
  if (!secret) return std::unexpected(secret.error());
  const auto id = mac_of(bytes, kKeyIdLabel);
  if (!id) return fail(ErrorSource::internal, ErrorKind::unavailable, "no memory for a key");
  Key key;
  key.application_ = std::move(application);
  std::copy_n(id->begin(), key.id_.size(), key.id_.begin());
  key.secret_ = std::move(*secret);
  return key;
}

Result<Key> Key::for_answers() const {
  auto bytes = mac_of(secret_.view(), kAnswersLabel);
  if (!bytes) return fail(ErrorSource::internal, ErrorKind::unavailable, "no memory for a key");
  Result<Key> key = create(application_, text_of(*bytes));
  OPENSSL_cleanse(bytes->data(), bytes->size());
  return key;
}

Result<std::string> make(const Tag& tag, const Key& key) {
  if (tag.application != key.application() || !is_function(tag.function) || tag.issued.time_since_epoch().count() < 0) {
    return fail(ErrorSource::internal, ErrorKind::invalid,
                "no tag can be made for '" + tag.function + "' of '" + tag.application + "'");
  }
  std::string text(kVersion);
  text += to_base64url(payload_of(tag, key.id()));
  const auto mac = mac_of(key.secret_.view(), text);
  if (!mac) return fail(ErrorSource::internal, ErrorKind::unavailable, "no memory for a tag");
  return text + "." + to_base64url(text_of(*mac));
}

Result<Tag> verify(std::string_view text, std::span<const Key> keys, std::chrono::sys_seconds now) {
  const auto parts = take_apart(text);
  if (!parts) return refuse(ErrorKind::malformed, "is not of the form v1.PAYLOAD.MAC");
  const auto key = std::ranges::find(keys, std::string_view(parts->payload).substr(0, KeyId{}.size()),
                                     [](const Key& one) { return text_of(one.id()); });
  if (key == keys.end()) return refuse(ErrorKind::unverified, "was made with a key that is not known here");
  const auto mac = mac_of(key->secret_.view(), parts->signed_text);
  if (!mac) return refuse(ErrorKind::unavailable, "could not be verified: out of memory");
  if (CRYPTO_memcmp(mac->data(), parts->mac.data(), mac->size()) != 0) {
    return refuse(ErrorKind::unverified, "does not bear its key's MAC");
  }
  auto tag = read_payload(parts->payload);
  if (!tag) return tag;
  if (tag->application != key->application()) return refuse(ErrorKind::unverified, "is of another application");
  if (tag->issued > now + limits::kTagSkew) return refuse(ErrorKind::invalid, "was issued in the future");
  if (tag->issued + limits::kTagLifetime < now) return refuse(ErrorKind::timeout, "is too old");
  return tag;
}

}  // namespace sallyport::tag
