#include "cli/run.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/harden.h"
#include "base/limits.h"
#include "base/read_file.h"
#include "cli/command_trust.h"
#include "cli/run_local.h"
#include "policy-engine/credentials/binding.h"
#include "policy-engine/credentials/secret.h"
#include "proxy/guard/guard.h"
#include "proxy/guard/join_options.h"
#include "proxy/guard/policy_source.h"
#include "proxy/net/listen.h"
#include "proxy/net/tls_kdf.h"
#include "proxy/run/guarded_command.h"
#include "proxy/run/scratch_directory.h"
#include "proxy/run/standard_streams.h"

namespace sallyport::cli {
namespace {

struct Flags {
  std::string policy, mode, learn, record, traces, runtime_api, admin, upstream_ca, ca_cert, ca_key, image_digest, data;
  guard::JoinFlags join;
  bool quiet = false, verbose = false;
  std::vector<std::string> publish, command;
};

int complain(int exit_code, const std::string& text) {
  std::fprintf(stderr, "sallyport: %s\n", text.c_str());
  return exit_code;
}

// The token is hidden from the command under the name of its file. Behind a link another file may stand later, which
// the command would see.
std::optional<std::string> objection_to_links(const guard::JoinFlags& join) {
  for (const auto& [flag, path] : {std::pair("--join-token-file", &join.join_token_file),
                                   std::pair("--service-account-token-file", &join.service_account_token_file)}) {
    std::error_code error;
    const std::filesystem::path given = std::filesystem::absolute(*path, error).lexically_normal();
    if (path->empty() || error || std::filesystem::canonical(given, error) == given || error) continue;
    return std::string(flag) + " " + *path +
           ": a link leads there, and what it leads to could be replaced by what the command can read; name the file";
  }
  return std::nullopt;
}

// Where the controller is in this process the flags that lead to another one say nothing.
std::optional<std::string> objection_to_data(const Flags& flags) {
  if (flags.join.given()) return "--data and --controller exclude each other: one controller is enough";
  if (!flags.learn.empty()) {
    return "--data and --learn exclude each other; a policy with mode: learn keeps what the command does in the folder";
  }
  guard::JoinFlags others = flags.join;
  others.application.clear();
  others.function.clear();
  if (auto wrong = guard::objection_to(others, {})) return wrong;
  if (auto wrong = guard::objection_to_names(flags.join)) return wrong;
  if (flags.policy.empty() && flags.join.function.empty()) {
    return "--data needs --policy FILE, or --function NAME for the policy that is kept there";
  }
  std::error_code error;
  const std::string folder = std::filesystem::weakly_canonical(flags.data, error).string() + "/";
  if ((std::filesystem::current_path(error).string() + "/").starts_with(folder)) {
    return "--data " + flags.data + ": the command would begin in this folder, which is kept from it";
  }
  return std::nullopt;
}

// Flags that contradict each other, before anything is made.
std::optional<std::string> check(const Flags& flags) {
  if (flags.command.empty())
    return "no command to run; example: sallyport run --learn draft.yaml -- curl https://example.com/";
  if (flags.ca_cert.empty() != flags.ca_key.empty()) return "--ca-cert and --ca-key go together";
  if (flags.publish.size() > limits::kInboundPortsMax) {
    return "--publish can be given " + std::to_string(limits::kInboundPortsMax) + " times";
  }
  if (!flags.publish.empty() && !flags.runtime_api.empty()) {
    return "--publish and --runtime-api exclude each other: they disagree about what an execution is";
  }
  if (flags.quiet && flags.verbose) return "--quiet and --verbose exclude each other";
  if (!flags.data.empty()) return objection_to_data(flags);
  std::vector<std::string> others;
  for (const auto& [flag, value] :
       {std::pair("--policy", &flags.policy), std::pair("--mode", &flags.mode), std::pair("--learn", &flags.learn)}) {
    if (!value->empty()) others.emplace_back(flag);
  }
  if (auto wrong = guard::objection_to(flags.join, others)) return wrong;
  if (flags.join.given()) return objection_to_links(flags.join);
  const bool learns = flags.mode == "learn" || (flags.mode.empty() && !flags.learn.empty());
  if (flags.policy.empty() && !learns) {
    return "without --policy FILE or --controller URL nothing would be allowed; give one, or see what the command does "
           "with --learn FILE";
  }
  return std::nullopt;
}

std::optional<document::Mode> mode_of(const Flags& flags) {
  if (!flags.mode.empty()) return document::parse_mode(flags.mode);
  if (!flags.learn.empty()) return document::Mode::learn;
  return std::nullopt;
}

// Whether the guard's CA is one that another process's controller signs.
bool given_by_controller(const Flags& flags) { return flags.join.given() && flags.ca_cert.empty(); }

Result<ca::Authority> authority_of(OSSL_LIB_CTX* lib, const Flags& flags, guard::Membership* membership) {
  if (given_by_controller(flags)) return membership->authority();
  const ca::TimePoint now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  if (flags.ca_cert.empty()) return ca::Authority::create_root(lib, {.name = "Sallyport root of one run"}, now);
  Result<std::string> certificate = read_file(flags.ca_cert, limits::kTrustBundleBytesMax);
  if (!certificate) return std::unexpected(certificate.error());
  Result<std::string> key = read_file(flags.ca_key, limits::kTrustBundleBytesMax);
  if (!key) return std::unexpected(key.error());
  auto authority = ca::Authority::load(lib, {flags.ca_cert, *certificate}, {flags.ca_key, *key}, now);
  OPENSSL_cleanse(key->data(), key->size());
  return authority;
}

std::string hosts_text() {
  std::string text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) == 0 && *name != '\0') text += "127.0.1.1 " + std::string(name) + "\n";
  return text;
}

