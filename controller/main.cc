// `sallyport-controller`: keeps the state of applications, and what their guards are given.

#include <openssl/crypto.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "base/harden.h"
#include "base/limits.h"
#include "base/read_file.h"
#include "controller/admin/admin_api.h"
#include "controller/core/controller.h"
#include "controller/link/link_server.h"
#include "controller/server/config.h"
#include "controller/server/data_folder.h"
#include "controller/server/metrics.h"
#include "controller/shards/shard_admin.h"
#include "controller/shards/shards.h"
#include "controller/store/sqlite_store.h"
#include "policy-engine/credentials/secret.h"
#include "policy-engine/document/diagnostics.h"
#include "proxy/net/listen.h"

namespace sallyport::controller {
namespace {

struct Flags {
  std::string config, data, store, advertise;
  std::vector<std::string> listen, admin_listen, metrics_listen, names;
  bool check = false;
};

constexpr int kExitUsage = 2;     // wrong flags or configuration
constexpr int kExitFailed = 125;  // this machine does not let it run

void say(const std::string& text) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::fprintf(stderr, "sallyport-controller: %s\n", document::printable(text).c_str());
}

int complain(int exit_code, const std::string& text) {
  say(text);
  return exit_code;
}

int exit_code_of(const Error& error) { return error.kind == ErrorKind::invalid ? kExitUsage : kExitFailed; }

// Nothing: it has been said.
std::optional<Config> read_config(const Flags& flags) {
  Config config;
  if (!flags.config.empty()) {
    const Result<std::string> text = read_file(flags.config, limits::kPolicyBytesMax);
    if (!text) {
      say("--config " + text.error().text);
      return std::nullopt;
    }
    ConfigLoad load = load_config(*text, flags.config);
    for (const document::Diagnostic& diagnostic : load.diagnostics) say(diagnostic.to_string());
    if (!load.good) return std::nullopt;
    config = std::move(load.config);
  }
  if (!flags.data.empty()) config.data = flags.data;
  if (!flags.store.empty()) config.store = flags.store;
  if (!flags.listen.empty()) config.listen = flags.listen;
  if (!flags.admin_listen.empty()) config.admin_listen = flags.admin_listen;
  if (!flags.metrics_listen.empty()) config.metrics_listen = flags.metrics_listen;
  if (!flags.names.empty()) config.names = flags.names;
  if (!flags.advertise.empty()) config.advertise = flags.advertise;
  if (config.advertise.empty()) config.advertise = config.names.empty() ? "127.0.0.1" : config.names.front();
  if (std::ranges::find(config.names, config.advertise) == config.names.end()) config.names.push_back(config.advertise);
  if (config.data.empty()) {
    say("where is its data to be? --data DIR, or data in the configuration");
    return std::nullopt;
  }
  return config;
}

Result<std::vector<UniqueFd>> listen_on(const std::string& what, const std::vector<std::string>& addresses,
                                        std::size_t times) {
  std::vector<UniqueFd> out;
  for (const std::string& address : addresses) {
    for (std::size_t i = 0; i < times; ++i) {
      Result<UniqueFd> socket = net::listen_on(address, times > 1);
      if (!socket) return fail(socket.error().source, socket.error().kind, what + " " + socket.error().text);
      out.push_back(std::move(*socket));
    }
  }
  return out;
}

Result<OwnIdentity> identity_of(const Config& config) {
  if (config.certificate_file.empty()) return own_identity(config.data, config.names);
  OwnIdentity out;
  auto certificate = read_file(config.certificate_file, limits::kTrustBundleBytesMax);
  if (!certificate) return std::unexpected(certificate.error());
  auto key = read_file(config.key_file, limits::kTrustBundleBytesMax);
  if (!key) return std::unexpected(key.error());
  out.certificates_pem = std::move(*certificate);
  out.key_pem = std::move(*key);
  return out;
}

Result<std::vector<Administrator>> administrators_of(const Config& config) {
  std::vector<Administrator> out;
  const auto add = [&out](const std::string& name, Role role, Result<std::string> token) -> Result<void> {
    if (!token) return std::unexpected(token.error());
    if (token->ends_with('\n')) token->pop_back();
    auto made = make_administrator(name, role, *token);
    OPENSSL_cleanse(token->data(), token->size());
    if (!made) return std::unexpected(made.error());
    out.push_back(std::move(*made));
    return {};
  };
  if (auto added = add("admin", Role::editor, own_admin_token(config.data)); !added) {
    return std::unexpected(added.error());
  }
  for (const Config::AdministratorFile& each : config.administrators) {
    auto added = add(each.name, each.role, read_file(each.token_file, limits::kSecretBytesMax));
    if (!added) return std::unexpected(added.error());
  }
  return out;
}

// What keeps the state of applications: one controller, on a database of its own, or this one's part of those that
// several share.
struct Keeper {
  std::unique_ptr<TokenReviewer> reviewer;
  std::unique_ptr<Store> store;
  std::unique_ptr<Controller> controller;
  std::unique_ptr<Shards> shards;

