#include "proxy/net/resolver.h"

#include <ares.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/limits.h"

namespace sallyport::net {
namespace {

using request::IpAddress;
using std::chrono::milliseconds;

constexpr int kTries = 3;
constexpr int kEdnsBytes = 1'232;  // fits into IPv6's smallest MTU; longer answers come over TCP

struct ChannelDeleter {
  void operator()(ares_channeldata* channel) const noexcept { ares_destroy(channel); }
};
using ChannelPtr = std::unique_ptr<ares_channeldata, ChannelDeleter>;

struct AddrInfoDeleter {
  void operator()(ares_addrinfo* info) const noexcept { ares_freeaddrinfo(info); }
};
using AddrInfoPtr = std::unique_ptr<ares_addrinfo, AddrInfoDeleter>;

// What one family's question brought.
struct Answer {
  int status = ARES_ECONNREFUSED;
  std::vector<IpAddress> addresses = {};
  std::chrono::seconds ttl{0};
};

std::optional<IpAddress> address_of(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return IpAddress::from_v4(std::bit_cast<std::array<std::uint8_t, 4>>(v4.sin_addr.s_addr));
  }
  if (address.sa_family == AF_INET6) {
    return IpAddress::from_v6(std::to_array(reinterpret_cast<const sockaddr_in6&>(address).sin6_addr.s6_addr));
  }
  return std::nullopt;
}

// The smallest TTL of the addresses and of the aliases that led to them.
std::chrono::seconds ttl_of(const ares_addrinfo& info) {
  int ttl = static_cast<int>(limits::kResolverTtlMax.count());
  for (const auto* node = info.nodes; node != nullptr; node = node->ai_next) ttl = std::min(ttl, node->ai_ttl);
  for (const auto* alias = info.cnames; alias != nullptr; alias = alias->next) ttl = std::min(ttl, alias->ttl);
  return std::max(std::chrono::seconds(ttl), limits::kResolverTtlMin);
}

Answer to_answer(int status, const ares_addrinfo* info) {
  Answer answer{.status = status};
  if (status != ARES_SUCCESS || info == nullptr) return answer;
  for (const auto* node = info->nodes; node != nullptr; node = node->ai_next) {
    const auto address = address_of(*node->ai_addr);
    if (!address || std::ranges::find(answer.addresses, *address) != answer.addresses.end()) continue;
    if (answer.addresses.size() == limits::kAddressesPerNameMax) break;
    answer.addresses.push_back(*address);
  }
  answer.ttl = ttl_of(*info);
  if (answer.addresses.empty()) answer.status = ARES_ENODATA;
  return answer;
}

// IPv6 and IPv4 in turn, each in the order of the servers.
std::vector<IpAddress> interleave(const std::vector<IpAddress>& addresses) {
  std::array<std::vector<IpAddress>, 2> families;
  for (const IpAddress& address : addresses) families[address.is_v4() ? 1 : 0].push_back(address);
  std::vector<IpAddress> result;
  const std::size_t rounds = std::max(families[0].size(), families[1].size());
  for (std::size_t round = 0; round < rounds; ++round) {
    for (const auto& family : families) {
      if (round < family.size() && result.size() < limits::kAddressesPerNameMax) result.push_back(family[round]);
    }
  }
  return result;
}

// A name being looked up; shared by those who wait for it.
struct Lookup {
  Lookup(Loop& loop, std::string name) : host(std::move(name)), changed(loop), done(loop) {}
  const std::string host;
  std::map<int, Answer> answers;  // by family: AF_INET, AF_INET6
  Event changed;                  // an answer has come
  Event done;
  ResolveResult result = std::unexpected(ResolveFailure{});