// What the command trusts and holds: files in the run's own directory, and the variables and mounts that lead to them.
class Surroundings {
 public:
  static Result<Surroundings> make(const std::filesystem::path& directory, const std::string& ca_pem,
                                   const guard::PolicyFile& policy, bool runtime_api) {
    Result<CommandTrust> trust = CommandTrust::make(directory, ca_pem, environ);
    if (!trust) return std::unexpected(trust.error());
    Surroundings made(std::move(*trust));
    if (runtime_api) {
      made.set_["AWS_LAMBDA_RUNTIME_API"] =
          std::string(guard::kRuntimeApiHost) + ":" + std::to_string(guard::kRuntimeApiPort);
    }
    // Names are the guard's to resolve, also those that this machine's hosts file has: one that leads to this machine's
    // loopback would otherwise end at the command's own.
    const std::string hosts = directory / "hosts";
    Result<void> named = write_file(hosts, hosts_text(), 0444);
    if (!named) return std::unexpected(named.error());
    made.binds.push_back({hosts, "/etc/hosts"});
    for (const run::Bind& bind : made.trust.binds) made.binds.push_back(bind);
    for (const auto& [name, value] : made.trust.variables) made.set_[name] = value;
    made.hold_placeholders(policy);
    return made;
  }

  CommandTrust trust;
  std::vector<std::string> environment;
  std::vector<run::Bind> binds;

 private:
  explicit Surroundings(CommandTrust given) : trust(std::move(given)) {}

  // Placeholders instead of credentials: the variable that a secret came from is not for the command.
  void hold_placeholders(const guard::PolicyFile& policy) {
    for (const auto& binding : policy.snapshot->bindings().all()) {
      if (!binding->placeholder_env.empty()) set_[binding->placeholder_env] = binding->placeholder;
    }
    std::set<std::string> dropped(policy.secret_variables.begin(), policy.secret_variables.end());
    dropped.insert(guard::kJoinTokenVariable);
    for (char** entry = environ; *entry != nullptr; ++entry) {
      std::string variable = *entry;
      std::string name = variable.substr(0, variable.find('='));
      if (!set_.contains(name) && !dropped.contains(name)) environment.push_back(std::move(variable));
    }
    for (const auto& [name, value] : set_) environment.push_back(name + "=" + value);
  }

