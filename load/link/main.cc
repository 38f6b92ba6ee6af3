// sallyport-link-load: what the link between guards and the controller costs, on loopback and over TLS. The server is
// always a process of its own, whose CPU time is what "per core" means.
//
//   asks    one guard that asks one thing after the other, with all that a guard does (its thread, its queues), and
//           many guards that ask at once; gRPC's own library beside it, in turns
//   events  guards that report as fast as they can, to a handler that counts
//   updates one Update to many guards, until the last of them has it
//   idle    the memory of connections that are silent
//   state   the memory of executions that are tracked, of the whole controller alone
//
// With --controller the server is the whole controller with a store on the disk, not a handler that only answers and
// counts: then asks are decided by an application's state, and events are stored before they are acknowledged. With
// --redis its store is a redis-server that is started for it, whose log is on the same disk; with --new-host guards
// have certificates, and each Update has a host that they are not for, so each asks for another before it takes it.
//
// A machine does other things meanwhile: each is measured several times, and both the middle and the best are told.

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <thread>

#include "base/read_file.h"
#include "ca/authority.h"
#include "ca/certificate_request.h"
#include "controller/core/controller.h"
#include "controller/link/link_server.h"
#include "controller/link/raw_guard.h"
#include "controller/store/redis_store.h"
#include "controller/store/sqlite_store.h"
#include "load/link/link_load.h"
#include "proxy/link/remote_link.h"
#include "proxy/net/listen.h"
#include "proxy/net/test_certificates.h"
#include "proxy/net/test_peer.h"
#include "proxy/net/trust_store.h"

namespace sallyport::load {
namespace {

using namespace std::chrono_literals;
using controller::LinkHandler;
using controller::LinkId;
using controller::Links;
using controller::testing::RawGuard;
using controller::v1alpha1::Envelope;
using net::Task;
using SteadyClock = std::chrono::steady_clock;

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "sallyport-link-load: %s\n", what.c_str());
  std::exit(1);
}

struct Identity {
  Identity() {
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    auto authority = ca::Authority::create_root(nullptr, {}, now);
    auto key = ca::make_p256_key(nullptr);
    const std::string_view hosts[] = {"127.0.0.1"};
    auto leaf = authority->issue_leaf(hosts, key->get(), 24h, now);
    certificates_pem = *ca::chain_pem(leaf->get(), authority->chain());
    key_pem = std::string(ca::bio_view(ca::private_key_pem(key->get())->get()));
    root_pem = authority->trust_pem();
  }
  std::string certificates_pem, key_pem, root_pem;
};

constexpr std::size_t kUpdateBytes = 4'096;

bool whole_controller = false;
bool with_redis = false;
bool new_hosts = false;

// A whole controller has its store in Redis if the file with this name is in its folder, which has the URL.
constexpr const char* kRedisUrlFile = "/redis-url";

// Answers asks with as much as they bring, takes events, and has an Update for everybody when one guard wants to be
// renewed. It serves one thread.
class Handler final : public LinkHandler {
 public:
  void connected(Links& way, LinkId link, controller::v1alpha1::Register&&) override {
    way_ = &way;
    links_.insert(link);
    Envelope answer;
    answer.mutable_registered()->set_guard_id(std::string(16, 'g'));
    answer.mutable_registered()->set_beat_ms(60'000);
    way.send(link, answer);
  }
  void received(LinkId link, Envelope&& envelope) override {
    Envelope answer;
    if (envelope.has_renew()) return update_all();
    if (envelope.has_entry_ask()) {
      answer.mutable_entry_answer()->set_number(envelope.entry_ask().number());
      answer.mutable_entry_answer()->set_allowed(true);
      answer.mutable_entry_answer()->set_refusal(envelope.entry_ask().inbound().path());
    } else if (envelope.has_events()) {
      answer.mutable_events_taken()->set_sequence(envelope.events().events().rbegin()->sequence());
    } else {
      return;
    }
    way_->send(link, answer);
  }
  void closed(LinkId link, const std::string&) override { links_.erase(link); }

 private:
  void update_all() {
    Envelope envelope;
    envelope.mutable_update()->set_generation(++generation_);
    envelope.mutable_update()->add_announced()->set_request(std::string(kUpdateBytes, 'x'));
    const std::vector<LinkId> all(links_.begin(), links_.end());
    way_->send_all(all, controller::SharedEnvelope(envelope));
  }

  Links* way_ = nullptr;
  std::set<LinkId> links_;
  std::uint64_t generation_ = 0;
};

constexpr std::string_view kPolicy = R"(apiVersion: sallyport.dev/v1alpha1
kind: EgressPolicy
metadata: {name: checkout}
spec:
  endpoints:
  - {name: things, host: api.example.com, rules: [{methods: [GET], path: {prefix: /}}]}
)";

