#include "proxy/net/upstream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <atomic>
#include <map>
#include <thread>

#include "base/limits.h"
#include "ca/openssl_ptr.h"
#include "proxy/net/test_peer.h"

namespace sallyport::net {
namespace {

using namespace std::chrono_literals;
using request::IpAddress;
using request::Scheme;
using ::testing::HasSubstr;
using testing::Peer;

// Answers from a table, after a turn of the loop as a real one would.
class TableResolver : public Resolver {
 public:
  explicit TableResolver(Loop& loop) : loop_(loop) {}
  Task<ResolveResult> resolve(std::string host, Deadline) override {
    ++lookups;
    co_await loop_.yield();
    const auto found = table.find(host);
    if (found == table.end()) co_return std::unexpected(ResolveFailure{false, host + " does not exist (NXDOMAIN)"});
    std::vector<IpAddress> addresses;
    for (const char* text : found->second) addresses.push_back(*IpAddress::parse(text));
    co_return addresses;
  }
  std::map<std::string, std::vector<const char*>> table;
  int lookups = 0;

 private:
  Loop& loop_;
};

// Accepts on its thread; each connection is kept until told otherwise. With a context it does the handshake.
class Server {
 public:
  explicit Server(const std::string& address = "127.0.0.1", std::uint16_t port = 0, SSL_CTX* context = nullptr)
      : listener_(address, port), context_(context), thread_([this] { accept_all(); }) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    listener_.shut();
    thread_.join();
  }
  std::uint16_t port() const { return listener_.port(); }
  int accepted() const { return accepted_; }
  void hang_up() {
    const std::lock_guard lock(mutex_);
    peers_.clear();
    fds_.clear();
  }
  void speak() {
    const std::lock_guard lock(mutex_);
    for (const UniqueFd& fd : fds_) EXPECT_EQ(::send(fd.get(), "unasked", 7, MSG_NOSIGNAL), 7);
    for (const auto& peer : peers_) {
      const int on = 1;  // or it waits until the tickets are acknowledged
      ::setsockopt(peer->fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      EXPECT_TRUE(peer->write("unasked"));
    }
  }
  void wait_for(int count) const {
    for (int i = 0; i < 1000 && accepted_ < count; ++i) std::this_thread::sleep_for(5ms);
  }

 private:
  void accept_all() {
    while (UniqueFd fd = listener_.accept()) {
      const std::lock_guard lock(mutex_);
      if (context_ == nullptr) {
        fds_.push_back(std::move(fd));
      } else {
        peers_.push_back(std::make_unique<Peer>(context_, std::move(fd), true));
        peers_.back()->handshake();
      }
      ++accepted_;
    }
  }
  testing::Listener listener_;
  SSL_CTX* context_;
  std::atomic<int> accepted_ = 0;
  std::mutex mutex_;
  std::vector<UniqueFd> fds_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::thread thread_;  // last: it uses the others
};

Task<> stop_after(Loop& loop, Clock::duration after) {
  co_await loop.sleep_until(loop.in(after));
  loop.stop();
}

class UpstreamTest : public ::testing::Test {
 protected:
  UpstreamTest() : lib_(OSSL_LIB_CTX_new()), resolver_(loop_) {
    ::setenv("SSL_CERT_FILE", "/nonexistent/roots.pem", 1);
    testing::Profile authority;
    authority.common_name = "Test root";
    authority.authority = true;
    root_ = testing::make_identity(authority);
    testing::Profile leaf;
    leaf.alternative_names = "DNS:api.test";
    context_ = testing::server_context(testing::make_identity(leaf, &root_));
    tls_ = *UpstreamTls::create(lib_.get(), {.more_roots_pem = root_.pem()});
    make_pool();
    policy_ = document::Snapshot::empty(document::Mode::enforce);
    endpoint_.name = "api";
    endpoint_.addresses.push_back(*request::Cidr::parse("127.0.0.0/8"));
    endpoint_.addresses.push_back(*request::Cidr::parse("::1"));
    resolver_.table["api.test"] = {"127.0.0.1"};
  }
  ~UpstreamTest() override { ::unsetenv("SSL_CERT_FILE"); }

  void make_pool(PoolTimes times = {}) { pool_ = std::make_unique<UpstreamPool>(loop_, resolver_, *tls_, times); }