  std::map<std::string, std::string> set_;
};

guard::GuardOptions options_of(const Flags& flags) {
  guard::GuardOptions options;
  if (flags.data.empty()) options.policy_file = flags.policy;
  options.context.mode = mode_of(flags);
  options.context.image_digest = flags.image_digest;
  options.context.graph_stays = true;
  options.function = std::filesystem::path(flags.command[0]).filename();
  options.record_file = flags.record;
  options.draft_file = flags.learn;
  options.trace_file = flags.traces;
  options.runtime_api = flags.runtime_api;
  options.inbound = !flags.publish.empty();
  options.admin_socket = flags.admin;
  options.upstream_ca_file = flags.upstream_ca;
  const bool terminal = isatty(STDERR_FILENO) == 1;
  options.console.lines = options.console.summary = flags.verbose || (terminal && !flags.quiet);
  options.quiet = flags.quiet;
  options.console.colour = terminal && std::getenv("NO_COLOR") == nullptr;
  return options;
}

std::vector<UniqueFd> take(UniqueFd& v4, UniqueFd& v6) {
  std::vector<UniqueFd> both;
  both.push_back(std::move(v4));
  both.push_back(std::move(v6));
  return both;
}

// Whether somebody with this user's rights and no privilege could put another file under this name.
bool command_could_replace(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(path, error);
  if (error || real != std::filesystem::absolute(path, error).lexically_normal()) return true;  // by way of a link
  bool is_directory = false;
  for (std::filesystem::path each = real;; each = each.parent_path()) {
    struct stat status{};
    if (::stat(each.c_str(), &status) != 0 || status.st_uid == ::geteuid()) return true;
    // In a sticky directory only owners rename what is in it, and what is in it on this path is another's.
    const bool sticky = is_directory && (status.st_mode & S_ISVTX) != 0;
    if (!sticky && ::access(each.c_str(), W_OK) == 0) return true;
    if (each == each.root_path()) return false;
    is_directory = true;
  }
}

// A descriptor that the command gets leads past every mount: it could open the file anew through it, to write.
bool is_standard_stream(const std::string& path) {
  struct stat file{}, stream{};
  if (::stat(path.c_str(), &file) != 0 || !S_ISREG(file.st_mode)) return false;
  for (int fd : {0, 1, 2}) {
    if (::fstat(fd, &stream) == 0 && stream.st_dev == file.st_dev && stream.st_ino == file.st_ino) return true;
  }
  return false;
}

// The policy's or the graph's file, held where the command could put another one in its place: then its name means
// nothing.
UniqueFd pin(const std::string& path, guard::PolicyContext& context) {
  if (path.empty() || path == "-" || !command_could_replace(path)) return {};
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  context.opened_as[path] = "/proc/self/fd/" + std::to_string(file.get());
  return file;
}

// What decides about the command, what it must not know, and what tells of it. The command has this user's rights.
std::vector<run::Shield> shields_of(const Flags& flags, const guard::PolicyFile& policy) {
  using Kind = run::Shield::Kind;
  std::vector<run::Shield> shields;
  auto add = [&](const std::string& path, Kind kind) {
    if (path.empty() || path == "-") return;
    // Resolved here: a descriptor of this process (/dev/fd/3) is none of the supervisor's.
    std::error_code error;
    const std::filesystem::path real = std::filesystem::canonical(path, error);
    shields.push_back({error ? path : real.string(), kind});
  };
  add(flags.policy, Kind::read_only);
  add(policy.graph_file, Kind::read_only);
  add(flags.record, Kind::read_only);
  add(flags.traces, Kind::read_only);
  for (const document::Endpoint& endpoint : policy.snapshot->endpoints()) {
    add(endpoint.ca_bundle_file, Kind::read_only);
    add(endpoint.crl_file, Kind::read_only);
    add(endpoint.client_certificate_file, Kind::read_only);
  }
  add(flags.join.controller_ca, Kind::read_only);
  add(flags.join.join_token_file, Kind::hidden);
  add(flags.join.service_account_token_file, Kind::hidden);
  add(flags.data, Kind::hidden);
  add(flags.ca_key, Kind::hidden);
  add(flags.admin, Kind::hidden);
  for (const std::string& file : policy.secret_files) add(file, Kind::hidden);
  return shields;
}