  LinkHandler& handler() const { return shards ? static_cast<LinkHandler&>(*shards) : *controller; }
  std::string trouble() const {
    if (shards) return shards->trouble();
    return controller->store_works() ? std::string() : "the store can't be written";
  }
  std::string metrics(const LinkCounts& links) const {
    if (!shards) return metrics_of({controller.get()}, std::nullopt, links);
    std::vector<Shards::Use> uses;
    std::vector<const Controller*> controllers;
    for (const unsigned shard : shards->held()) {
      if (auto use = shards->use(shard)) uses.push_back(*std::move(use));
    }
    for (const Shards::Use& use : uses) controllers.push_back(&*use);
    return metrics_of(controllers, uses.size(), links);
  }
};

std::string url_of(const std::string& scheme, const Config& config, const std::vector<std::string>& listen) {
  const std::string& host = config.advertise;
  return scheme + "://" + (host.contains(':') ? "[" + host + "]" : host) +
         listen.front().substr(listen.front().rfind(':'));
}

Result<Keeper> start_keeper(const Config& config) {
  Keeper out;
  const ControllerOptions options{
      .retention = config.retention, .store_bytes_max = config.store_bytes_max, .say = say, .reviewer = nullptr};
  if (!config.store.empty()) {
    const auto url = parse_redis_url(config.store);
    if (!url) return std::unexpected(url.error());
    // What is in memory is no longer the state of anything, and guards have another controller: ends at once.
    const auto on_lost = [] {
      say("another controller has taken over; ends");
      std::_Exit(kExitFailed);
    };
    auto joined = Shards::join({.redis = *url,
                                .folder = config.data,
                                .link_url = url_of("wss", config, config.listen),
                                .admin_url = url_of("https", config, config.admin_listen),
                                .controller = options,
                                .kubernetes = config.kubernetes,
                                .on_lost = on_lost});
    if (!joined) return std::unexpected(joined.error());
    out.shards = std::move(*joined);
    return out;
  }
  auto store = SqliteStore::open(config.data);
  if (!store) return std::unexpected(store.error());
  out.store = std::move(*store);
  ControllerOptions of_its_own = options;
  if (config.kubernetes) {
    auto started = TokenReviewer::start(*config.kubernetes);
    if (!started) return std::unexpected(started.error());
    out.reviewer = std::move(*started);
    of_its_own.reviewer = out.reviewer.get();
  }
  auto controller = Controller::start(*out.store, std::move(of_its_own));
  if (!controller) return std::unexpected(controller.error());
  out.controller = std::move(*controller);
  return out;
}

AdminAnswer health(const Keeper& keeper, const LinkServer& links, const AdminRequest& request) {
  AdminAnswer out{.content_type = "text/plain"};
  if (request.method != "GET") {
    out.status = 405;
  } else if (request.path == std::vector<std::string>{"metrics"}) {
    out.content_type = "text/plain; version=0.0.4";
    out.body = keeper.metrics(links.counts());
  } else if (request.path == std::vector<std::string>{"healthz"}) {
    out.body = "ok\n";
  } else if (request.path == std::vector<std::string>{"readyz"}) {
    const std::string trouble = keeper.trouble();
    out.status = trouble.empty() ? 200 : 503;
    out.body = (trouble.empty() ? "ok" : trouble) + "\n";
  } else {
    out.status = 404;
    out.body = "/metrics, /healthz and /readyz are here\n";
  }
  return out;
}

// Shows the certificate that there is now, if it is another than the one that is shown. What can't be used changes
// nothing. False: nothing was changed.
bool show_again(const Config& config, OwnIdentity& shown, LinkServer& links, AdminServer& admin) {
  Result<OwnIdentity> identity = identity_of(config);
  if (identity && identity->certificates_pem == shown.certificates_pem && identity->key_pem == shown.key_pem)
    return false;
  Result<void> taken = identity ? links.show(identity->certificates_pem, identity->key_pem)
                                : Result<void>(std::unexpected(identity.error()));
  if (taken) taken = admin.show(identity->certificates_pem, identity->key_pem);
  if (!taken) {
    say("the certificate before goes on to be shown: " + taken.error().text);
    return false;
  }
  say("shows another certificate from now on");
  OPENSSL_cleanse(shown.key_pem.data(), shown.key_pem.size());
  shown = std::move(*identity);
  return true;
}

std::string joined(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) out += (out.empty() ? "" : ", ") + text;
  return out;
}