constexpr std::string_view kGraph = R"(apiVersion: sallyport.dev/v1alpha1
kind: ApplicationGraph
metadata: {name: shop}
spec:
  functions:
  - {name: checkout, entry: true}
  - {name: mail, after: [{function: checkout, through: "PUT queue.example.com/{any}"}]}
)";

// What is measured is how much the controller can take, and not how much it lets one guard tell.
constexpr controller::Tracker::Budgets kNoBounds = {1e12, 1e12, 1e12, 1e12};

// The controller, and an application in it whose join token is left in a file.
class WholeController {
 public:
  WholeController(const std::string& folder, const std::string& token_file) : store_(open(folder)) {
    auto started =
        controller::Controller::start(*store_, {.beat = std::chrono::seconds(60), .budgets = kNoBounds, .say = {}});
    if (!started) die(started.error().text);
    controller_ = std::move(*started);
    if (!controller_->create_application("shop", "load")) die("no application");
    put(controller::DocumentKind::policy, std::string(kPolicy));
    put(controller::DocumentKind::application_graph, std::string(kGraph));
    const auto token = controller_->make_token("shop", "", std::nullopt, "load");
    if (!token || !write_file(token_file, token->text)) die("no token");
  }
  LinkHandler& handler() { return *controller_; }
  // A policy of about kUpdateBytes, that differs each time.
  void change() {
    std::string text(kPolicy);
    for (int i = 0; text.size() < kUpdateBytes; ++i) {
      text += "  - {name: more" + std::to_string(i) + ", host: more" + std::to_string(++changes_) +
              ".example.com, rules: [{methods: [GET], path: {prefix: /}}]}\n";
    }
    put(controller::DocumentKind::policy, text);
  }

 private:
  static std::unique_ptr<controller::Store> open(const std::string& folder) {
    const auto url = read_file(folder + kRedisUrlFile, 1'024);
    if (!url) {
      auto opened = controller::SqliteStore::open(folder + "/data");
      if (!opened) die(opened.error().text);
      return std::move(*opened);
    }
    auto opened = controller::RedisStore::open(*controller::parse_redis_url(*url), 0, folder + "/data",
                                               {.on_lost = [] { die("another has the Redis"); }});
    if (!opened) die(opened.error().text);
    return std::move(*opened);
  }
  void put(controller::DocumentKind kind, std::string text) {
    controller::Document document;
    document.application = "shop";
    document.function = kind == controller::DocumentKind::policy ? "checkout" : "";
    document.kind = kind;
    document.text = std::move(text);
    const auto put = controller_->put_document(document, 0, "load");
    if (!put || put->version == 0) die("a document was refused");
  }
  std::unique_ptr<controller::Store> store_;
  std::unique_ptr<controller::Controller> controller_;
  int changes_ = 0;
};

// What `serve` does: one thread that serves until it is killed, and with a folder beside it the controller's others.
// The policy changes at each SIGUSR1.
[[noreturn]] void serve(const std::string& certificates_file, const std::string& key_file, const std::string& port,
                        const std::string& folder) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  Handler counting;
  std::optional<WholeController> whole;
  if (!folder.empty()) whole.emplace(folder, folder + "/token");
  LinkHandler& handler = whole ? whole->handler() : counting;
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  std::vector<UniqueFd> listening;
  auto fd = net::listen_on("127.0.0.1:" + port, false);
  if (!fd) die(fd.error().text);
  listening.push_back(std::move(*fd));
  const auto certificates = net::read_trust_file(certificates_file), key = net::read_trust_file(key_file);
  if (!certificates || !key) die("no certificate");
  const auto server = controller::LinkServer::start({.certificates_pem = *certificates, .key_pem = *key},
                                                    std::move(listening), handler);
  if (!server) die(server.error().text);
  for (;;) {
    int received = 0;
    sigwait(&signals, &received);
    if (whole) whole->change();
  }
}