  UpstreamRequest request(std::uint16_t port, Scheme scheme = Scheme::http) {
    UpstreamRequest made;
    made.scheme = scheme;
    made.host = "api.test";
    made.port = port;
    made.endpoint = &endpoint_;
    made.policy = policy_;
    return made;
  }
  UpstreamResult acquire(const UpstreamRequest& wanted, Clock::duration within = 20s) {
    return testing::run(loop_, pool_->acquire(wanted, Clock::now() + within));
  }
  std::unique_ptr<UpstreamConnection> must_acquire(const UpstreamRequest& wanted) {
    UpstreamResult result = acquire(wanted);
    EXPECT_TRUE(result) << result.error().text;
    return result ? std::move(*result) : nullptr;
  }
  void run_for(Clock::duration duration) {
    loop_.spawn(stop_after(loop_, duration));
    loop_.run();
  }
  // Lets the loop see what has arrived, until the pool holds `count`.
  void run_until_idle(std::size_t count) {
    for (int i = 0; i < 200 && pool_->idle() != count; ++i) run_for(5ms);
    EXPECT_EQ(pool_->idle(), count);
  }

  ca::LibCtxPtr lib_;
  Loop loop_;
  TableResolver resolver_;
  testing::Identity root_;
  testing::ContextPtr context_;
  std::unique_ptr<UpstreamTls> tls_;
  std::unique_ptr<UpstreamPool> pool_;
  std::shared_ptr<const document::Snapshot> policy_;
  document::Endpoint endpoint_;
};

TEST_F(UpstreamTest, UsesAConnectionAgainTheMostRecentFirst) {
  const Server server;
  auto first = must_acquire(request(server.port()));
  auto second = must_acquire(request(server.port()));
  EXPECT_FALSE(first->reused());
  EXPECT_EQ(first->peer_text(), "127.0.0.1:" + std::to_string(server.port()));
  const UpstreamConnection* const latest = second.get();
  pool_->release(std::move(first));
  pool_->release(std::move(second));
  EXPECT_EQ(pool_->idle(), 2U);
  auto third = must_acquire(request(server.port()));
  EXPECT_EQ(third.get(), latest);
  EXPECT_TRUE(third->reused());
  EXPECT_EQ(pool_->connects(), 2U);
  EXPECT_EQ(resolver_.lookups, 2);
}

TEST_F(UpstreamTest, AFreshConnectionComesNotFromThePool) {
  const Server server;
  pool_->release(must_acquire(request(server.port())));
  auto wanted = request(server.port());
  wanted.fresh = true;
  EXPECT_FALSE(must_acquire(wanted)->reused());
  EXPECT_EQ(pool_->idle(), 1U);
}

TEST_F(UpstreamTest, ForgetsAConnectionWhoseServerHungUp) {
  Server server;
  pool_->release(must_acquire(request(server.port())));
  server.wait_for(1);
  server.hang_up();
  run_until_idle(0);
  EXPECT_FALSE(must_acquire(request(server.port()))->reused());
}

TEST_F(UpstreamTest, ForgetsAConnectionOnWhichTheServerSpokeOutOfTurn) {
  for (const bool secure : {false, true}) {
    Server server("127.0.0.1", 0, secure ? context_.get() : nullptr);
    pool_->release(must_acquire(request(server.port(), secure ? Scheme::https : Scheme::http)));
    server.wait_for(1);
    EXPECT_EQ(pool_->idle(), 1U);
    server.speak();
    run_until_idle(0);
  }
}

// A client that sends its requests without waiting gets here before the loop has looked at the connection again.
TEST_F(UpstreamTest, WhatAServerSaidOutOfTurnIsNotTheResponseToTheVeryNextRequest) {
  for (const bool secure : {false, true}) {
    Server server("127.0.0.1", 0, secure ? context_.get() : nullptr);
    const auto wanted = request(server.port(), secure ? Scheme::https : Scheme::http);
    auto connection = must_acquire(wanted);
    server.wait_for(1);
    server.speak();
    pool_->release(std::move(connection));
    EXPECT_FALSE(must_acquire(wanted)->reused()) << (secure ? "TLS" : "plain");
  }
}

TEST_F(UpstreamTest, KeepsAConnectionOnWhichOnlyTicketsCame) {
  Server server("127.0.0.1", 0, context_.get());
  auto connection = must_acquire(request(server.port(), Scheme::https));
  EXPECT_EQ(SSL_version(connection->stream().ssl()), TLS1_3_VERSION);
  pool_->release(std::move(connection));
  server.wait_for(1);
  run_for(100ms);  // the tickets arrive meanwhile, as nothing has been read since the handshake
  EXPECT_EQ(pool_->idle(), 1U);
  EXPECT_TRUE(must_acquire(request(server.port(), Scheme::https))->reused());
}

TEST_F(UpstreamTest, ResumesTheSessionOfAConnectionThatIsGone) {
  Server server("127.0.0.1", 0, context_.get());
  pool_->release(must_acquire(request(server.port(), Scheme::https)));
  server.wait_for(1);  // the tickets are on their way
  run_for(50ms);
  auto wanted = request(server.port(), Scheme::https);
  wanted.fresh = true;
  EXPECT_EQ(SSL_session_reused(must_acquire(wanted)->stream().ssl()), 1);
}

TEST_F(UpstreamTest, SharesNothingBetweenEndpointsPoliciesHostsPortsOrSchemes) {
  const Server server, other_port;
  resolver_.table["other.test"] = {"127.0.0.1"};
  document::Endpoint other_endpoint;
  other_endpoint.addresses = endpoint_.addresses;
  const auto base = request(server.port());
  pool_->release(must_acquire(base));
  auto wanted = base;
  wanted.endpoint = &other_endpoint;
  EXPECT_FALSE(must_acquire(wanted)->reused());
  wanted = base;
  wanted.host = "other.test";
  EXPECT_FALSE(must_acquire(wanted)->reused());
  EXPECT_FALSE(must_acquire(request(other_port.port()))->reused());
  wanted = base;
  wanted.endpoint = nullptr;
  wanted.enforce_addresses = false;
  pool_->release(must_acquire(wanted));
  auto next_policy = wanted;
  next_policy.policy = document::Snapshot::empty(document::Mode::enforce);
  EXPECT_FALSE(must_acquire(next_policy)->reused());
  wanted = base;
  wanted.enforce_addresses = false;
  pool_->release(must_acquire(wanted));
  EXPECT_TRUE(must_acquire(base)->reused()) << "the first is still there";
  EXPECT_FALSE(must_acquire(base)->reused()) << "what was dialled unchecked is not for those who check";
}

TEST_F(UpstreamTest, APlainConnectionIsNeverTakenForATlsOne) {
  const Server server;
  auto wanted = request(server.port(), Scheme::https);
  UpstreamResult plain = testing::run(loop_, pool_->connect_plain(wanted, Clock::now() + 20s));
  ASSERT_TRUE(plain);
  EXPECT_FALSE((*plain)->stream().tls());
  pool_->release(std::move(*plain));
  EXPECT_EQ(pool_->idle(), 0U);
}

TEST_F(UpstreamTest, AConnectionThatIsNotWholeIsNotPooled) {
  Server server;
  auto cancelled = must_acquire(request(server.port()));
  cancelled->stream().cancel();
  pool_->release(std::move(cancelled));
  EXPECT_EQ(pool_->idle(), 0U);

  auto ended = must_acquire(request(server.port()));
  server.wait_for(2);
  server.hang_up();
  char byte;
  EXPECT_EQ(testing::run(loop_, ended->stream().read_some({&byte, 1}, Clock::now() + 20s)), 0U);
  pool_->release(std::move(ended));
  EXPECT_EQ(pool_->idle(), 0U);

  Server secure("127.0.0.1", 0, context_.get());
  auto unread = must_acquire(request(secure.port(), Scheme::https));
  secure.wait_for(1);
  secure.speak();
  EXPECT_TRUE(testing::run(loop_, unread->stream().read_some({&byte, 1}, Clock::now() + 20s)));
  pool_->release(std::move(unread));
  EXPECT_EQ(pool_->idle(), 0U) << "the rest of what the server said would be the next answer";
}

TEST_F(UpstreamTest, ANewPolicyClosesTheConnectionsOfTheOldOne) {
  const Server server;
  pool_->release(must_acquire(request(server.port())));
  auto leased = must_acquire(request(server.port()));
  pool_->release(must_acquire(request(server.port())));
  EXPECT_EQ(pool_->idle(), 1U);
  const auto next = document::Snapshot::empty(document::Mode::enforce);
  pool_->policy_changed(next);
  EXPECT_EQ(pool_->idle(), 0U);
  pool_->release(std::move(leased));
  EXPECT_EQ(pool_->idle(), 0U) << "nor is one taken back that was on lease";
  policy_ = next;
  pool_->release(must_acquire(request(server.port())));
  EXPECT_EQ(pool_->idle(), 1U);
}

TEST_F(UpstreamTest, KeepsNoMoreIdleConnectionsPerHostThanItsCap) {
  const Server server;
  std::vector<std::unique_ptr<UpstreamConnection>> connections;
  for (std::size_t i = 0; i < limits::kUpstreamIdlePerHostMax + 3; ++i) {
    connections.push_back(must_acquire(request(server.port())));
  }
  for (auto& connection : connections) pool_->release(std::move(connection));
  EXPECT_EQ(pool_->idle(), limits::kUpstreamIdlePerHostMax);
}

TEST_F(UpstreamTest, ClosesConnectionsThatIdleForTooLong) {
  make_pool({.idle = 50ms, .lifetime = 10s, .reap_interval = 20ms});
  const Server server;
  pool_->release(must_acquire(request(server.port())));
  EXPECT_EQ(pool_->idle(), 1U);
  run_for(200ms);
  EXPECT_EQ(pool_->idle(), 0U);
  pool_->release(must_acquire(request(server.port())));
  run_for(200ms);
  EXPECT_EQ(pool_->idle(), 0U) << "the second time as well";
}

TEST_F(UpstreamTest, AnIdleConnectionPastItsTimeIsNotUsedEvenBeforeItIsReaped) {
  make_pool({.idle = 30ms, .lifetime = 10s, .reap_interval = 1h});
  const Server server;
  pool_->release(must_acquire(request(server.port())));
  run_for(100ms);
  EXPECT_FALSE(must_acquire(request(server.port()))->reused());
}

TEST_F(UpstreamTest, AConnectionPastItsLifetimeIsNotPooled) {
  make_pool({.idle = 10s, .lifetime = 30ms, .reap_interval = 1h});
  const Server server;
  auto connection = must_acquire(request(server.port()));
  run_for(100ms);
  pool_->release(std::move(connection));
  EXPECT_EQ(pool_->idle(), 0U);
}

TEST_F(UpstreamTest, ThePoolMayGoBeforeItsLoop) {
  make_pool({.idle = 20ms, .lifetime = 10s, .reap_interval = 10ms});
  const Server server;
  pool_->release(must_acquire(request(server.port())));
  pool_.reset();
  run_for(50ms);  // nothing of it wakes any more
}

TEST_F(UpstreamTest, RefusesSpecialAddressesThatTheEndpointDoesNotName) {
  Server server;
  endpoint_.addresses.clear();
  const UpstreamResult refused = acquire(request(server.port()));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().reason, Reason::address_not_allowed);
  EXPECT_THAT(refused.error().text,
              HasSubstr("api.test leads to 127.0.0.1 (loopback) that endpoint 'api' does not allow"));
  auto literal = request(server.port());
  literal.host = "127.0.0.1";
  literal.literal = IpAddress::parse("127.0.0.1");
  EXPECT_EQ(acquire(literal).error().reason, Reason::address_not_allowed);
  auto nowhere = request(server.port());
  nowhere.endpoint = nullptr;
  EXPECT_EQ(acquire(nowhere).error().reason, Reason::address_not_allowed) << "no endpoint names nothing";
  run_for(20ms);
  EXPECT_EQ(server.accepted(), 0);
  nowhere.enforce_addresses = false;
  EXPECT_TRUE(acquire(nowhere)) << "learning looks only";
}

TEST_F(UpstreamTest, DialsOnlyTheAllowedAddressesOfAName) {
  const Server refused("127.0.0.2");
  const Server allowed("127.0.0.3", refused.port());
  endpoint_.addresses = {*request::Cidr::parse("127.0.0.3")};
  resolver_.table["api.test"] = {"127.0.0.2", "169.254.169.254", "127.0.0.3"};
  auto connection = must_acquire(request(refused.port()));
  ASSERT_TRUE(connection);
  EXPECT_EQ(connection->peer_text(), "127.0.0.3:" + std::to_string(refused.port()));
  run_for(350ms);
  EXPECT_EQ(refused.accepted(), 0);
}

TEST_F(UpstreamTest, SaysWhichAddressesItDidNotTry) {
  std::uint16_t closed;
  {
    closed = testing::Listener("127.0.0.3").port();
  }
  endpoint_.addresses = {*request::Cidr::parse("127.0.0.3")};
  resolver_.table["api.test"] = {"10.1.2.3", "127.0.0.3"};
  const UpstreamResult result = acquire(request(closed));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().text,
            "can't connect to api.test port " + std::to_string(closed) +
                ": 127.0.0.3 Connection refused; not tried, as endpoint 'api' does not allow them: "
                "10.1.2.3 (private)");
}

