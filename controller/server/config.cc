#include "controller/server/config.h"

#include <cstdlib>
#include <set>
#include <utility>

#include "base/limits.h"
#include "controller/store/redis_url.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/message_reader.h"
#include "policy-engine/document/names.h"
#include "policy-engine/document/places.h"
#include "policy-engine/document/yaml_tree.h"

namespace sallyport::controller {

namespace {

namespace api = v1alpha1;
using api::ControllerConfigSpec;
using document::quoted;

constexpr std::uint32_t kRetentionDaysMax = 3'650;
constexpr int kAdministratorsMax = 64;

class ConfigReader {
 public:
  ConfigReader(const api::ControllerConfig& document, const document::Places& places,
               document::Diagnostics& diagnostics)
      : document_(document), spec_(document.spec()), places_(places), diagnostics_(diagnostics) {}

  Config read() {
    Config out;
    check_header();
    out.data = spec_.data();
    out.store = spec_.store();
    if (spec_.has_store()) {
      const auto url = parse_redis_url(out.store);
      if (!url) check(false, ControllerConfigSpec::kStoreFieldNumber, url.error().text, "redis://HOST:PORT");
    }
    take(spec_.listen(), out.listen);
    take(spec_.admin_listen(), out.admin_listen);
    take(spec_.metrics_listen(), out.metrics_listen);
    take(spec_.names(), out.names);
    if (spec_.has_threads()) {
      check(spec_.threads() >= 1 && spec_.threads() <= limits::kLinkLoopsMax, ControllerConfigSpec::kThreadsFieldNumber,
            "the number of threads is not valid", "from 1 to " + std::to_string(limits::kLinkLoopsMax));
      out.threads = spec_.threads();
    }
    if (spec_.has_retention_days()) {
      check(spec_.retention_days() >= 1 && spec_.retention_days() <= kRetentionDaysMax,
            ControllerConfigSpec::kRetentionDaysFieldNumber, "the number of days is not valid",
            "from 1 to " + std::to_string(kRetentionDaysMax));
      out.retention = std::chrono::days(spec_.retention_days());
    }
    if (spec_.has_store_bytes_max()) {
      check(spec_.store_bytes_max() >= limits::kStoreBytesMin, ControllerConfigSpec::kStoreBytesMaxFieldNumber,
            "the store's size is not valid", "at least " + std::to_string(limits::kStoreBytesMin));
      out.store_bytes_max = spec_.store_bytes_max();
    }
    out.certificate_file = spec_.tls().certificate();
    out.key_file = spec_.tls().key();
    out.peer_ca_file = spec_.tls().ca();
    out.advertise = spec_.advertise();
    read_administrators(out);
    if (spec_.has_kubernetes()) read_kubernetes(out);
    return out;
  }

 private:
  void check(bool good, int field, std::string_view message, std::string_view hint) {
    if (!good) diagnostics_.error(places_.of(spec_, field), message, hint);
  }

  void check_header() {
    constexpr std::string_view kVersion = "sallyport.dev/v1alpha1", kKind = "ControllerConfig";
    if (!document_.api_version().empty() && document_.api_version() != kVersion) {
      diagnostics_.error(places_.of(document_, api::ControllerConfig::kApiVersionFieldNumber),
                         "apiVersion " + quoted(document_.api_version()) + " is not known",
                         "it is " + std::string(kVersion));
    }
    if (!document_.kind().empty() && document_.kind() != kKind) {
      diagnostics_.error(places_.of(document_, api::ControllerConfig::kKindFieldNumber),
                         "this is a document of kind " + quoted(document_.kind()), "kind: " + std::string(kKind));
    }
  }

  static void take(const google::protobuf::RepeatedPtrField<std::string>& from, std::vector<std::string>& to) {
    if (!from.empty()) to.assign(from.begin(), from.end());
  }

  void read_administrators(Config& out) {
    check(spec_.administrators_size() <= kAdministratorsMax, ControllerConfigSpec::kAdministratorsFieldNumber,
          "there are too many administrators", "at most " + std::to_string(kAdministratorsMax));
    std::set<std::string> names;
    for (const api::AdministratorConfig& each : spec_.administrators()) {
      if (places_.broken(each)) continue;
      const document::Place at = places_.of(each, api::AdministratorConfig::kNameFieldNumber);
      if (!document::is_label(each.name())) {
        diagnostics_.error(at, "the administrator's name " + quoted(each.name()) + " is not valid",
                           "up to 63 of a-z, 0-9, '.', '_' and '-', starting and ending with a letter or digit");
      }
      if (!names.insert(each.name()).second) {
        diagnostics_.error(at, "administrator " + quoted(each.name()) + " is given twice", "one token each");
      }
      const bool editor = each.role() == api::ADMINISTRATOR_ROLE_EDITOR;
      out.administrators.push_back({each.name(), editor ? Role::editor : Role::viewer, each.token_file()});
    }
  }

  void read_kubernetes(Config& out) {
    const std::string folder = "/var/run/secrets/kubernetes.io/serviceaccount/";
    const api::KubernetesConfig& given = spec_.kubernetes();
    const document::Place at = places_.of(given, api::KubernetesConfig::kApiServerFieldNumber);
    std::string url = given.api_server();
    if (!given.has_api_server()) {
      const char* const host = std::getenv("KUBERNETES_SERVICE_HOST");
      const char* const port = std::getenv("KUBERNETES_SERVICE_PORT");
      if (host == nullptr || port == nullptr) {
        diagnostics_.error(at, "there is no apiServer, and this is no pod",
                           "apiServer: https://HOST:PORT, or KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT");
        return;
      }
      const std::string_view address = host;
      url = "https://" + (address.contains(':') ? "[" + std::string(address) + "]" : std::string(address)) + ":" + port;
    }
    auto server = http1::parse_https_url(url);
    if (!server) {
      diagnostics_.error(at, "the API server " + quoted(url) + " is not valid", "https://HOST:PORT");
      return;
    }
    server->ca_file = given.has_ca_file() ? given.ca_file() : folder + "ca.crt";
    out.kubernetes = {*std::move(server), given.has_token_file() ? given.token_file() : folder + "token",
                      given.has_audience() ? given.audience() : "sallyport-controller"};
    const bool full = !out.kubernetes->audience.empty() && !out.kubernetes->token_file.empty() &&
                      !out.kubernetes->api_server.ca_file.empty();
    check(full, ControllerConfigSpec::kKubernetesFieldNumber, "a field of kubernetes is empty",
          "leave it out for its default");
  }

  const api::ControllerConfig& document_;
  const ControllerConfigSpec& spec_;
  const document::Places& places_;
  document::Diagnostics& diagnostics_;
};

}  // namespace

ConfigLoad load_config(std::string_view yaml, const std::string& file) {
  document::Diagnostics diagnostics(file);
  ConfigLoad load;
  api::ControllerConfig document;
  document::Places places;  // they know the messages by their addresses
  if (const auto tree = document::parse_yaml(yaml, diagnostics)) {
    document::read_message(*tree, document, places, diagnostics);
    load.config = ConfigReader(document, places, diagnostics).read();
    load.good = !diagnostics.has_errors();
  }
  load.diagnostics = diagnostics.take();
  return load;
}

}  // namespace sallyport::controller
