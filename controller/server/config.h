#pragma once
// The controller's configuration: a file (controller/api/config.proto), and flags that go before what it says.

#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "controller/admin/admin_api.h"
#include "controller/api/config.pb.h"
#include "policy-engine/document/load.h"

namespace sallyport::controller {

struct Config {
  std::string data;
  std::string store;      // a Redis's URL; empty: a database in `data`
  std::string advertise;  // the host by which others of that Redis reach this one; empty: the first name
  std::vector<std::string> listen = {"127.0.0.1:7443"}, admin_listen = {"127.0.0.1:7444"}, metrics_listen;
  std::size_t threads = 1;
  struct AdministratorFile {
    std::string name;
    Role role = Role::viewer;
    std::string token_file;
  };
  std::vector<AdministratorFile> administrators;
  std::string certificate_file, key_file;  // empty: of its own CA
  std::string peer_ca_file;                // what others of the Redis chain to, where it is not that; empty: the roots
  std::vector<std::string> names;          // besides this machine itself
  std::chrono::hours retention{30 * 24};
  std::optional<TokenReviewOptions> kubernetes;  // nothing: service accounts are not believed
  std::uint64_t store_bytes_max = limits::kStoreBytesMax;
};

struct ConfigLoad {
  Config config;
  std::vector<document::Diagnostic> diagnostics;
  bool good = false;
};
// Errors: what message_reader.h refuses, and values that cannot be, each with its place.
ConfigLoad load_config(std::string_view yaml, const std::string& file);

}  // namespace sallyport::controller