// For a store: on a disk, not in memory.
class Folder {
 public:
  Folder() {
    if (whole_controller && ::mkdtemp(path_.data()) == nullptr) die("no folder in /var/tmp");
    if (!whole_controller) path_.clear();
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/var/tmp/sallyport-link-load.XXXXXX";
};

bool reachable(std::uint16_t port) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

// A Redis that keeps a log as one would that must not forget, with what is Debian's default of it: once a second on the
// disk.
std::unique_ptr<Child> redis_for(const std::string& folder) {
  const std::uint16_t port = free_port();
  auto out = std::make_unique<Child>(
      std::vector<std::string>{"/usr/bin/redis-server", "--port", std::to_string(port), "--bind", "127.0.0.1", "--dir",
                               folder, "--save", "", "--appendonly", "yes", "--logfile", folder + "/redis.log"});
  while (!reachable(port)) std::this_thread::sleep_for(5ms);
  if (!write_file(folder + kRedisUrlFile, "redis://127.0.0.1:" + std::to_string(port))) die("no folder for Redis");
  return out;
}

// A server with one thread, in a process of its own.
class Server {
 public:
  explicit Server(const Identity& identity)
      : certificates_(identity.certificates_pem),
        key_(identity.key_pem),
        port_(free_port()),
        redis_(with_redis ? redis_for(folder_.path()) : nullptr),
        child_({"/proc/self/exe", "serve", certificates_.path(), key_.path(), std::to_string(port_), folder_.path()}) {
    while (!reachable(port_)) std::this_thread::sleep_for(5ms);
    if (!whole_controller) return;
    const auto token = read_file(folder_.path() + "/token", 1'024);
    if (!token) die(token.error().text);
    token_ = *token;
  }
  const std::string& token() const { return token_; }
  std::uint16_t port() const { return port_; }
  const Child& child() const { return child_; }

  double redis_cpu_seconds() const { return redis_ ? redis_->cpu_seconds() : 0; }

 private:
  net::testing::TemporaryFile certificates_, key_;
  std::uint16_t port_;
  Folder folder_;
  std::string token_ = "token";
  std::unique_ptr<Child> redis_;
  Child child_;
};

std::unique_ptr<link::RemoteLink> guard(const Server& server, const std::string& ca_file) {
  auto link = link::RemoteLink::start({.host = "127.0.0.1", .port = server.port(), .ca_file = ca_file},
                                      [token = server.token()] {
                                        static std::atomic<int> instances = 0;
                                        return Result<controller::v1alpha1::Register>(
                                            RawGuard::hello("one-" + std::to_string(++instances), token).register_());
                                      },
                                      {});
  if (!link) die(link.error().text);
  while ((*link)->status().state != link::LinkState::connected) std::this_thread::sleep_for(1ms);
  return std::move(*link);
}

double since(SteadyClock::time_point begun) {
  return std::chrono::duration<double, std::micro>(SteadyClock::now() - begun).count();
}

std::string new_execution() {
  static std::uint64_t serial = 0;
  std::string id(16, 'e');
  ++serial;
  std::memcpy(id.data(), &serial, sizeof serial);
  return id;
}

Task<void> ask_on(net::Loop& loop, link::ControllerLink& link, Calls& calls, SteadyClock::time_point until) {
  while (SteadyClock::now() < until) {
    controller::v1alpha1::EntryAsk ask;
    ask.set_execution(new_execution());
    ask.mutable_inbound()->set_path(std::string(kPayloadBytes, 'x'));
    const auto begun = SteadyClock::now();
    const auto answer = co_await link.ask(loop, std::move(ask), loop.in(10s));
    if (!answer) die(answer.error().text);
    calls.microseconds.push_back(since(begun));
  }
  loop.stop();
}

// One guard, one ask after the other: what an execution waits.
Calls one_after_the_other(const Identity& identity, double seconds) {
  const net::testing::TemporaryFile root(identity.root_pem);
  const Server server(identity);
  const auto link = guard(server, root.path());
  net::Loop loop;
  Calls calls;
  const double cpu = server.child().cpu_seconds();
  const auto begun = SteadyClock::now();
  loop.spawn(ask_on(loop, *link, calls,
                    begun + std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(seconds))));
  loop.run();
  calls.seconds = since(begun) / 1e6;
  calls.server_cpu_seconds = server.child().cpu_seconds() - cpu;
  return calls;
}

struct Crowd {
  std::size_t open = 0, failed = 0;
};

// Of one key for all: what is to be done for each is the same.
const std::string& certificate_request() {
  static const std::string request = *ca::make_certificate_request(nullptr, ca::make_p256_key(nullptr)->get());
  return request;
}

Task<void> join(net::Loop& loop, RawGuard& guard, std::string name, std::string token, Crowd& crowd) {
  const Result<void> opened = co_await guard.open(loop.in(120s));
  if (!opened) die(opened.error().text);
  Envelope hello = RawGuard::hello(name, token);
  if (new_hosts) hello.mutable_register_()->set_certificate_request(certificate_request());
  guard.send(hello);
  const auto answer = co_await guard.receive(loop.in(120s));
  if (answer && answer->has_registered()) {
    ++crowd.open;
  } else {
    ++crowd.failed;
  }
}

// Not more than some at a time: whoever is not registered in a second makes room for others.
Task<void> join_all(net::Loop& loop, SSL_CTX* context, const Server& server, std::size_t count,
                    std::vector<std::unique_ptr<RawGuard>>& guards, Crowd& crowd) {
  constexpr std::size_t kAtOnce = 100;
  while (crowd.open + crowd.failed < count) {
    while (guards.size() < count && guards.size() < crowd.open + crowd.failed + kAtOnce) {
      guards.push_back(std::make_unique<RawGuard>(loop, context, server.port()));
      loop.spawn(join(loop, *guards.back(), std::to_string(guards.size()), server.token(), crowd));
    }
    co_await loop.sleep_until(loop.in(1ms));
  }
  loop.stop();
}

// Guards by hand, registered.
class Registered {
 public:
  explicit Registered(const Server& server) : server_(server), context_(net::testing::client_context(nullptr)) {}
  void join(std::size_t count) {
    loop.spawn(join_all(loop, context_.get(), server_, count, guards, crowd));
    loop.run();
    if (crowd.failed > 0) die("not every guard was registered");
  }
  net::Loop loop;
  std::vector<std::unique_ptr<RawGuard>> guards;
  Crowd crowd;

