#include "proxy/run/redirect_rules.h"

#include <fcntl.h>
#include <nftables/libnftables.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "base/unique_fd.h"
#include "proxy/run/namespace_network.h"
#include "proxy/run/system_error.h"

namespace sallyport::run {
namespace {

std::string replace_all(std::string text, std::string_view from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

std::string fill_in(std::string_view rules, const char* address) {
  std::string text = replace_all(std::string(rules), "@tcp", std::to_string(kTcpListenerPort));
  text = replace_all(std::move(text), "@dns", std::to_string(kDnsListenerPort));
  text = replace_all(std::move(text), "@address6", kNamespaceAddress6);
  return replace_all(std::move(text), "@address", address);
}

// The filter sees destinations after redirection. A packet that connection tracking could not place (its table is full,
// or the packet is invalid) was not redirected, keeps its destination and is refused: failing closed. Transport headers
// are found behind IPv6 extension headers, and fragments are put together before any of these chains.
constexpr std::string_view kNftRules = R"(
table inet sallyport {
  chain capture {
    type nat hook output priority -100; policy accept;
    udp dport 53 redirect to :@dns
    tcp dport 53 redirect to :@dns
    ip daddr 127.0.0.0/8 accept
    ip daddr @address accept
    ip6 daddr ::1 accept
    ip6 daddr @address6 accept
    meta l4proto tcp redirect to :@tcp
  }
  chain leave {
    type filter hook output priority 0; policy drop;
    ip daddr 127.0.0.0/8 accept
    ip daddr @address accept
    ip6 daddr ::1 accept
    ip6 daddr @address6 accept
    ct state established,related accept
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }
}
)";

constexpr std::string_view kIptablesRules = R"(*nat
:OUTPUT ACCEPT [0:0]
-A OUTPUT -p udp --dport 53 -j REDIRECT --to-ports @dns
-A OUTPUT -p tcp --dport 53 -j REDIRECT --to-ports @dns
-A OUTPUT -d @loopback -j ACCEPT
-A OUTPUT -d @address -j ACCEPT
-A OUTPUT -p tcp -j REDIRECT --to-ports @tcp
COMMIT
*filter
:OUTPUT DROP [0:0]
-A OUTPUT -d @loopback -j ACCEPT
-A OUTPUT -d @address -j ACCEPT
-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -p tcp -j REJECT --reject-with tcp-reset
-A OUTPUT -j REJECT --reject-with @prohibited
COMMIT
)";

// libnftables writes some errors of its own straight to standard error ("you must be root"), which would send a user
// the wrong way.
class QuietErrors {
 public:
  QuietErrors() : before_(::fcntl(2, F_DUPFD_CLOEXEC, 3)) {
    UniqueFd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    ::dup2(null.get(), 2);
  }
  ~QuietErrors() { ::dup2(before_.get(), 2); }
  QuietErrors(const QuietErrors&) = delete;
  QuietErrors& operator=(const QuietErrors&) = delete;

 private:
  UniqueFd before_;
};

Result<void> install_with_nf_tables() {
  QuietErrors quiet;
  std::unique_ptr<nft_ctx, decltype(&nft_ctx_free)> context(nft_ctx_new(NFT_CTX_DEFAULT), &nft_ctx_free);
  if (!context || nft_ctx_buffer_error(context.get()) != 0 || nft_ctx_buffer_output(context.get()) != 0) {
    return system_failure("starting libnftables", ENOMEM);
  }
  // One buffer is one transaction: all of it or nothing.
  if (nft_run_cmd_from_buffer(context.get(), fill_in(kNftRules, kNamespaceAddress4).c_str()) != 0) {
    std::string text = nft_ctx_get_error_buffer(context.get());
    return fail(ErrorSource::internal, ErrorKind::unavailable, "nf_tables: " + text.substr(0, text.find('\n')));
  }
  return {};
}

Result<UniqueFd> file_of(const std::string& text) {
  UniqueFd file(::memfd_create("sallyport-rules", MFD_CLOEXEC));
  if (!file) return system_failure("making the rules");
  if (::pwrite(file.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return system_failure("making the rules");
  }
  return file;
}

// True: the program took the rules. Its output is dropped: which of several programs failed how is of no use to the
// user.
bool feed(const char* program, const std::string& rules) {
  auto input = file_of(rules);
  if (!input) return false;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input->get(), 0);
  ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  const char* argv[] = {program, nullptr};
  // The lock between users of iptables is a file that only root can make; nobody else is in this namespace yet.
  const char* environment[] = {"PATH=/usr/sbin:/sbin:/usr/bin:/bin", "XTABLES_LOCKFILE=/dev/null", nullptr};
  pid_t child = -1;
  int error =
      ::posix_spawn(&child, program, &actions, nullptr, const_cast<char**>(argv), const_cast<char**>(environment));
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return false;
  int status = -1;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool feed_any(std::initializer_list<const char*> programs, const std::string& rules) {
  for (const char* program : programs) {
    if (feed(program, rules)) return true;
  }
  return false;
}

Result<void> install_with_iptables(bool ipv6) {
  auto unavailable = [](const char* name) {
    return fail(ErrorSource::internal, ErrorKind::unavailable,
                std::string(name) +
                    " could not make the rules either: the kernel needs nf_tables, or iptables must be installed");
  };
  std::string rules4 = replace_all(fill_in(kIptablesRules, kNamespaceAddress4), "@loopback", "127.0.0.0/8");
  rules4 = replace_all(std::move(rules4), "@prohibited", "icmp-admin-prohibited");
  if (!feed_any({"/usr/sbin/iptables-legacy-restore", "/usr/sbin/iptables-restore", "/sbin/iptables-restore"},
                rules4)) {
    return unavailable("iptables-restore");
  }
  if (!ipv6) return {};
  std::string rules6 = replace_all(fill_in(kIptablesRules, kNamespaceAddress6), "@loopback", "::1");
  rules6 = replace_all(std::move(rules6), "@prohibited", "icmp6-adm-prohibited");
  if (!feed_any({"/usr/sbin/ip6tables-legacy-restore", "/usr/sbin/ip6tables-restore", "/sbin/ip6tables-restore"},
                rules6)) {
    return unavailable("ip6tables-restore");
  }
  return {};
}

}  // namespace

Result<void> install_redirect_rules(bool ipv6, PacketFilter with) {
  Result<void> by_nf_tables =
      with == PacketFilter::iptables ? system_failure("nf_tables", ENOTSUP) : install_with_nf_tables();
  if (by_nf_tables || with == PacketFilter::nf_tables) return by_nf_tables;
  Result<void> by_iptables = install_with_iptables(ipv6);
  if (by_iptables) return {};
  return fail(ErrorSource::internal, ErrorKind::unavailable,
              "redirecting the command's connections: " + by_nf_tables.error().text + "; " + by_iptables.error().text);
}

}  // namespace sallyport::run