TEST_F(UpstreamTest, ARefusedConnectionIsUnreachableAndNamesEveryAddress) {
  std::uint16_t closed;
  {
    closed = testing::Listener().port();
  }
  resolver_.table["api.test"] = {"127.0.0.1", "127.0.0.4"};
  const auto start = Clock::now();
  const UpstreamResult result = acquire(request(closed));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().reason, Reason::unreachable);
  EXPECT_THAT(result.error().text, HasSubstr("127.0.0.1 Connection refused; 127.0.0.4 Connection refused"));
  EXPECT_LT(Clock::now() - start, 200ms) << "a failure is not waited after";
}

TEST_F(UpstreamTest, ANameThatDoesNotExistIsUnresolvable) {
  resolver_.table.clear();
  const UpstreamResult result = acquire(request(443));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().reason, Reason::unresolvable);
  EXPECT_THAT(result.error().text, HasSubstr("NXDOMAIN"));
}

TEST_F(UpstreamTest, DialsIpv6) {
  std::optional<Server> server;
  try {
    server.emplace("::1");
  } catch (const std::system_error&) {
    GTEST_SKIP() << "this machine has no IPv6 loopback";
  }
  resolver_.table["api.test"] = {"::1"};
  auto connection = must_acquire(request(server->port()));
  ASSERT_TRUE(connection);
  EXPECT_EQ(connection->peer_text(), "[::1]:" + std::to_string(server->port()));
}