 private:
  const Server& server_;
  net::testing::ContextPtr context_;
};

// How long a guard asks.
struct Enough {
  std::uint64_t asks;
  SteadyClock::time_point until;
};

Task<void> ask_by_hand(net::Loop& loop, RawGuard& guard, unsigned at_once, std::uint64_t& answers, Enough enough,
                       std::size_t& running) {
  Envelope ask;
  ask.mutable_entry_ask()->mutable_inbound()->set_path(std::string(kPayloadBytes, 'x'));
  const auto send = [&] {
    ask.mutable_entry_ask()->set_execution(new_execution());
    guard.send(ask);
  };
  for (unsigned i = 0; i < at_once; ++i) send();
  unsigned under_way = at_once;
  std::uint64_t sent = at_once;
  while (under_way > 0) {
    const auto answer = co_await guard.receive(loop.in(30s));
    if (!answer) die(answer.error().text);
    if (!answer->has_entry_answer()) continue;  // it is given its policy meanwhile
    if (!answer->entry_answer().allowed()) die(answer->entry_answer().refusal());
    ++answers;
    --under_way;
    if (SteadyClock::now() >= enough.until || sent >= enough.asks) continue;
    send();
    ++sent;
    ++under_way;
  }
  if (--running == 0) loop.stop();
}

// Many guards that ask at once: what one core of the controller answers.
Calls at_once(const Identity& identity, std::size_t count, unsigned each, double seconds) {
  const Server server(identity);
  Registered crowd(server);
  crowd.join(count);
  std::uint64_t answers = 0;
  std::size_t running = count;
  const double cpu = server.child().cpu_seconds();
  const auto begun = SteadyClock::now();
  const auto until = begun + std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(seconds));
  for (const auto& guard : crowd.guards) {
    crowd.loop.spawn(ask_by_hand(crowd.loop, *guard, each, answers, {UINT64_MAX, until}, running));
  }
  crowd.loop.run();
  Calls calls;
  calls.seconds = since(begun) / 1e6;
  calls.server_cpu_seconds = server.child().cpu_seconds() - cpu;
  calls.microseconds.resize(answers);
  return calls;
}