  bool has_addresses() const {
    return std::ranges::any_of(answers, [](const auto& entry) { return !entry.second.addresses.empty(); });
  }
  bool has_status(int status) const {
    return std::ranges::any_of(answers, [status](const auto& entry) { return entry.second.status == status; });
  }
};

struct Cached {
  ResolveResult result;
  Deadline expires;
};

struct Core;

// The argument of one question to c-ares, which owns it until it calls back.
struct Question {
  Core& core;  // destroys its channel, and with it all questions, before it goes
  std::shared_ptr<Lookup> lookup;
  int family;
};

// A socket of c-ares. The loop has a duplicate of the descriptor, as both sides close theirs.
struct Watched {
  Watched(Loop& loop, UniqueFd duplicate, ares_socket_t number) : socket(loop, std::move(duplicate)), fd(number) {}
  Socket socket;
  const ares_socket_t fd;  // as c-ares knows it
  bool readable = false;
  bool writable = false;
};

struct FileVersion {
  ino_t inode = 0;
  timespec changed{};
  bool operator==(const FileVersion& other) const {
    return inode == other.inode && changed.tv_sec == other.changed.tv_sec && changed.tv_nsec == other.changed.tv_nsec;
  }
};

FileVersion version_of(const char* path) {
  struct stat status{};
  if (::stat(path, &status) != 0) return {};
  return {status.st_ino, status.st_mtim};
}

// Everything that coroutines and c-ares share; held by the resolver and by its coroutines. After close() nothing of
// c-ares is left, and coroutines end when they are resumed.
struct Core : std::enable_shared_from_this<Core> {
  Core(Loop& event_loop, ResolverOptions resolver_options)
      : loop(event_loop), options(std::move(resolver_options)), kick(event_loop) {}

  Result<void> open();
  void close();
  void reopen_if_changed();

  std::optional<ResolveResult> cached(const std::string& host);
  void remember(const Lookup& lookup);
  std::shared_ptr<Lookup> join(const std::string& host);
  void ask(const std::shared_ptr<Lookup>& lookup, int family);
  void finish(Lookup& lookup);

  Loop& loop;
  const ResolverOptions options;
  ChannelPtr files;    // /etc/hosts; calls back at once
  ChannelPtr channel;  // the servers
  std::string servers;
  FileVersion resolv_conf;
  bool closed = false;
  std::size_t questions = 0;  // open at c-ares
  bool ticking = false;
  Event kick;  // there is a new question: the next timeout may be nearer
  std::unordered_map<ares_socket_t, std::shared_ptr<Watched>> watched;
  std::unordered_map<std::string, std::shared_ptr<Lookup>> lookups;
  std::unordered_map<std::string, Cached> cache;
};

// c-ares closes its sockets while it handles them, so a coroutine looks again after each call.
Task<void> watch_reads(std::shared_ptr<Core> core, std::shared_ptr<Watched> watched) {
  while (true) {
    const Wait wait = co_await watched->socket.wait_readable(kNoDeadline);  // c-ares keeps the time
    if (wait != Wait::ready || core->closed || !watched->readable) co_return;
    ares_process_fd(core->channel.get(), watched->fd, ARES_SOCKET_BAD);
  }
}

Task<void> watch_writes(std::shared_ptr<Core> core, std::shared_ptr<Watched> watched) {
  while (true) {
    const Wait wait = co_await watched->socket.wait_writable(kNoDeadline);  // c-ares keeps the time
    if (wait != Wait::ready || core->closed || !watched->writable) co_return;
    ares_process_fd(core->channel.get(), ARES_SOCKET_BAD, watched->fd);
  }
}

void on_socket_state(void* data, ares_socket_t fd, int readable, int writable) {
  Core& core = *static_cast<Core*>(data);
  if (readable == 0 && writable == 0) {
    const auto found = core.watched.find(fd);
    if (found == core.watched.end()) return;
    found->second->readable = found->second->writable = false;
    found->second->socket.cancel();
    core.watched.erase(found);
    return;
  }
  auto& watched = core.watched[fd];
  if (!watched) watched = std::make_shared<Watched>(core.loop, UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)), fd);
  const bool was_readable = std::exchange(watched->readable, readable != 0);
  const bool was_writable = std::exchange(watched->writable, writable != 0);
  const auto held = watched;
  if (held->readable && !was_readable) core.loop.spawn(watch_reads(core.shared_from_this(), held));
  if (held->writable && !was_writable) core.loop.spawn(watch_writes(core.shared_from_this(), held));
}

ares_socket_t open_socket(int domain, int type, int protocol, void* /*unused*/) {
  return ::socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

int close_socket(ares_socket_t fd, void* /*unused*/) { return ::close(fd); }

int connect_socket(ares_socket_t fd, const sockaddr* address, socklen_t length, void* /*unused*/) {
  return ::connect(fd, address, length);
}

ares_ssize_t receive_from(ares_socket_t fd, void* buffer, std::size_t size, int flags, sockaddr* address,
                          socklen_t* length, void* /*unused*/) {
  return ::recvfrom(fd, buffer, size, flags, address, length);
}

// A datagram socket says with the next call that an earlier question found no server. To c-ares that would be about the
// new question alone, and the earlier one would wait for its timeout; sent again, the new one brings the same news to a
// read, which c-ares takes as it is meant.
ares_ssize_t send_vector(ares_socket_t fd, const iovec* parts, int count, void* /*unused*/) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = static_cast<std::size_t>(count);
  const ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
  return sent < 0 && errno == ECONNREFUSED ? ::sendmsg(fd, &message, MSG_NOSIGNAL) : sent;
}

