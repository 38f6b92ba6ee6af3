#include "controller/server/data_folder.h"

#include <openssl/crypto.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>

#include "base/hex.h"
#include "base/limits.h"
#include "base/random.h"
#include "base/read_file.h"
#include "ca/authority.h"

namespace sallyport::controller {

namespace {

bool there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

Result<ca::Authority> load_authority(const std::string& certificate_file, const std::string& key_file,
                                     ca::TimePoint now) {
  Result<std::string> certificate = read_file(certificate_file, limits::kTrustBundleBytesMax);
  if (!certificate) return std::unexpected(certificate.error());
  Result<std::string> key = read_file(key_file, limits::kTrustBundleBytesMax);
  if (!key) return std::unexpected(key.error());
  auto out = ca::Authority::load(nullptr, {certificate_file, *certificate}, {key_file, *key}, now);
  OPENSSL_cleanse(key->data(), key->size());
  return out;
}

Result<ca::Authority> make_authority(const std::string& certificate_file, const std::string& key_file,
                                     ca::TimePoint now) {
  auto made = ca::Authority::create_root(
      nullptr, {.name = "Sallyport controller", .lifetime = limits::kControllerRootLifetime}, now);
  if (!made) return made;
  auto key = ca::private_key_pem(made->key());
  if (!key) return std::unexpected(key.error());
  if (auto written = write_file(key_file, ca::bio_view(key->get()), 0600); !written) {
    return std::unexpected(written.error());
  }
  if (auto written = write_file(certificate_file, made->certificate_pem()); !written) {
    return std::unexpected(written.error());
  }
  return made;
}

}  // namespace

Result<OwnIdentity> own_identity(const std::string& folder, const std::vector<std::string>& names) {
  const std::string certificate_file = folder + "/ca.pem", key_file = folder + "/ca.key";
  const ca::TimePoint now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  const bool made = there(certificate_file) || there(key_file);
  auto authority =
      made ? load_authority(certificate_file, key_file, now) : make_authority(certificate_file, key_file, now);
  if (!authority) return std::unexpected(authority.error());
  auto key = ca::make_p256_key(nullptr);
  if (!key) return std::unexpected(key.error());
  // Who administers is on this machine unless adminListen says otherwise.
  std::vector<std::string_view> hosts{"localhost", "127.0.0.1", "::1"};
  for (const std::string& name : names) {
    if (std::ranges::find(hosts, name) == hosts.end()) hosts.push_back(name);
  }
  auto leaf = authority->issue_leaf(hosts, key->get(), limits::kControllerLeafLifetime, now);
  if (!leaf) return std::unexpected(leaf.error());
  auto chain = ca::chain_pem(leaf->get(), authority->chain());
  auto key_pem = ca::private_key_pem(key->get());
  if (!chain) return std::unexpected(chain.error());
  if (!key_pem) return std::unexpected(key_pem.error());
  return OwnIdentity{*chain, std::string(ca::bio_view(key_pem->get())), certificate_file};
}

Result<std::string> own_admin_token(const std::string& folder) {
  const std::string file = folder + "/admin-token";
  if (there(file)) {
    auto read = read_file(file, limits::kSecretBytesMax);
    if (read && read->ends_with('\n')) read->pop_back();
    return read;
  }
  std::array<unsigned char, 32> bytes{};
  if (!random_bytes(bytes)) {
    return fail(ErrorSource::internal, ErrorKind::unavailable, "the machine has no randomness");
  }
  std::string token = to_hex(bytes);
  if (auto written = write_file(file, token + "\n", 0600); !written) return std::unexpected(written.error());
  return token;
}

}  // namespace sallyport::controller