constexpr int kRounds = 5;

// What was measured in each round, under one name.
struct Figure {
  std::string name;
  bool least;  // is best
  std::vector<double> values;
};

double middle(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// The middle of each figure, and the best of it.
void tell(const std::string& measure, const std::vector<Figure>& figures) {
  std::vector<std::pair<std::string, double>> told;
  for (const Figure& figure : figures) {
    told.emplace_back(figure.name, middle(figure.values));
    told.emplace_back(figure.name + "_best",
                      figure.least ? std::ranges::min(figure.values) : std::ranges::max(figure.values));
  }
  print(measure, told);
}

std::vector<Figure> asks_figures() {
  return {
      {"p50_us", true, {}}, {"p99_us", true, {}}, {"per_second_and_server_core", false, {}}, {"per_second", false, {}}};
}

void note(std::vector<Figure>& figures, const Calls& single, const Calls& many) {
  figures[0].values.push_back(single.percentile(0.5));
  figures[1].values.push_back(single.percentile(0.99));
  figures[2].values.push_back(many.per_core());
  figures[3].values.push_back(many.rate());
}

void measure_asks(const std::string& folder) {
  constexpr unsigned kGuards = 64, kEach = 4;
  const Identity identity;
  std::vector<Figure> ours = asks_figures(), theirs = asks_figures();
  const auto grpc = [&](unsigned channels, unsigned each) {
    return grpc_calls(folder + "/sallyport-grpc-origin", identity.certificates_pem, identity.key_pem, identity.root_pem,
                      channels, each, 2);
  };
  for (int round = 0; round < kRounds; ++round) {
    note(ours, one_after_the_other(identity, 2), at_once(identity, kGuards, kEach, 2));
    if (has_grpc()) note(theirs, grpc(1, 1), grpc(kGuards, kEach));
  }
  tell("asks", ours);
  if (has_grpc()) {
    tell("grpc", theirs);
  } else {
    std::printf("{\"measure\":\"grpc\",\"missing\":\"gRPC's library was not there when this was built\"}\n");
  }
}

controller::v1alpha1::Event denied_exchange() {
  controller::v1alpha1::Event event;
  event.mutable_time()->set_seconds(1'700'000'000);
  auto& exchange = *event.mutable_exchange();
  exchange.set_kind(controller::v1alpha1::EXCHANGE_KIND_OUTBOUND);
  exchange.set_decision(controller::v1alpha1::DECISION_DENY);
  exchange.set_execution(std::string(16, 'e'));
  exchange.mutable_operation()->set_method("GET");
  exchange.mutable_operation()->set_host("api.example.com");
  exchange.mutable_operation()->set_path("/v1/things/123456");
  exchange.set_endpoint("things");
  exchange.set_upstream("192.0.2.1:443");
  exchange.set_text(std::string(100, 't'));
  return event;
}

// What a guard tells of the executions of its function: their beginning, a flow that leads to another, their end.
controller::v1alpha1::Event told_of(std::uint64_t number, const controller::v1alpha1::Event& exchange) {
  std::string id(16, 'e');
  const std::uint64_t execution = number / 3;
  std::memcpy(id.data(), &execution, sizeof execution);
  controller::v1alpha1::Event event;
  if (number % 3 == 0) {
    event.mutable_execution_began()->set_execution(id);
    event.mutable_execution_began()->set_request_id(id);
    event.mutable_execution_began()->mutable_inbound()->set_method("POST");
    event.mutable_execution_began()->mutable_inbound()->set_path("/v1/orders");
  } else if (number % 3 == 1) {
    event = exchange;
    event.mutable_exchange()->set_id(number);
    event.mutable_exchange()->set_status(200);
    event.mutable_exchange()->set_execution(id);
    event.mutable_exchange()->set_request_id(id);
  } else {
    event.mutable_execution_ended()->set_execution(id);
    event.mutable_execution_ended()->set_request_id(id);
  }
  return event;
}

void measure_events() {
  constexpr std::uint64_t kEvents = 480'000;
  constexpr std::size_t kGuards = 4;
  const Identity identity;
  const net::testing::TemporaryFile root(identity.root_pem);
  const Server server(identity);
  std::vector<std::unique_ptr<link::RemoteLink>> guards;
  for (std::size_t i = 0; i < kGuards; ++i) guards.push_back(guard(server, root.path()));
  controller::v1alpha1::Event event = denied_exchange();
  // Many denials are one alarm, and not what a controller gets most of.
  if (whole_controller) {
    event.mutable_exchange()->set_decision(controller::v1alpha1::DECISION_ALLOW);
    event.mutable_exchange()->mutable_operation()->set_method("PUT");
    event.mutable_exchange()->mutable_operation()->set_host("queue.example.com");
  }
  std::uint64_t told = 0;
  std::vector<Figure> figures{{"per_second_and_server_core", false, {}}, {"per_second", false, {}}};
  if (with_redis) figures.push_back({"per_second_and_redis_core", false, {}});
  for (int round = 0; round < kRounds; ++round) {
    const double cpu = server.child().cpu_seconds(), redis_cpu = server.redis_cpu_seconds();
    const auto begun = SteadyClock::now();
    for (std::uint64_t i = 0; i < kEvents; ++i) {
      link::ControllerLink& link = *guards[i / 3 % kGuards];
      // Not faster than they are taken: the spool is for other times.
      while (i % 10'000 < 3 * kGuards && link.figures().events_waiting > 20'000) std::this_thread::sleep_for(1ms);
      link.report(whole_controller ? told_of(told++, event) : event);
    }
    for (const auto& link : guards) {
      if (!link->flush(60s) || link->figures().events_lost > 0) die("not all events were taken");
    }
    figures[1].values.push_back(kEvents / (since(begun) / 1e6));
    figures[0].values.push_back(kEvents / (server.child().cpu_seconds() - cpu));
    if (with_redis) figures[2].values.push_back(kEvents / (server.redis_cpu_seconds() - redis_cpu));
  }
  print("events_each", {{"bytes", static_cast<double>(event.ByteSizeLong())}});
  tell("events", figures);
}

// For both this process and the servers that it starts. How many connections there may be.
std::size_t raise_descriptors(std::size_t count) {
  rlimit files{.rlim_cur = count + 200, .rlim_max = count + 200};
  if (::setrlimit(RLIMIT_NOFILE, &files) == 0) return count;
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  return std::min<std::size_t>(count, files.rlim_max - 200);
}

Task<void> take_update(net::Loop& loop, RawGuard& guard, std::size_t& waiting) {
  const auto answer = co_await guard.receive(loop.in(60s));
  if (!answer || !answer->has_update()) die("a guard got no update");
  Envelope out;
  if (new_hosts) {
    out.mutable_renew()->set_certificate_request(certificate_request());
    guard.send(out);
    Result<Envelope> given;
    do {  // an Update of something else may come between
      given = co_await guard.receive(loop.in(60s));
    } while (given && given->has_update());
    if (!given || given->renewed().certificates().empty()) {
      die("a guard got no certificate: " + (given ? given->renewed().refusal() : given.error().text));
    }
  }
  out.mutable_update_taken()->set_generation(answer->update().generation());
  guard.send(out);
  if (--waiting == 0) loop.stop();
}

void measure_updates(std::size_t wanted) {
  const std::size_t count = raise_descriptors(wanted);
  const Identity identity;
  const Server server(identity);
  Registered crowd(server);
  crowd.join(count);
  if (whole_controller) {  // each is given its policy first
    std::size_t waiting = count;
    for (const auto& guard : crowd.guards) crowd.loop.spawn(take_update(crowd.loop, *guard, waiting));
    crowd.loop.run();
  }
  Envelope trigger;
  trigger.mutable_renew()->set_certificate_request("everybody");
  std::vector<Figure> figures{{"ms_to_all", true, {}}, {"server_us_each", true, {}}};
  for (int round = 0; round < kRounds; ++round) {
    std::size_t waiting = count;
    const double cpu = server.child().cpu_seconds();
    const auto begun = SteadyClock::now();
    for (const auto& guard : crowd.guards) crowd.loop.spawn(take_update(crowd.loop, *guard, waiting));
    if (whole_controller) {
      server.child().signal(SIGUSR1);
    } else {
      crowd.guards.front()->send(trigger);
    }
    crowd.loop.run();
    figures[0].values.push_back(since(begun) / 1e3);
    figures[1].values.push_back((server.child().cpu_seconds() - cpu) * 1e6 / static_cast<double>(count));
  }
  print("updates_of", {{"guards", static_cast<double>(count)}, {"bytes", static_cast<double>(kUpdateBytes)}});
  tell("updates", figures);
  std::fflush(stdout);
  ::_exit(0);  // taking the connections down measures nothing
}

// Executions that have been allowed, and have not ended.
void measure_state(std::size_t wanted) {
  constexpr std::size_t kGuards = 64, kAtOnce = 16;
  const Identity identity;
  const Server server(identity);
  Registered crowd(server);
  crowd.join(kGuards);
  const double before = server.child().resident_mib();
  std::uint64_t answers = 0;
  std::size_t running = kGuards;
  const Enough enough{wanted / kGuards, SteadyClock::time_point::max()};
  for (const auto& guard : crowd.guards) {
    crowd.loop.spawn(ask_by_hand(crowd.loop, *guard, kAtOnce, answers, enough, running));
  }
  crowd.loop.run();
  const double after = server.child().resident_mib();
  print("state", {{"executions", static_cast<double>(answers)},
                  {"server_mib", after},
                  {"bytes_each", (after - before) * (1 << 20) / static_cast<double>(answers)}});
  std::fflush(stdout);
  ::_exit(0);
}

void measure_idle(std::size_t wanted) {
  const std::size_t count = raise_descriptors(wanted);
  const Identity identity;
  const Server server(identity);
  Registered crowd(server);
  crowd.join(1);  // what the first one alone costs
  const double before = server.child().resident_mib();
  const double cpu = server.child().cpu_seconds();
  const auto begun = SteadyClock::now();
  crowd.join(count);
  const double seconds = since(begun) / 1e6, used = server.child().cpu_seconds() - cpu;
  std::this_thread::sleep_for(3s);
  const double after = server.child().resident_mib();
  const auto added = static_cast<double>(count - 1);
  print("idle", {{"guards", static_cast<double>(count)},
                 {"server_mib", after},
                 {"kib_each", (after - before) * 1'024 / added},
                 {"registered_per_second", added / seconds},
                 {"registered_per_second_and_server_core", added / used}});
  std::fflush(stdout);
  ::_exit(0);
}

std::size_t number(const char* text) {
  std::size_t value = 0;
  const std::string_view wanted = text;
  const auto read = std::from_chars(wanted.data(), wanted.data() + wanted.size(), value);
  if (read.ptr != wanted.data() + wanted.size() || value < 2) die("how many guards?");
  return value;
}

}  // namespace
}  // namespace sallyport::load

int main(int argc, char** argv) {
  using namespace sallyport::load;
  const std::string what = argc > 1 ? argv[1] : "";
  const std::string path = argv[0];
  for (; argc > 2 && std::string_view(argv[argc - 1]).starts_with("--"); --argc) {
    const std::string_view flag = argv[argc - 1];
    if (flag == "--redis") {
      with_redis = true;
    } else if (flag == "--new-host") {
      new_hosts = true;
    } else if (flag != "--controller") {
      die("there are --controller, --redis and --new-host");
    }
    whole_controller = true;
  }
  const std::size_t slash = path.rfind('/');  // gRPC's server lies beside
  if (what == "asks") {
    measure_asks(slash == std::string::npos ? "." : path.substr(0, slash));
  } else if (what == "events") {
    measure_events();
  } else if (what == "updates") {
    measure_updates(argc > 2 ? number(argv[2]) : 5'000);
  } else if (what == "idle") {
    measure_idle(argc > 2 ? number(argv[2]) : 20'000);
  } else if (what == "state" && whole_controller) {
    measure_state(argc > 2 ? number(argv[2]) : 1'000'000);
  } else if (what == "serve" && argc == 6) {
    serve(argv[2], argv[3], argv[4], argv[5]);
  } else {
    std::fprintf(stderr,
                 "usage: sallyport-link-load asks | events | updates [GUARDS] | idle [GUARDS]\n"
                 "                           [--controller [--redis]]\n"
                 "       sallyport-link-load updates [GUARDS] --controller --new-host\n"
                 "       sallyport-link-load state [EXECUTIONS] --controller\n");
    return 2;
  }
  return 0;
}