constexpr ares_socket_functions kSocketFunctions{open_socket, close_socket, connect_socket, receive_from, send_vector};

// Lets c-ares see to its timeouts for as long as it has questions.
Task<void> tick(std::shared_ptr<Core> core) {
  while (!core->closed && core->questions > 0) {
    timeval at_most{.tv_sec = 1, .tv_usec = 0};
    timeval left{};
    const timeval* next = ares_timeout(core->channel.get(), &at_most, &left);
    const auto delay = std::chrono::seconds(next->tv_sec) + std::chrono::microseconds(next->tv_usec);
    core->kick.reset();
    const Wait wait = co_await core->kick.wait(core->loop.in(delay));
    if (wait == Wait::timeout && !core->closed) {
      ares_process_fd(core->channel.get(), ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    }
  }
  core->ticking = false;
}

void on_answer(void* argument, int status, int /*timeouts*/, ares_addrinfo* info) {
  const std::unique_ptr<Question> question(static_cast<Question*>(argument));
  const AddrInfoPtr owned(info);
  --question->core.questions;
  question->lookup->answers[question->family] = to_answer(status, info);
  question->lookup->changed.set();
  if (question->core.questions == 0) question->core.kick.set();  // the ticking ends
}

void on_file_answer(void* argument, int status, int /*timeouts*/, ares_addrinfo* info) {
  const AddrInfoPtr owned(info);
  *static_cast<Answer*>(argument) = to_answer(status, info);
}

std::string text_of(const ares_addr_port_node& server) {
  const int port = server.udp_port == 0 ? 53 : server.udp_port;
  if (server.family == AF_INET) {
    return IpAddress::from_v4(std::bit_cast<std::array<std::uint8_t, 4>>(server.addr.addr4.s_addr)).to_string() + ":" +
           std::to_string(port);
  }
  std::array<std::uint8_t, 16> bytes;
  std::copy_n(reinterpret_cast<const std::uint8_t*>(&server.addr.addr6), bytes.size(), bytes.begin());
  return "[" + IpAddress::from_v6(bytes).to_string() + "]:" + std::to_string(port);
}

std::string servers_of(ares_channeldata* channel) {
  ares_addr_port_node* first = nullptr;
  std::string text;
  if (ares_get_servers_ports(channel, &first) != ARES_SUCCESS) return text;
  for (const auto* server = first; server != nullptr; server = server->next) {
    if (!text.empty()) text += ", ";
    text += text_of(*server);
  }
  ares_free_data(first);
  return text;
}

ares_options common_options(const char* lookups) {
  ares_options options{};
  // Neither aliases of the environment nor search domains: the name is looked up as it is.
  options.flags = ARES_FLAG_NOALIASES | ARES_FLAG_NOSEARCH | ARES_FLAG_EDNS;
  options.timeout = static_cast<int>(limits::kResolveTryTimeout.count());
  options.tries = kTries;
  options.ednspsz = kEdnsBytes;
  options.lookups = const_cast<char*>(lookups);  // c-ares copies it
  return options;
}

constexpr int kCommonOptions =
    ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ | ARES_OPT_LOOKUPS | ARES_OPT_DOMAINS;

Result<ChannelPtr> make_channel(ares_options options, int mask) {
  ares_channel raw = nullptr;
  const int status = ares_init_options(&raw, &options, mask);
  if (status != ARES_SUCCESS) {
    return fail(ErrorSource::internal, ErrorKind::unavailable,
                std::string("the resolver can't start: ") + ares_strerror(status));
  }
  return ChannelPtr(raw);
}

Result<void> Core::open() {
  resolv_conf = version_of(options.resolv_conf.c_str());
  auto for_files = make_channel(common_options("f"), kCommonOptions);
  if (!for_files) return std::unexpected(for_files.error());
  ares_options with_callback = common_options("b");
  with_callback.sock_state_cb = on_socket_state;
  with_callback.sock_state_cb_data = this;
  with_callback.resolvconf_path = const_cast<char*>(options.resolv_conf.c_str());  // c-ares copies it
  auto for_servers = make_channel(with_callback, kCommonOptions | ARES_OPT_SOCK_STATE_CB | ARES_OPT_RESOLVCONF);
  if (!for_servers) return std::unexpected(for_servers.error());
  if (!options.servers.empty() &&
      ares_set_servers_ports_csv(for_servers->get(), options.servers.c_str()) != ARES_SUCCESS) {
    return fail(ErrorSource::internal, ErrorKind::invalid,
                "the servers of the resolver are not addresses with ports: \"" + options.servers + "\"");
  }
  ares_set_socket_functions(for_servers->get(), &kSocketFunctions, nullptr);
  files = std::move(*for_files);
  channel = std::move(*for_servers);
  servers = servers_of(channel.get());
  return {};
}

void Core::close() {
  closed = true;
  channel.reset();  // its questions are answered with ARES_EDESTRUCTION
  files.reset();
  kick.set();
}

// Networks change under a long-lived guard. Only between questions: those under way belong to the old servers. Should
// the new file be unusable, the old servers stay.
void Core::reopen_if_changed() {
  if (questions > 0 || !options.servers.empty() || version_of(options.resolv_conf.c_str()) == resolv_conf) return;
  [[maybe_unused]] const auto opened = open();
}

std::optional<ResolveResult> Core::cached(const std::string& host) {
  const auto found = cache.find(host);
  if (found == cache.end()) return std::nullopt;
  if (found->second.expires > loop.now()) return found->second.result;
  cache.erase(found);
  return std::nullopt;
}

// What the servers said is remembered, a failure to ask them is not. A result that lacks one family's answer is kept no
// longer than a "no".
void Core::remember(const Lookup& lookup) {
  std::chrono::seconds ttl = limits::kResolverTtlMax;
  for (const auto& [family, answer] : lookup.answers) {
    const bool no = answer.status == ARES_ENOTFOUND || answer.status == ARES_ENODATA;
    if (answer.status != ARES_SUCCESS && !no && !lookup.has_addresses()) return;
    ttl = std::min(ttl, answer.status == ARES_SUCCESS ? answer.ttl : limits::kResolverTtlMax);
    if (answer.status != ARES_SUCCESS && !no) ttl = std::min(ttl, limits::kResolverNegativeTtl);
  }
  if (!lookup.has_addresses() || lookup.answers.size() < 2) ttl = std::min(ttl, limits::kResolverNegativeTtl);
  if (lookup.answers.empty()) return;
  if (cache.size() >= limits::kResolverCacheMax) {
    const auto soonest = std::ranges::min_element(cache, {}, [](const auto& entry) { return entry.second.expires; });
    cache.erase(soonest);
  }
  cache.insert_or_assign(lookup.host, Cached{lookup.result, loop.in(ttl)});
}

void Core::ask(const std::shared_ptr<Lookup>& lookup, int family) {
  ares_addrinfo_hints hints{};
  hints.ai_flags = ARES_AI_NOSORT;
  hints.ai_family = family;
  ++questions;
  // c-ares calls back exactly once, also when the channel is destroyed: the callback takes it back.
  auto question = std::unique_ptr<Question>(new Question{*this, lookup, family});
  ares_getaddrinfo(channel.get(), lookup->host.c_str(), nullptr, &hints, on_answer, question.release());
  kick.set();
}

// NXDOMAIN speaks for both families; else the more telling of the two.
int failure_status(const Lookup& lookup) {
  for (const int status : {ARES_ENOTFOUND, ARES_ETIMEOUT, ARES_ESERVFAIL, ARES_EREFUSED, ARES_ECONNREFUSED}) {
    if (lookup.has_status(status)) return status;
  }
  return lookup.answers.size() < 2 ? ARES_ETIMEOUT : lookup.answers.begin()->second.status;
}

ResolveFailure failure_of(const Lookup& lookup, const std::string& servers) {
  const int status = failure_status(lookup);
  ResolveFailure failure{.timed_out = status == ARES_ETIMEOUT, .text = "the name " + lookup.host};
  if (status == ARES_ENOTFOUND) {
    failure.text += " does not exist (NXDOMAIN)";
  } else if (status == ARES_ENODATA) {
    failure.text += " has no IPv4 or IPv6 address";
  } else if (status == ARES_ETIMEOUT) {
    failure.text += " could not be looked up: no answer in time";
  } else if (status == ARES_ECONNREFUSED) {
    failure.text += " could not be looked up: no server answers";
  } else {
    failure.text += std::string(" could not be looked up: ") + ares_strerror(status);
  }
  failure.text += servers.empty() ? "; no DNS servers are configured" : "; asked " + servers;
  return failure;
}

void Core::finish(Lookup& lookup) {
  std::vector<IpAddress> addresses;
  for (const auto& [family, answer] : lookup.answers) {
    addresses.insert(addresses.end(), answer.addresses.begin(), answer.addresses.end());
  }
  if (addresses.empty()) {
    lookup.result = std::unexpected(failure_of(lookup, servers));
  } else {
    lookup.result = interleave(addresses);
  }
  if (!closed) remember(lookup);
  lookups.erase(lookup.host);
  lookup.done.set();
}

// Asks for both families and waits for both, but not long for the second once the first has brought addresses (RFC 8305
// section 3) or the news that the name does not exist: some servers never answer AAAA, or say NXDOMAIN to it (RFC
// 4074).
Task<void> look_up(std::shared_ptr<Core> core, std::shared_ptr<Lookup> lookup) {
  Deadline deadline = core->loop.in(limits::kResolveTimeout);
  core->ask(lookup, AF_INET6);
  core->ask(lookup, AF_INET);
  while (lookup->answers.size() < 2) {
    lookup->changed.reset();
    const Wait wait = co_await lookup->changed.wait(deadline);
    if (wait != Wait::ready) break;
    if (!lookup->has_addresses() && !lookup->has_status(ARES_ENOTFOUND)) continue;
    deadline = std::min(deadline, core->loop.in(limits::kResolveSecondFamilyDelay));
  }
  core->finish(*lookup);
}

// The lookup of the name that is under way, or a new one; nullptr when there are too many.
std::shared_ptr<Lookup> Core::join(const std::string& host) {
  if (const auto found = lookups.find(host); found != lookups.end()) return found->second;
  if (lookups.size() >= limits::kResolverLookupsMax) return nullptr;
  reopen_if_changed();
  auto lookup = std::make_shared<Lookup>(loop, host);
  lookups.emplace(host, lookup);
  loop.spawn(look_up(shared_from_this(), lookup));
  if (!ticking && questions > 0) {
    ticking = true;
    loop.spawn(tick(shared_from_this()));
  }
  return lookup;
}

// /etc/hosts, which overrides the servers for both families at once.
std::optional<std::vector<IpAddress>> look_up_in_files(Core& core, const std::string& host) {
  ares_addrinfo_hints hints{};
  hints.ai_flags = ARES_AI_NOSORT;
  hints.ai_family = AF_UNSPEC;
  Answer answer;
  ares_getaddrinfo(core.files.get(), host.c_str(), nullptr, &hints, on_file_answer, &answer);
  if (answer.addresses.empty()) return std::nullopt;
  return interleave(answer.addresses);
}

Task<ResolveResult> resolve_in(std::shared_ptr<Core> core, std::string host, Deadline deadline) {
  if (const auto literal = IpAddress::parse(host)) co_return std::vector{*literal};
  if (const auto known = core->cached(host)) co_return *known;
  if (const auto from_files = look_up_in_files(*core, host)) co_return *from_files;
  const std::shared_ptr<Lookup> lookup = core->join(host);
  if (!lookup) {
    co_return std::unexpected(ResolveFailure{
        .text = "the name " + host + " could not be looked up: " + std::to_string(limits::kResolverLookupsMax) +
                " lookups are under way, the most at one time"});
  }
  const Wait wait = co_await lookup->done.wait(deadline);
  if (wait == Wait::ready) co_return lookup->result;
  // The lookup goes on without us: who asks next may find its answer.
  co_return std::unexpected(ResolveFailure{
      .timed_out = true,
      .text = "the name " + host + " could not be looked up: no answer in time; asked " + core->servers});
}

class CaresResolver final : public Resolver {
 public:
  explicit CaresResolver(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  CaresResolver(const CaresResolver&) = delete;
  CaresResolver& operator=(const CaresResolver&) = delete;
  ~CaresResolver() override { core_->close(); }
  Task<ResolveResult> resolve(std::string host, Deadline deadline) override {
    return resolve_in(core_, std::move(host), deadline);
  }

 private:
  std::shared_ptr<Core> core_;
};

}  // namespace

Result<std::unique_ptr<Resolver>> make_resolver(Loop& loop, ResolverOptions options) {
  static const int library = ares_library_init(ARES_LIB_INIT_ALL);
  if (library != ARES_SUCCESS) {
    return fail(ErrorSource::internal, ErrorKind::unavailable,
                std::string("c-ares can't start: ") + ares_strerror(library));
  }
  auto core = std::make_shared<Core>(loop, std::move(options));
  if (auto opened = core->open(); !opened) return std::unexpected(opened.error());
  return std::make_unique<CaresResolver>(std::move(core));
}

}  // namespace sallyport::net