int serve(const Config& config) {
  // Signals are taken here and nowhere else: blocked before the first thread is made.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  if (Result<void> hardened = harden_process(); !hardened) return complain(kExitFailed, hardened.error().text);
  credentials::prepare_secure_memory();

  std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes to Redis without MSG_NOSIGNAL
  auto keeper = start_keeper(config);
  if (!keeper) return complain(exit_code_of(keeper.error()), keeper.error().text);
  const Result<OwnIdentity> identity = identity_of(config);
  if (!identity) return complain(kExitUsage, identity.error().text);
  auto administrators = administrators_of(config);
  if (!administrators) return complain(kExitUsage, administrators.error().text);

  // Listens last: whoever can connect is served.
  auto admin_sockets = listen_on("adminListen", config.admin_listen, 1);
  if (!admin_sockets) return complain(exit_code_of(admin_sockets.error()), admin_sockets.error().text);
  auto metrics_sockets = listen_on("metricsListen", config.metrics_listen, 1);
  if (!metrics_sockets) return complain(exit_code_of(metrics_sockets.error()), metrics_sockets.error().text);
  auto sockets = listen_on("listen", config.listen, config.threads);
  if (!sockets) return complain(exit_code_of(sockets.error()), sockets.error().text);
  auto links = LinkServer::start(
      {.certificates_pem = identity->certificates_pem, .key_pem = identity->key_pem, .on_trouble = say},
      std::move(*sockets), keeper->handler());
  if (!links) return complain(kExitUsage, links.error().text);
  // What a review leads to is told to links.
  const std::unique_ptr<TokenReviewer, void (*)(TokenReviewer*)> reviews(keeper->reviewer.get(),
                                                                         [](TokenReviewer* running) {
                                                                           if (running != nullptr) running->stop();
                                                                         });
  const AdminApi api(std::move(*administrators));
  AdminServer::Options administration{
      .certificates_pem = identity->certificates_pem,
      .key_pem = identity->key_pem,
      .check = [&api](const AdminRequest& request) { return api.check(request); },
      .answer = [&](const AdminRequest& request) { return api.answer(*keeper->controller, request); },
      .on_trouble = say};
  std::optional<ShardAdmin> shard_admin;
  if (keeper->shards) {
    shard_admin.emplace(*keeper->shards, api, identity->ca_file.empty() ? config.peer_ca_file : identity->ca_file);
    administration.answer_later = [&](net::Loop& loop, const AdminRequest& request) {
      return shard_admin->answer(loop, request);
    };
  }
  auto admin = AdminServer::start(std::move(administration), std::move(*admin_sockets));
  if (!admin) return complain(kExitUsage, admin.error().text);
  auto metrics =
      AdminServer::start({.certificates_pem = {},
                          .key_pem = {},
                          .check = [](const AdminRequest&) { return std::nullopt; },
                          .answer = [&](const AdminRequest& request) { return health(*keeper, **links, request); },
                          .on_trouble = say},
                         std::move(*metrics_sockets));
  if (!metrics) return complain(kExitFailed, metrics.error().text);
  say("guards: " + joined(config.listen) + "; administration: " + joined(config.admin_listen) +
      (identity->ca_file.empty() ? "" : "; its CA is " + identity->ca_file) +
      "; the first administrator's token is in " + config.data + "/admin-token");

  OwnIdentity shown = *identity;
  auto made = std::chrono::steady_clock::now();
  constexpr timespec kLookEvery{limits::kIdentityLookInterval.count(), 0};
  for (int received = 0; received != SIGTERM && received != SIGINT;) {
    received = sigtimedwait(&signals, nullptr, &kLookEvery);
    const bool old = std::chrono::steady_clock::now() - made > limits::kControllerLeafLifetime / 2;
    // One from files is as good as they are; of its own CA there is another when it gets old.
    if (received != SIGHUP && config.certificate_file.empty() && !old) continue;
    if (show_again(config, shown, **links, **admin)) made = std::chrono::steady_clock::now();
  }
  say("ends");
  return 0;
}

}  // namespace
}  // namespace sallyport::controller

int main(int argc, char** argv) {
  using namespace sallyport::controller;
  CLI::App app("Sallyport's controller: the state of applications, and what their guards are given");
  Flags flags;
  app.set_version_flag("--version", "sallyport-controller " SALLYPORT_VERSION);
  app.add_option("--config", flags.config, "Configuration (docs/controller.md); flags go before it")->type_name("FILE");
  app.add_option("--data", flags.data, "Folder for all that is kept; made if it is missing")->type_name("DIR");
  app.add_option("--store", flags.store, "A Redis that several controllers share (docs/controller.md)")
      ->type_name("URL");
  app.add_option("--advertise", flags.advertise,
                 "The host by which others that share it reach this one (default: --name)")
      ->type_name("HOST");
  app.add_option("--listen", flags.listen, "Where guards connect to; repeatable (default 127.0.0.1:7443)")
      ->type_name("ADDRESS:PORT");
  app.add_option("--admin-listen", flags.admin_listen, "Where the admin API is; repeatable (default 127.0.0.1:7444)")
      ->type_name("ADDRESS:PORT");
  app.add_option("--metrics-listen", flags.metrics_listen, "Where /metrics, /healthz and /readyz are; repeatable")
      ->type_name("ADDRESS:PORT");
  app.add_option("--name", flags.names, "A name or address by which it is called, for its certificate; repeatable")
      ->type_name("HOST");
  app.add_flag("--check", flags.check, "Only check the configuration");
  app.footer(
      "Example:\n  sallyport-controller --data /var/lib/sallyport --listen 0.0.0.0:7443 --name controller.example");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  const auto config = read_config(flags);
  if (!config) return kExitUsage;
  return flags.check ? 0 : serve(*config);
}
