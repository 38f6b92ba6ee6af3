#include "policy-engine/credentials/secret.h"

#include <openssl/crypto.h>
#include <openssl/err.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/limits.h"

namespace sallyport::credentials {
namespace {

bool g_locked = false;

// Falls back to the ordinary heap when the locked one is full: a secret that is only wiped is better than a function
// that does not start.
char* allocate(std::size_t size) {
  ERR_set_mark();
  void* memory = OPENSSL_secure_malloc(size);
  ERR_pop_to_mark();
  if (memory == nullptr) memory = OPENSSL_malloc(size);
  return static_cast<char*>(memory);
}

std::unexpected<Error> refuse(std::string_view what) {
  return fail(ErrorSource::policy, ErrorKind::invalid, std::string(what));
}

bool is_blank(char c) { return c == ' ' || c == '\t'; }

std::string_view without_line_break(std::string_view bytes) {
  if (bytes.ends_with('\n')) bytes.remove_suffix(1);
  if (bytes.ends_with('\r')) bytes.remove_suffix(1);
  return bytes;
}

// Nothing of the secret itself is said.
std::string_view why_unfit(std::string_view bytes) {
  if (bytes.empty()) return "is empty";
  if (bytes.starts_with("\xef\xbb\xbf")) return "begins with a byte order mark; save it as plain UTF-8 without one";
  if (std::ranges::any_of(bytes, [](char c) { return c == '\r' || c == '\n'; })) {
    return "has more than one line; a secret is one line";
  }
  if (std::ranges::any_of(bytes,
                          [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; })) {
    return "has a control character in it, which no header can carry";
  }
  if (is_blank(bytes.front()) || is_blank(bytes.back())) {
    return "begins or ends with a blank, which a header would lose; remove it";
  }
  return {};
}

}  // namespace

void prepare_secure_memory() {
  if (CRYPTO_secure_malloc_initialized() == 1) return;
  constexpr std::size_t kSmallestBlockBytes = 32;
  // OpenSSL takes a block from here for each TLS connection too, as long as that lives, and fails when there is none:
  // enough for all connections of a worker and their upstreams, down to what the strictest usual limit of locked memory
  // leaves (64 KiB, shared with others; some 2,000 TLS connections then).
  for (const std::size_t size : {1'024UZ * 1024, 256UZ * 1024, 64UZ * 1024, 32UZ * 1024}) {
    g_locked = CRYPTO_secure_malloc_init(size, kSmallestBlockBytes) == 1;
    if (g_locked || CRYPTO_secure_malloc_done() != 1) return;
  }
}

bool secure_memory_locked() { return g_locked; }

Result<Secret> Secret::copy_of(std::string_view bytes) {
  if (bytes.empty()) return refuse("the secret is empty");
  if (bytes.size() > limits::kSecretBytesMax) {
    return fail(ErrorSource::policy, ErrorKind::limit,
                "the secret has more than " + std::to_string(limits::kSecretBytesMax) + " bytes");
  }
  Secret secret;
  secret.data_ = allocate(bytes.size());
  if (secret.data_ == nullptr) return fail(ErrorSource::internal, ErrorKind::unavailable, "no memory for a secret");
  secret.size_ = bytes.size();
  std::memcpy(secret.data_, bytes.data(), bytes.size());
  return secret;
}

Result<Secret> Secret::from_source(std::string_view bytes, std::string_view source) {
  bytes = without_line_break(bytes);
  if (const std::string_view why = why_unfit(bytes); !why.empty()) {
    return refuse("the secret in " + std::string(source) + " " + std::string(why));
  }
  return copy_of(bytes);
}

Secret::Secret(Secret&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this == &other) return *this;
  OPENSSL_secure_clear_free(data_, size_);
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

Secret::~Secret() { OPENSSL_secure_clear_free(data_, size_); }

}  // namespace sallyport::credentials
