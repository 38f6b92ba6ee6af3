// Tags: the first byte says whether the rest is the text of one, or a payload that a guard with the key has signed.

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "policy-engine/tag/base64url.h"
#include "policy-engine/tag/tag.h"
#include "tests/fuzz/require.h"

namespace sallyport::tag {
namespace {

using fuzz::require;

const std::string kBytes(kKeyBytes, 'k');
constexpr std::chrono::sys_seconds kNow{std::chrono::seconds(1'800'000'000)};

const Key& key() {
  static const Key one = std::move(*Key::create("shop", kBytes));
  return one;
}

std::string signed_text(std::string_view payload) {
  std::string text = "v1." + to_base64url(payload);
  std::array<unsigned char, EVP_MAX_MD_SIZE> mac{};
  unsigned int size = 0;
  HMAC(EVP_sha256(), kBytes.data(), static_cast<int>(kBytes.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac.data(), &size);
  return text + "." + to_base64url({reinterpret_cast<const char*>(mac.data()), size});
}

// True if it was taken.
bool check_text(std::string_view text) {
  const std::span<const Key> keys(&key(), 1);
  const auto tag = verify(text, keys, kNow);
  if (!tag) return false;
  const auto again = make(*tag, key());
  require(again && *again == text, "a tag has one text");
  require(text.size() <= limits::kTagBytesMax, "a tag is bounded");
  require(!verify(text, keys, tag->issued + limits::kTagLifetime + std::chrono::seconds(1)), "a tag grows old");
  require(!verify(text, keys, tag->issued - limits::kTagSkew - std::chrono::seconds(1)), "a tag is not of the future");
  require(!verify(text, {}, kNow), "a tag needs its key");
  return true;
}

void check(std::string_view input) {
  if (input.empty()) return;
  const std::string_view rest = input.substr(1);
  if ((input.front() & 1) == 0) {
    check_text(rest);
    return;
  }
  // With the key's id in front, or no payload would be looked at.
  const auto* id = reinterpret_cast<const char*>(key().id().data());
  std::string text = signed_text(std::string(id, key().id().size()) + std::string(rest));
  if (!check_text(text) || rest.empty()) return;
  const auto at = static_cast<std::size_t>(static_cast<unsigned char>(rest.back())) % text.size();
  text[at] = text[at] == 'A' ? 'B' : 'A';
  require(!verify(text, std::span(&key(), 1), kNow), "no byte of a tag can be changed");
}

}  // namespace
}  // namespace sallyport::tag

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sallyport::tag::check({reinterpret_cast<const char*>(data), size});
  return 0;
}
