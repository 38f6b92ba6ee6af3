#include "proxy/http1/websocket_handshake.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/random.h"

namespace sallyport::http1 {
namespace {

constexpr std::size_t kKeyBytes = 16;

std::string base64(std::span<const unsigned char> bytes) {
  std::array<unsigned char, 2 * EVP_MAX_MD_SIZE> encoded{};
  const int length = EVP_EncodeBlock(encoded.data(), bytes.data(), static_cast<int>(bytes.size()));
  return {reinterpret_cast<const char*>(encoded.data()), static_cast<std::size_t>(length)};
}

bool is_base64(char c) {
  const char lower = static_cast<char>(c | 0x20);
  return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

}  // namespace

// The bits of its last letter that stand for nothing are not looked at: it is hashed as it is written.
bool is_websocket_key(std::string_view key) {
  constexpr std::size_t kLetters = 22;
  return key.size() == kLetters + 2 && key.ends_with("==") && std::ranges::all_of(key.substr(0, kLetters), is_base64);
}

std::string websocket_accept(std::string_view key) {
  constexpr std::string_view kGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  const std::string text = std::string(key) + std::string(kGuid);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  if (EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr) != 1) return {};
  return base64(std::span(digest).first(size));
}

std::string new_websocket_key() {
  std::array<unsigned char, kKeyBytes> key{};
  return random_bytes(key) ? base64(key) : std::string();
}

}  // namespace sallyport::http1