// Where there is a controller its first policy is waited for.
Result<guard::PolicyFile> policy_of(const Flags& flags, const guard::PolicyContext& context,
                                    guard::Membership* membership) {
  if (membership != nullptr) return membership->first_policy(limits::kFirstUpdateTimeout);
  if (!flags.policy.empty()) return guard::read_policy(flags.policy, context);
  guard::PolicyFile none;
  none.snapshot = document::Snapshot::empty(document::Mode::learn);
  return none;
}

// Nothing, or why the command can't be given what would let it change the file.
std::optional<std::string> held_by_the_command(const std::string& flag, const std::string& path) {
  if (path.empty() || !is_standard_stream(path)) return std::nullopt;
  return flag + path + ": the command would get this file as a standard stream, and could change it; nothing was run";
}

// Listens for the command's ports outside, where others can reach them from now on. Until the command listens they are
// told that it can't be reached.
Result<void> publish(const Flags& flags, run::GuardedCommand& command, guard::Guard& guard) {
  if (flags.publish.empty()) return {};
  Result<UniqueFd> stock = command.socket_stock();
  if (!stock) return std::unexpected(stock.error());
  guard.take_sockets_from(std::move(*stock));
  for (const std::string& text : flags.publish) {
    Result<guard::Publication> publication = guard::parse_publication(text);
    if (!publication) return fail(ErrorSource::policy, ErrorKind::invalid, "--publish " + publication.error().text);
    std::vector<UniqueFd> listening;
    for (const std::string& address : publication->listen) {
      Result<UniqueFd> socket = net::listen_on(address, false);
      // All addresses, on a machine without IPv6: IPv4's are all that there are.
      if (!socket && !listening.empty() && address.starts_with("[::]")) continue;
      if (!socket)
        return fail(ErrorSource::internal, socket.error().kind, "--publish " + text + ": " + socket.error().text);
      listening.push_back(std::move(*socket));
    }
    guard.publish(publication->port, std::move(listening), false);
  }
  return {};
}

// What the guard is a member of, as the flags have it; the membership of both may be null.
struct Member {
  std::unique_ptr<guard::Joined> joined;
  LocalMember local;
};

Result<Member> become_member(const Flags& flags, guard::GuardOptions& options, OSSL_LIB_CTX* lib) {
  Member out;
  if (!flags.data.empty()) {
    const auto say = [quiet = flags.quiet](const std::string& text) {
      if (!quiet) complain(0, text);
    };
    Result<LocalMember> local =
        begin_local({flags.data, flags.join.application, flags.join.function, flags.policy}, options.context, say);
    if (!local) return std::unexpected(local.error());
    out.local = std::move(*local);
    options.membership = out.local.membership;
    options.function = out.local.of.function;
  } else if (flags.join.given()) {
    Result<std::unique_ptr<guard::Joined>> joined =
        guard::Joined::begin(flags.join, options.context, flags.ca_cert.empty() ? lib : nullptr);
    if (!joined) return std::unexpected(joined.error());
    out.joined = std::move(*joined);
    options.membership = &out.joined->membership();
    options.function = flags.join.function;
  }
  return out;
}

