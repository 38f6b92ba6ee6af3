// `sallyport-proxy`: the guard alone, behind a redirect that somebody else has set up: a pod's init container, a test.

#include <openssl/crypto.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "base/harden.h"
#include "base/limits.h"
#include "base/read_file.h"
#include "policy-engine/credentials/secret.h"
#include "proxy/guard/guard.h"
#include "proxy/guard/join_options.h"
#include "proxy/net/listen.h"
#include "proxy/net/tls_kdf.h"

namespace sallyport {
namespace {

struct Flags {
  std::string policy, ca_cert, ca_key, admin, record, traces, upstream_ca, image_digest;
  std::vector<std::string> listen, proxy_listen, inbound;
  guard::JoinFlags join;
  std::size_t workers = 1;
  unsigned grace_seconds = 30;
};

constexpr int kExitUsage = 2;          // wrong flags, policy or CA files
constexpr int kExitGuardFailed = 125;  // this machine does not let the guard run

int complain(int exit_code, const std::string& text) {
  std::fprintf(stderr, "sallyport-proxy: %s\n", text.c_str());
  return exit_code;
}

int exit_code_of(const Error& error) { return error.kind == ErrorKind::invalid ? kExitUsage : kExitGuardFailed; }

Result<ca::Authority> load_authority(OSSL_LIB_CTX* lib, const Flags& flags) {
  Result<std::string> certificate = read_file(flags.ca_cert, limits::kTrustBundleBytesMax);
  if (!certificate) return std::unexpected(certificate.error());
  Result<std::string> key = read_file(flags.ca_key, limits::kTrustBundleBytesMax);
  if (!key) return std::unexpected(key.error());
  auto authority = ca::Authority::load(lib, {flags.ca_cert, *certificate}, {flags.ca_key, *key},
                                       std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
  OPENSSL_cleanse(key->data(), key->size());
  return authority;
}

// One socket per address and worker: the kernel spreads connections over sockets that share a port.
Result<std::vector<UniqueFd>> open_listeners(const std::string& flag, const std::vector<std::string>& addresses,
                                             std::size_t workers) {
  std::vector<UniqueFd> sockets;
  for (const std::string& address : addresses) {
    for (std::size_t i = 0; i < workers; ++i) {
      Result<UniqueFd> socket = net::listen_on(address, workers > 1);
      if (!socket) return fail(socket.error().source, socket.error().kind, flag + " " + socket.error().text);
      sockets.push_back(std::move(*socket));
    }
  }
  return sockets;
}

int serve(const Flags& flags) {
  // Signals are taken here and nowhere else: blocked before the first thread is made.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  if (Result<void> hardened = harden_process(); !hardened) return complain(kExitGuardFailed, hardened.error().text);
  credentials::prepare_secure_memory();

  // Not OpenSSL's default context, which would cost as much again: nothing else needs that one.
  ca::LibCtxPtr lib(OSSL_LIB_CTX_new());
  if (!lib) return complain(kExitGuardFailed, "out of memory for OpenSSL");
  net::provide_key_schedule(lib);
  guard::GuardOptions options;
  options.context.image_digest = flags.image_digest;
  std::unique_ptr<guard::Joined> joined;
  if (flags.join.given()) {
    Result<std::unique_ptr<guard::Joined>> begun =
        guard::Joined::begin(flags.join, options.context, flags.ca_cert.empty() ? lib.get() : nullptr);
    if (!begun) return complain(exit_code_of(begun.error()), begun.error().text);
    joined = std::move(*begun);
    options.membership = &joined->membership();
    options.function = flags.join.function;
  }
  // Before anything listens: without a policy nobody is served.
  Result<guard::PolicyFile> policy = joined ? joined->membership().first_policy(limits::kFirstUpdateTimeout)
                                            : guard::read_policy(flags.policy, options.context);
  if (!policy) return complain(kExitGuardFailed, policy.error().text);
  for (const document::Diagnostic& diagnostic : policy->diagnostics) complain(0, diagnostic.to_string());
  if (!policy->snapshot) return complain(kExitUsage, "the policy can't be used");
  Result<ca::Authority> authority =
      flags.ca_cert.empty() ? joined->membership().authority() : load_authority(lib.get(), flags);
  if (!authority) return complain(kExitUsage, authority.error().text);
  options.policy_file = flags.policy;
  options.record_file = flags.record;
  options.trace_file = flags.traces;
  options.admin_socket = flags.admin;
  options.upstream_ca_file = flags.upstream_ca;
  options.workers = flags.workers;
  options.inbound = !flags.inbound.empty();
  auto guard = guard::Guard::create(options, *policy, std::move(*authority));
  if (!guard) return complain(exit_code_of(guard.error()), guard.error().text);
  // Listens last: whoever can connect is served.
  Result<std::vector<UniqueFd>> sockets = open_listeners("--listen", flags.listen, flags.workers);
  if (!sockets) return complain(exit_code_of(sockets.error()), sockets.error().text);
  Result<std::vector<UniqueFd>> proxy_sockets = open_listeners("--proxy-listen", flags.proxy_listen, flags.workers);
  if (!proxy_sockets) return complain(exit_code_of(proxy_sockets.error()), proxy_sockets.error().text);
  for (const std::string& text : flags.inbound) {
    Result<guard::Publication> publication = guard::parse_inbound(text);
    if (!publication) return complain(kExitUsage, "--inbound " + publication.error().text);
    Result<std::vector<UniqueFd>> inbound = open_listeners("--inbound", publication->listen, flags.workers);
    if (!inbound) return complain(exit_code_of(inbound.error()), inbound.error().text);
    (*guard)->publish(publication->port, std::move(*inbound), true);
  }
  (*guard)->listen(std::move(*sockets));
  (*guard)->listen(std::move(*proxy_sockets), guard::Listener::proxy);
  if (Result<void> started = (*guard)->start(); !started) return complain(kExitGuardFailed, started.error().text);

  int received = 0;
  sigwait(&signals, &received);
  (*guard)->stop(std::chrono::seconds(flags.grace_seconds));
  return 0;
}

}  // namespace
}  // namespace sallyport

int main(int argc, char** argv) {
  CLI::App app("Sallyport's guard, for connections that netfilter redirects to it");
  sallyport::Flags flags;
  app.set_version_flag("--version", "sallyport-proxy " SALLYPORT_VERSION);
  app.add_option("--policy", flags.policy, "Policy document (docs/policy.md)")->type_name("FILE");
  add_join_options(app, flags.join);
  app.add_option("--listen", flags.listen,
                 "Address for redirected connections, like 127.0.0.1:18001 or [::1]:18001; repeatable")
      ->type_name("ADDRESS:PORT");
  app.add_option("--proxy-listen", flags.proxy_listen,
                 "Address for clients of HTTP_PROXY and HTTPS_PROXY, where nothing can be redirected; repeatable")
      ->type_name("ADDRESS:PORT");
  app.add_option(
         "--inbound", flags.inbound,
         "Address for messages to a port of the function; each is an execution (docs/executions.md); repeatable")
      ->type_name("ADDRESS:PORT=PORT");
  app.add_option("--ca-cert", flags.ca_cert, "CA certificate (PEM); default with --controller: one that it signs")
      ->type_name("FILE");
  app.add_option("--ca-key", flags.ca_key, "Its private key (PEM)")->type_name("FILE");
  app.add_option("--admin", flags.admin, "Serve /metrics, /healthz and /readyz on this unix socket")
      ->type_name("SOCKET");
  app.add_option("--record", flags.record, "Append one JSON line per exchange")->type_name("FILE");
  app.add_option("--traces", flags.traces, "Append what the function does as one execution (docs/executions.md)")
      ->type_name("FILE");
  app.add_option("--upstream-ca", flags.upstream_ca, "More root certificates for upstream servers (PEM)")
      ->type_name("FILE");
  app.add_option("--image-digest", flags.image_digest,
                 "Of the image that the function runs from (sha256:…): a flow graph of another one is refused")
      ->type_name("DIGEST");
  app.add_option("--workers", flags.workers, "Worker threads")->check(CLI::Range(1, 256))->capture_default_str();
  app.add_option("--grace", flags.grace_seconds, "Seconds that open exchanges get to end after SIGTERM")
      ->check(CLI::Range(0, 3600))
      ->capture_default_str();
  app.footer(
      "Example:\n  sallyport-proxy --policy policy.yaml --listen 127.0.0.1:18001 --ca-cert ca.pem --ca-key ca.key");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : sallyport::kExitUsage;
  }
  std::vector<std::string> others;
  if (!flags.policy.empty()) others.emplace_back("--policy");
  if (const auto wrong = sallyport::guard::objection_to(flags.join, others)) {
    return sallyport::complain(sallyport::kExitUsage, *wrong);
  }
  if (flags.policy.empty() && !flags.join.given()) {
    return sallyport::complain(sallyport::kExitUsage, "--policy FILE or --controller wss://HOST:PORT is required");
  }
  if (flags.ca_cert.empty() != flags.ca_key.empty()) {
    return sallyport::complain(sallyport::kExitUsage, "--ca-cert and --ca-key go together");
  }
  if (flags.ca_cert.empty() && !flags.join.given()) {
    return sallyport::complain(sallyport::kExitUsage,
                               "--ca-cert FILE and --ca-key FILE are required without --controller");
  }
  if (flags.listen.empty() && flags.proxy_listen.empty()) {
    return sallyport::complain(sallyport::kExitUsage, "--listen or --proxy-listen is required");
  }
  return sallyport::serve(flags);
}