// An address that never answers: a listening socket whose queue is full drops what comes.
class BlackHole {
 public:
  explicit BlackHole(const std::string& address, std::uint16_t port = 0) : listener_(address, port, 0) {
    for (int i = 0; i < 4; ++i) {
      UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      sockaddr_storage name;
      socklen_t size = sizeof name;
      EXPECT_EQ(::getsockname(listener_.fd(), reinterpret_cast<sockaddr*>(&name), &size), 0);
      ::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), size);
      fillers_.push_back(std::move(fd));
    }
    std::this_thread::sleep_for(20ms);
  }
  std::uint16_t port() const { return listener_.port(); }

 private:
  testing::Listener listener_;
  std::vector<UniqueFd> fillers_;
};

TEST_F(UpstreamTest, AnAddressThatDoesNotAnswerHoldsTheNextOneUpForAMomentOnly) {
  const BlackHole hole("127.0.0.5");
  const Server server("127.0.0.6", hole.port());
  resolver_.table["api.test"] = {"127.0.0.5", "127.0.0.6"};
  const auto start = Clock::now();
  auto connection = must_acquire(request(hole.port()));
  const auto took = Clock::now() - start;
  ASSERT_TRUE(connection);
  EXPECT_EQ(connection->peer().to_string(), "127.0.0.6");
  EXPECT_GE(took, limits::kHappyEyeballsDelay);
  EXPECT_LT(took, 2s);
}