// Everything after the namespace is there.
int guard_command(const Flags& flags, run::GuardedCommand& command, const std::filesystem::path& directory) {
  credentials::prepare_secure_memory();
  for (const auto& [flag, path] :
       {std::pair("--policy ", &flags.policy), std::pair("--join-token-file ", &flags.join.join_token_file),
        std::pair("--service-account-token-file ", &flags.join.service_account_token_file)}) {
    if (const auto wrong = held_by_the_command(flag, *path)) return complain(kExitUsage, *wrong);
  }
  guard::GuardOptions options = options_of(flags);
  const UniqueFd pinned = pin(flags.policy, options.context);
  // Not OpenSSL's default context, which would cost as much again: nothing else needs that one.
  ca::LibCtxPtr lib(OSSL_LIB_CTX_new());
  if (!lib) return complain(kExitGuardFailed, "out of memory for OpenSSL; nothing was run");
  net::provide_key_schedule(lib);
  const Result<Member> member = become_member(flags, options, lib.get());
  if (!member) {
    const bool wrong = member.error().kind == ErrorKind::invalid;
    return complain(wrong ? kExitUsage : kExitGuardFailed, member.error().text + "; nothing was run");
  }
  Result<guard::PolicyFile> loaded = policy_of(flags, options.context, options.membership);
  if (!loaded) return complain(kExitGuardFailed, loaded.error().text + "; nothing was run");
  guard::PolicyFile& policy = *loaded;
  for (const document::Diagnostic& diagnostic : policy.diagnostics) {
    if (!diagnostic.warning || !flags.quiet) complain(0, diagnostic.to_string());
  }
  if (!policy.snapshot) return complain(kExitUsage, "the policy can't be used; nothing was run");
  if (const auto wrong = held_by_the_command("the flow graph ", policy.graph_file)) return complain(kExitUsage, *wrong);
  const UniqueFd pinned_graph = pin(policy.graph_file, options.context);
  Result<ca::Authority> authority = authority_of(lib.get(), flags, options.membership);
  if (!authority) return complain(kExitUsage, authority.error().text);
  const std::string trusted = given_by_controller(flags) ? options.membership->trusted() : authority->trust_pem();
  Result<Surroundings> surroundings = Surroundings::make(directory, trusted, policy, !flags.runtime_api.empty());
  if (!surroundings) return complain(kExitGuardFailed, surroundings.error().text);
  if (!flags.quiet) {
    for (const std::string& warning : surroundings->trust.warnings) complain(0, "warning: " + warning);
  }

  if (given_by_controller(flags)) {
    options.membership->on_trusted([&trust = surroundings->trust](const std::string& pem) {
      // The files before stay, and with them who is trusted: the command can then only refuse the guard.
      if (Result<void> put = trust.put(pem); !put) complain(0, put.error().text);
    });
  }

  auto guard = guard::Guard::create(options, policy, std::move(*authority));
  if (!guard) return complain(kExitGuardFailed, guard.error().text);
  run::NamespaceSockets& sockets = command.sockets();
  (*guard)->listen(take(sockets.tcp4, sockets.tcp6));
  (*guard)->serve_dns(take(sockets.dns_udp4, sockets.dns_udp6), take(sockets.dns_tcp4, sockets.dns_tcp6));
  if (Result<void> published = publish(flags, command, **guard); !published) {
    const bool wrong = published.error().kind == ErrorKind::invalid;
    return complain(wrong ? kExitUsage : kExitGuardFailed, published.error().text + "; nothing was run");
  }
  Result<void> started = (*guard)->start();
  if (!started) return complain(kExitGuardFailed, started.error().text);

  Result<void> running =
      command.start({flags.command, surroundings->environment, surroundings->binds, shields_of(flags, policy)});
  if (!running) return complain(run::GuardedCommand::exit_code_of(running.error()), running.error().text);
  if (Result<void> released = run::release_standard_streams(); !released) complain(0, released.error().text);
  Result<int> status = command.wait();
  // The command and everything it left have ended: what is still open has nobody at its other end.
  (*guard)->stop(std::chrono::milliseconds(200), flow::v1alpha1::EXECUTION_END_COMPLETE);
  if (!status) return complain(kExitGuardFailed, status.error().text);
  return *status;
}

