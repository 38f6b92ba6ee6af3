#include "controller/store/sealing.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/random.h"
#include "base/read_file.h"
#include "base/unique_fd.h"

namespace sallyport::controller {

namespace {

constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kNonceBytes = 12;
constexpr std::size_t kTagBytes = 16;

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }
unsigned char* bytes_of(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }

std::unexpected<Error> unusable(const std::string& path, std::string_view why) {
  return fail(ErrorSource::controller, ErrorKind::invalid, path + ": " + std::string(why));
}

Result<void> make_key(const std::string& path) {
  std::array<unsigned char, kKeyBytes> key{};
  if (!random_bytes(key)) return fail(ErrorSource::internal, ErrorKind::unavailable, "the machine has no randomness");
  auto written = write_file(path, {reinterpret_cast<const char*>(key.data()), key.size()}, 0600);
  OPENSSL_cleanse(key.data(), key.size());
  return written;
}

// One pass of the cipher; `in` may not be longer than an int, which no secret is.
bool pass(EVP_CIPHER_CTX* context, std::string_view about, std::string_view in, std::string& out) {
  int size = 0, rest = 0;
  if (EVP_CipherUpdate(context, nullptr, &size, bytes_of(about), static_cast<int>(about.size())) != 1) return false;
  out.resize(in.size());
  if (EVP_CipherUpdate(context, bytes_of(out), &size, bytes_of(in), static_cast<int>(in.size())) != 1) return false;
  return EVP_CipherFinal_ex(context, bytes_of(out) + size, &rest) == 1;
}

}  // namespace

Result<SealingKey> SealingKey::of_file(const std::string& path) {
  struct stat status{};
  if (lstat(path.c_str(), &status) != 0) {
    if (errno != ENOENT) return unusable(path, std::strerror(errno));
    if (auto made = make_key(path); !made) return std::unexpected(made.error());
    if (lstat(path.c_str(), &status) != 0) return unusable(path, std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode)) return unusable(path, "is no file; remove it, or put the key back");
  if ((status.st_mode & 0077U) != 0) return unusable(path, "others may read it; run chmod 600 on it");
  auto bytes = read_file(path, kKeyBytes);
  if (!bytes || bytes->size() != kKeyBytes) {
    return unusable(path, "is no key of 32 bytes; put it back: without it no stored secret can be read");
  }
  auto key = credentials::Secret::copy_of(*bytes);
  OPENSSL_cleanse(bytes->data(), bytes->size());
  if (!key) return std::unexpected(key.error());
  return SealingKey(std::move(*key));
}

Result<std::string> SealingKey::seal(std::string_view value, std::string_view about) const {
  std::string nonce(kNonceBytes, '\0'), sealed, mac(kTagBytes, '\0');
  if (!random_bytes({bytes_of(nonce), nonce.size()})) {
    return fail(ErrorSource::internal, ErrorKind::unavailable, "the machine has no randomness");
  }
  const Context context(EVP_CIPHER_CTX_new());
  const bool done =
      context &&
      EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, bytes_of(key_.view()), bytes_of(nonce)) == 1 &&
      pass(context.get(), about, value, sealed) &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, mac.data()) == 1;
  if (!done) return fail(ErrorSource::internal, ErrorKind::unavailable, "a secret could not be sealed");
  return nonce + mac + sealed;
}

Result<std::string> SealingKey::open(std::string_view sealed, std::string_view about) const {
  const auto wrong = [&] {
    return fail(ErrorSource::controller, ErrorKind::unverified,
                std::string(about) + " cannot be read: it was sealed with another key, or is damaged; store it again");
  };
  if (sealed.size() < kNonceBytes + kTagBytes) return wrong();
  const std::string_view nonce = sealed.substr(0, kNonceBytes);
  std::string mac(sealed.substr(kNonceBytes, kTagBytes));
  std::string value;
  const Context context(EVP_CIPHER_CTX_new());
  const bool done =
      context &&
      EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, bytes_of(key_.view()), bytes_of(nonce)) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, mac.data()) == 1 &&
      pass(context.get(), about, sealed.substr(kNonceBytes + kTagBytes), value);
  if (done) return value;
  OPENSSL_cleanse(value.data(), value.size());
  return wrong();
}

}  // namespace sallyport::controller