TEST_F(UpstreamTest, AddressesThatNeverAnswerEndAtTheDeadline) {
  const BlackHole hole("127.0.0.7");
  resolver_.table["api.test"] = {"127.0.0.7"};
  const auto start = Clock::now();
  const UpstreamResult result = acquire(request(hole.port()), 300ms);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().reason, Reason::unreachable);
  EXPECT_GE(Clock::now() - start, 300ms);
  EXPECT_LT(Clock::now() - start, 3s);
  EXPECT_THAT(result.error().text, HasSubstr("127.0.0.7"));
}

TEST_F(UpstreamTest, AFailedHandshakeSaysWhy) {
  Server server("127.0.0.1", 0, context_.get());
  resolver_.table["wrong.test"] = {"127.0.0.1"};
  auto wanted = request(server.port(), Scheme::https);
  wanted.host = "wrong.test";
  const UpstreamResult result = acquire(wanted);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().reason, Reason::upstream_wrong_host);
}

TEST_F(UpstreamTest, AHandshakeEndsAtTheCallersDeadline) {
  const Server silent;
  const auto start = Clock::now();
  const UpstreamResult result = acquire(request(silent.port(), Scheme::https), 200ms);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().reason, Reason::upstream_timeout);
  EXPECT_LT(Clock::now() - start, 3s);
}

Task<> acquire_and_forget(UpstreamPool& pool, UpstreamRequest wanted) {
  const UpstreamResult result = co_await pool.acquire(std::move(wanted), Clock::now() + 1h);
  EXPECT_TRUE(result);
}

TEST_F(UpstreamTest, ARaceThatIsGivenUpLeavesNothingBehind) {
  const BlackHole hole("127.0.0.8");
  const BlackHole other("127.0.0.9", hole.port());
  resolver_.table["api.test"] = {"127.0.0.8", "127.0.0.9"};
  loop_.spawn(acquire_and_forget(*pool_, request(hole.port())));
  run_for(400ms);
  EXPECT_EQ(loop_.tasks(), 1U);
  loop_.drop_tasks();
  run_for(20ms);
}

}  // namespace
}  // namespace sallyport::net