int run_command(const Flags& flags) {
  if (std::optional<std::string> wrong = check(flags)) return complain(kExitUsage, *wrong);
  Result<run::ScratchDirectory> directory = run::ScratchDirectory::make();
  if (!directory) return complain(kExitGuardFailed, directory.error().text);
  Result<run::GuardedCommand> command = run::GuardedCommand::prepare();
  if (!command) return complain(kExitGuardFailed, command.error().text);
  if (Result<void> hardened = harden_process(); !hardened) return complain(kExitGuardFailed, hardened.error().text);
  return guard_command(flags, *command, directory->path());
}

}  // namespace

void add_run_command(CLI::App& app, int& exit_code, std::vector<std::string> words) {
  auto flags = std::make_shared<Flags>();
  CLI::App* run = app.add_subcommand("run", "Run one command under guard");
  run->add_option("--policy", flags->policy, "Policy document (docs/policy.md)")->type_name("FILE");
  guard::add_join_options(*run, flags->join);
  run->add_option("--data", flags->data,
                  "Keep what happens in this folder, with a controller in this process (docs/controller.md)")
      ->type_name("DIR");
  run->add_option("--mode", flags->mode, "learn, audit or enforce; overrides the document's")
      ->check(CLI::IsMember({"learn", "audit", "enforce"}));
  run->add_option("--learn", flags->learn, "Write a policy draft from what was seen; implies --mode learn")
      ->type_name("FILE");
  run->add_option("--record", flags->record, "Append one JSON line per exchange")->type_name("FILE");
  run->add_option("--traces", flags->traces, "Append what the command does as one execution (docs/executions.md)")
      ->type_name("FILE");
  run->add_option("--runtime-api", flags->runtime_api,
                  "AWS Lambda's Runtime API, whose invocations are executions (docs/executions.md)")
      ->type_name("HOST:PORT")
      ->envname("AWS_LAMBDA_RUNTIME_API");
  run->add_option(
         "--publish", flags->publish,
         "Let others reach a port of the command; each request is an execution (docs/executions.md); repeatable")
      ->type_name("[ADDRESS:]HOSTPORT:PORT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  run->add_option("--admin", flags->admin, "Serve /metrics, /healthz and /readyz on this unix socket")
      ->type_name("SOCKET");
  run->add_option("--upstream-ca", flags->upstream_ca, "More root certificates for upstream servers (PEM)")
      ->type_name("FILE");
  run->add_option("--ca-cert", flags->ca_cert, "CA certificate to use instead of one made for this run (PEM)")
      ->type_name("FILE");
  run->add_option("--ca-key", flags->ca_key, "Its private key (PEM)")->type_name("FILE");
  run->add_option("--image-digest", flags->image_digest,
                  "Of the image that the command runs from (sha256:…): a flow graph of another one is refused")
      ->type_name("DIGEST");
  run->add_flag("--quiet", flags->quiet, "No lines and no summary on the terminal");
  run->add_flag("--verbose", flags->verbose, "Lines and summary on standard error even if it is no terminal");
  run->add_option("command", flags->command, "The command and its arguments")->type_name("COMMAND [ARG...]");
  run->prefix_command(false);
  run->footer(
      "Example:\n  sallyport run --learn draft.yaml -- python3 function.py\n"
      "  sallyport run --policy draft.yaml --mode enforce -- python3 function.py\n"
      "Exit status: the command's own; 128+N if signal N ended it; 127 not found; 126 not executable;\n"
      "2 wrong flags or policy; 125 the guard itself failed.");
  run->callback([flags, words = std::move(words), &exit_code] {
    flags->command.insert(flags->command.end(), words.begin(), words.end());
    exit_code = run_command(*flags);
  });
}

}  // namespace sallyport::cli
