#include "ca/trust_environment.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace sallyport::ca {
namespace {

enum class Role : std::uint8_t {
  replaces,  // its file takes the place of the client's roots: the bundle
  adds,      // its file adds to the client's roots: the CA alone
  merges,  // replaces, and needs setting only where the user has set it: the client follows another variable otherwise
};

struct Variable {
  std::string_view name;
  Role role = Role::replaces;
  // What the client looks at when `name` is not set. Setting `name` hides these, so what the user put there moves to
  // `name`.
  std::array<std::string_view, 2> fallbacks{};
  // Names a directory that the client reads besides the file; when the user has set it, the CA alone makes the file.
  std::string_view directory{};
};

constexpr std::array kVariables = {
    Variable{"SSL_CERT_FILE", Role::replaces, {}, "SSL_CERT_DIR"},  // OpenSSL, Go, .NET, rustls-native-certs, uv
    Variable{"NIX_SSL_CERT_FILE", Role::replaces, {"SSL_CERT_FILE"}},
    Variable{"CURL_CA_BUNDLE", Role::replaces, {"SSL_CERT_FILE"}},
    Variable{"REQUESTS_CA_BUNDLE", Role::replaces, {"CURL_CA_BUNDLE"}},
    Variable{"PIP_CERT", Role::replaces, {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}},
    Variable{"AWS_CA_BUNDLE", Role::replaces, {"REQUESTS_CA_BUNDLE"}},
    Variable{"GIT_SSL_CAINFO", Role::replaces, {}, "GIT_SSL_CAPATH"},
    Variable{"CARGO_HTTP_CAINFO", Role::replaces, {"SSL_CERT_FILE"}},
    Variable{"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"},
    Variable{"PERL_LWP_SSL_CA_FILE", Role::replaces, {"HTTPS_CA_FILE", "SSL_CERT_FILE"}, "PERL_LWP_SSL_CA_PATH"},
    Variable{"HTTPLIB2_CA_CERTS"},
    Variable{"WEBSOCKET_CLIENT_CA_BUNDLE"},
    Variable{"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE"},
    Variable{"HEX_CACERTS_PATH"},
    Variable{"NODE_EXTRA_CA_CERTS", Role::adds},
    Variable{"DENO_CERT", Role::adds},
    Variable{"npm_config_cafile", Role::merges},
    Variable{"NPM_CONFIG_CAFILE", Role::merges},
    Variable{"YARN_HTTPS_CA_FILE_PATH", Role::merges},
    Variable{"BUNDLE_SSL_CA_CERT", Role::merges},
    Variable{"HTTPS_CA_FILE", Role::merges},
};

constexpr std::string_view kJavaTrustStore = "-Djavax.net.ssl.trustStore=";
constexpr std::array<std::string_view, 3> kJavaOptions = {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"};

class Builder {
 public:
  Builder(const TrustPaths& paths, const char* const* environment) : paths_(paths) {
    for (; environment != nullptr && *environment != nullptr; ++environment) {
      const std::string_view entry(*environment);
      const std::size_t equals = entry.find('=');
      if (equals == std::string_view::npos || equals + 1 == entry.size()) continue;
      users_.emplace(entry.substr(0, equals), entry.substr(equals + 1));  // the first one counts, as for getenv
    }
  }

  TrustEnvironment build() {
    for (const Variable& variable : kVariables) add(variable);
    add_java();
    if (!paths_.php_ini_directory.empty()) add_php();
    return std::move(result_);
  }

 private:
  std::string_view user(std::string_view name) const {
    const auto found = name.empty() ? users_.end() : users_.find(name);
    return found == users_.end() ? std::string_view() : found->second;
  }

  void set(std::string_view name, std::string value) { result_.variables.emplace_back(name, std::move(value)); }

  void merge(std::string_view name, std::string_view path) {
    auto& merges = result_.merges;
    auto same = std::ranges::find(merges, path, &TrustMerge::user_path);
    if (same == merges.end()) {
      const std::string file = paths_.merge_directory + "/user-" + std::to_string(merges.size() + 1) + ".pem";
      same = merges.insert(merges.end(), {std::string(path), file, {}});
    }
    same->variables.emplace_back(name);
  }

  void add(const Variable& variable) {
    const auto falls_back = [&](std::string_view name) {
      return std::ranges::find(variable.fallbacks, name) != variable.fallbacks.end();
    };
    if (const std::string_view own = user(variable.name); !own.empty()) return merge(variable.name, own);
    if (variable.role == Role::merges) return;
    if (variable.role == Role::adds) return set(variable.name, paths_.ca);
    // Left alone it follows SSL_CERT_FILE and the user's SSL_CERT_DIR; set, it would hide the directory.
    if (falls_back("SSL_CERT_FILE") && !user("SSL_CERT_DIR").empty()) return;
    for (const std::string_view fallback : variable.fallbacks) {
      if (const std::string_view path = user(fallback); !path.empty()) return merge(variable.name, path);
    }
    set(variable.name, user(variable.directory).empty() ? paths_.bundle : paths_.ca);
  }

  // Only the store is named, neither its type nor a password (it needs none): both would also apply to a store that the
  // command's own arguments name.
  void add_java() {
    for (const std::string_view name : kJavaOptions) {
      if (user(name).find(kJavaTrustStore) == std::string_view::npos) continue;
      result_.kept.emplace_back(name);
      return;
    }
    std::string option = std::string(kJavaTrustStore) + paths_.java_store;
    if (option.find(' ') != std::string::npos) option = '"' + option + '"';
    const std::string_view before = user(kJavaOptions[0]);
    set(kJavaOptions[0], before.empty() ? option : std::string(before) + ' ' + option);
  }

  // An empty element stands for the directory that PHP was built with.
  void add_php() { set("PHP_INI_SCAN_DIR", std::string(user("PHP_INI_SCAN_DIR")) + ':' + paths_.php_ini_directory); }

  const TrustPaths& paths_;
  std::unordered_map<std::string_view, std::string_view> users_;
  TrustEnvironment result_;
};

}  // namespace

TrustEnvironment trust_environment(const TrustPaths& paths, const char* const* environment) {
  return Builder(paths, environment).build();
}

std::string php_ini(const std::string& bundle_path) {
  return "curl.cainfo = \"" + bundle_path + "\"\nopenssl.cafile = \"" + bundle_path + "\"\n";
}

}  // namespace sallyport::ca
