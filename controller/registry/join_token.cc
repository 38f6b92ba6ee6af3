#include "controller/registry/join_token.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <array>

#include "base/hex.h"
#include "base/random.h"
#include "policy-engine/tag/base64url.h"

namespace sallyport::controller {

namespace {

constexpr std::string_view kForm = "sallyport-join-v1.";
constexpr std::size_t kIdBytes = 8;
constexpr std::size_t kSecretBytes = 32;

std::array<unsigned char, 32> hash_of(std::string_view text) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> out{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data());
  return out;
}

// Between the form's two dots; empty where there is no such form.
std::string_view id_in(std::string_view text) {
  if (!text.starts_with(kForm)) return {};
  text.remove_prefix(kForm.size());
  const std::size_t dot = text.find('.');
  return dot == std::string_view::npos ? std::string_view() : text.substr(0, dot);
}

}  // namespace

Result<MadeToken> make_join_token(std::string application, std::string function, Time now, std::optional<Time> ends) {
  std::array<unsigned char, kIdBytes> id{};
  std::array<unsigned char, kSecretBytes> secret{};
  if (!random_bytes(id) || !random_bytes(secret)) {
    return fail(ErrorSource::internal, ErrorKind::unavailable, "the machine has no randomness");
  }
  MadeToken out;
  out.row.id = to_hex(id);
  out.row.application = std::move(application);
  out.row.function = std::move(function);
  out.row.made = now;
  out.row.ends = ends;
  out.text = std::string(kForm) + out.row.id + "." +
             tag::to_base64url({reinterpret_cast<const char*>(secret.data()), secret.size()});
  OPENSSL_cleanse(secret.data(), secret.size());
  out.row.hash = hash_of(out.text);
  return out;
}

void JoinTokens::put(const JoinToken& token) {
  const std::scoped_lock guarded(mutex_);
  by_id_[token.id] = token;
}

void JoinTokens::forget_application(std::string_view application) {
  const std::scoped_lock guarded(mutex_);
  std::erase_if(by_id_, [&](const auto& each) { return each.second.application == application; });
}

Result<std::string> JoinTokens::check(std::string_view text, std::string_view application, std::string_view function,
                                      Time now) const {
  const std::array<unsigned char, 32> shown = hash_of(text);
  JoinToken known;
  bool good = true;
  {
    const std::scoped_lock guarded(mutex_);
    const auto found = by_id_.find(std::string(id_in(text)));
    if (found != by_id_.end()) known = found->second;
    good = found != by_id_.end();
  }
  good &= CRYPTO_memcmp(shown.data(), known.hash.data(), shown.size()) == 0;
  good &= known.application == application && (known.function.empty() || known.function == function);
  good &= !known.revoked && (!known.ends || now < *known.ends);
  if (good) return "join token " + known.id;
  return fail(ErrorSource::controller, ErrorKind::refused,
              "the join token is not one of this function: it is unknown, was revoked, or has ended");
}

}  // namespace sallyport::controller
