// A whole guard that is a member of an application: real sockets on both sides of it, and a controller in the same
// process.
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <thread>

#include "base/hex.h"
#include "proxy/guard/guard.h"
#include "proxy/net/test_peer.h"
#include "tests/member/scripted_application.h"

namespace sallyport::guard {
namespace {

using namespace std::chrono_literals;
using testing::allowed;
using testing::eventually;
using testing::granted;
using ::testing::HasSubstr;
using testing::Member;
using testing::ScriptedController;
using testing::update_of;

// Answers every request with 200, and counts them.
class Server {
 public:
  Server() : thread_([this] { run(); }) {}
  ~Server() {
    listener_.shut();
    thread_.join();
  }
  std::uint16_t port() const { return listener_.port(); }
  std::string last() {
    const std::lock_guard lock(mutex_);
    return last_;
  }
  std::atomic<int> requests = 0;

 private:
  void run() {
    while (true) {
      const UniqueFd fd = listener_.accept();
      if (!fd) return;
      std::string head;
      char buffer[4096];
      while (head.find("\r\n\r\n") == std::string::npos) {
        const ssize_t got = ::recv(fd.get(), buffer, sizeof buffer, 0);
        if (got <= 0) break;
        head.append(buffer, static_cast<std::size_t>(got));
      }
      if (head.empty()) continue;
      ++requests;
      {
        const std::lock_guard lock(mutex_);
        last_ = head;
      }
      constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
      [[maybe_unused]] const auto sent = ::send(fd.get(), kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL);
    }
  }
  net::testing::Listener listener_;
  std::mutex mutex_;
  std::string last_;
  std::thread thread_;  // last
};

std::string talk(std::uint16_t port, const std::string& request) {
  const UniqueFd fd = net::testing::connect_to("127.0.0.1", port);
  if (::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return "";
  std::string answer;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) {
    answer.append(buffer, static_cast<std::size_t>(got));
  }
  return answer;
}

class MemberGuard : public ::testing::Test {
 protected:
  // One endpoint: the origin.
  link_api::Update update(std::uint64_t generation = 1) {
    link_api::Update made = update_of(generation);
    auto& endpoint = *made.mutable_policy()->mutable_spec()->add_endpoints();
    endpoint.set_name("origin");
    endpoint.set_host("127.0.0.1");
    endpoint.add_ports(std::to_string(origin_.port()));
    endpoint.set_scheme(policy::v1alpha1::SCHEME_HTTP);
    endpoint.add_addresses("127.0.0.0/8");
    auto& rule = *endpoint.add_rules();
    rule.add_methods("any");
    rule.mutable_path()->set_prefix("/");
    return made;
  }
  void start(const link_api::Update& first, bool inbound) {
    controller_.push(first);
    Result<PolicyFile> policy = member_.membership.first_policy(10s);
    ASSERT_TRUE(policy) << policy.error().text;
    auto authority = ca::Authority::create_root(
        nullptr, {}, std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
    ASSERT_TRUE(authority);
    GuardOptions options;
    options.membership = &member_.membership;
    options.function = "checkout";
    options.inbound = inbound;
    options.quiet = true;
    auto guard = Guard::create(options, *policy, std::move(*authority));
    ASSERT_TRUE(guard) << guard.error().text;
    guard_ = std::move(*guard);
    std::vector<UniqueFd> proxy, published;
    proxy.push_back(listen(proxy_port_));
    guard_->listen(std::move(proxy), Listener::proxy);
    if (inbound) {
      published.push_back(listen(inbound_port_));
      guard_->publish(function_.port(), std::move(published), false);
    }
    ASSERT_TRUE(guard_->start());
  }
  static UniqueFd listen(std::uint16_t& port) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(fd.get(), 64), 0);
    EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port = ntohs(address.sin_port);
    return fd;
  }
  // A request of the function, and a message to it.
  std::string send_out(const std::string& path = "/x") {
    const std::string host = "127.0.0.1:" + std::to_string(origin_.port());
    return talk(proxy_port_,
                "GET http://" + host + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n");
  }
  std::string send_in(const std::string& path = "/orders", const std::string& fields = "") {
    return talk(inbound_port_,
                "GET " + path + " HTTP/1.1\r\nHost: shop.test\r\n" + fields + "Connection: close\r\n\r\n");
  }
  // Those of one kind that the controller has been told by now.
  std::vector<link_api::Event> told(link_api::Event::WhatCase what) {
    EXPECT_TRUE(member_.link->flush(10s));
    std::vector<link_api::Event> out;
    for (const link_api::Event& event : controller_.all_events()) {
      if (event.what_case() == what) out.push_back(event);
    }
    return out;
  }
  bool comes(link_api::Event::WhatCase what, std::size_t count) {
    return eventually([&] { return told(what).size() >= count; });
  }
  void end() {
    if (guard_) guard_->stop(1s, flow::v1alpha1::EXECUTION_END_COMPLETE);
  }
  ~MemberGuard() override { guard_.reset(); }

  Server origin_, function_;
  ScriptedController controller_;
  Member member_{controller_};
  std::unique_ptr<Guard> guard_;
  std::uint16_t proxy_port_ = 0, inbound_port_ = 0;
};

TEST_F(MemberGuard, TellsOfAProcessAndWhatItSends) {
  link_api::Update with_announced = update();
  with_announced.add_announced()->set_request("GET http://127.0.0.1:" + std::to_string(origin_.port()) + "/told");
  start(with_announced, false);
  EXPECT_THAT(send_out("/x"), HasSubstr("200 OK"));
  EXPECT_THAT(send_out("/told"), HasSubstr("200 OK"));
  EXPECT_THAT(talk(proxy_port_, "GET http://else.example/ HTTP/1.1\r\nHost: else.example\r\nConnection: close\r\n\r\n"),
              HasSubstr("host-not-allowed"));
  end();
  const auto events = controller_.all_events();
  ASSERT_EQ(events.size(), 6U);
  ASSERT_TRUE(events[0].has_execution_began());
  const std::string execution = events[0].execution_began().execution();
  EXPECT_EQ(events[0].execution_began().request_id(), execution);
  const auto began = told(link_api::Event::kFlowBegan);
  ASSERT_EQ(began.size(), 1U);
  EXPECT_EQ(began[0].flow_began().operation().path(), "/told");
  EXPECT_EQ(began[0].flow_began().execution(), execution);
  const auto exchanges = told(link_api::Event::kExchange);
  ASSERT_EQ(exchanges.size(), 3U);
  EXPECT_EQ(exchanges[0].exchange().operation().path(), "/x");
  EXPECT_EQ(exchanges[0].exchange().status(), 200U);
  EXPECT_EQ(exchanges[0].exchange().attribution(), "only");
  EXPECT_EQ(exchanges[1].exchange().id(), began[0].flow_began().id());
  EXPECT_LT(began[0].sequence(), exchanges[1].sequence());
  EXPECT_EQ(exchanges[2].exchange().decision(), link_api::DECISION_DENY);
  EXPECT_EQ(exchanges[2].exchange().reason(), "host-not-allowed");
  for (const auto& one : exchanges) EXPECT_EQ(one.exchange().execution(), execution);
  ASSERT_TRUE(events[5].has_execution_ended());
  EXPECT_EQ(events[5].execution_ended().execution(), execution);
  EXPECT_EQ(events[5].execution_ended().end(), flow::v1alpha1::EXECUTION_END_COMPLETE);
  EXPECT_EQ(events[5].execution_ended().flows(), 3U);
}

TEST_F(MemberGuard, AMessageBeginsAnExecutionOfTheRequestThatTheControllerNames) {
  link_api::Update asking = update();
  asking.set_entry_check(link_api::ENTRY_CHECK_ALWAYS);
  controller_.on_ask = [](const auto&) { return allowed(); };
  start(asking, true);
  EXPECT_THAT(send_in("/orders"), HasSubstr("200 OK"));
  // An execution ends with its answer, which the client may take later.
  ASSERT_TRUE(comes(link_api::Event::kExecutionEnded, 1) && comes(link_api::Event::kExchange, 1));
  const auto began = told(link_api::Event::kExecutionBegan);
  ASSERT_EQ(began.size(), 1U);
  EXPECT_TRUE(began[0].execution_began().asked());
  EXPECT_EQ(began[0].execution_began().request_id(), std::string(16, 'r'));
  EXPECT_EQ(began[0].execution_began().execution(), controller_.asks[0].execution());
  EXPECT_EQ(began[0].execution_began().inbound().path(), "/orders");
  const auto exchanges = told(link_api::Event::kExchange);
  ASSERT_EQ(exchanges.size(), 1U);
  EXPECT_EQ(exchanges[0].exchange().kind(), link_api::EXCHANGE_KIND_INBOUND);
  EXPECT_EQ(exchanges[0].exchange().request_id(), std::string(16, 'r'));
  const auto ended = told(link_api::Event::kExecutionEnded);
  EXPECT_LT(began[0].sequence(), exchanges[0].sequence());
  EXPECT_EQ(ended[0].execution_ended().request_id(), std::string(16, 'r'));
  EXPECT_EQ(ended[0].execution_ended().execution(), began[0].execution_began().execution());
}

TEST_F(MemberGuard, TheFunctionSeesNothingOfAMessageThatTheControllerRefuses) {
  link_api::Update asking = update();
  asking.set_entry_check(link_api::ENTRY_CHECK_ALWAYS);
  controller_.on_ask = [](const auto&) {
    link_api::EntryAnswer no;
    no.set_refusal("nothing has led here");
    return no;
  };
  start(asking, true);
  const std::string answer = send_in();
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 403"));
  EXPECT_THAT(answer, HasSubstr("sallyport-denied: entry-refused"));
  EXPECT_THAT(answer, ::testing::Not(HasSubstr("nothing has led here")));  // no business of those outside
  EXPECT_EQ(function_.requests, 0);
  ASSERT_TRUE(comes(link_api::Event::kExchange, 1));
  EXPECT_EQ(told(link_api::Event::kExchange)[0].exchange().reason(), "entry-refused");
  EXPECT_TRUE(told(link_api::Event::kExecutionBegan).empty());
}

TEST_F(MemberGuard, WithoutTheControllersWordNoMessageGetsThrough) {
  link_api::Update asking = update();
  asking.set_entry_check(link_api::ENTRY_CHECK_ALWAYS);
  start(asking, true);
  const std::string answer = send_in();
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 503"));
  EXPECT_THAT(answer, HasSubstr("sallyport-denied: controller-lost"));
  EXPECT_EQ(function_.requests, 0);
}

TEST_F(MemberGuard, InAuditWhatIsRefusedPassesAndIsTold) {
  link_api::Update asking = update();
  asking.set_entry_check(link_api::ENTRY_CHECK_ALWAYS);
  asking.mutable_policy()->mutable_spec()->set_mode(policy::v1alpha1::MODE_AUDIT);
  controller_.on_ask = [](const auto&) { return link_api::EntryAnswer(); };
  start(asking, true);
  EXPECT_THAT(send_in(), HasSubstr("200 OK"));
  // An execution ends with its answer, which the client may take later.
  ASSERT_TRUE(comes(link_api::Event::kExecutionEnded, 1) && comes(link_api::Event::kExchange, 1));
  const auto exchange = told(link_api::Event::kExchange)[0].exchange();
  EXPECT_EQ(exchange.decision(), link_api::DECISION_WOULD_DENY);
  EXPECT_EQ(exchange.reason(), "entry-refused");
  EXPECT_FALSE(told(link_api::Event::kExecutionBegan)[0].execution_began().asked());
}

TEST_F(MemberGuard, WhoseRequestIsSentToAFunctionOfTheApplicationIsToldBefore) {
  link_api::Update tagging = update();
  tagging.add_tag_keys(std::string(32, 'k'));
  tagging.mutable_policy()->mutable_spec()->mutable_endpoints(0)->set_function("stock");
  start(tagging, false);
  EXPECT_THAT(send_out(), HasSubstr("200 OK"));
  ASSERT_TRUE(comes(link_api::Event::kExchange, 1));
  const auto flow = told(link_api::Event::kFlowBegan);
  ASSERT_EQ(flow.size(), 1U);
  EXPECT_EQ(flow[0].flow_began().to_function(), "stock");
  // The tag says what was told: this guard, as the controller knows it, and this request.
  const std::string head = origin_.last();
  const std::size_t at = head.find("Sallyport-Tag: ") + 15;
  const tag::Key key = *tag::Key::create("shop", std::string(32, 'k'));
  const auto tag = tag::verify(head.substr(at, head.find("\r\n", at) - at), std::span(&key, 1),
                               std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
  ASSERT_TRUE(tag) << head;
  EXPECT_EQ(tag->guard[0], 'g');
  EXPECT_EQ(tag->function, "checkout");
  EXPECT_EQ(std::string(tag->request.begin(), tag->request.end()), flow[0].flow_began().request_id());
}

TEST_F(MemberGuard, ALimitIsKeptWithRetryAfter) {
  link_api::Update limited = update();
  link_api::Limit& limit = *limited.add_limits();
  limit.set_name("origin");
  limit.set_endpoint("origin");
  limit.set_scope(link_api::LIMIT_SCOPE_APPLICATION);
  limit.set_per_second(1);
  limit.set_burst(2);
  std::uint32_t left = 2;
  controller_.on_lease = [&](const link_api::LeaseAsk& ask) {
    const std::uint32_t count = std::min(left, ask.wanted());
    left -= count;
    link_api::Lease lease = granted(count);
    lease.set_retry_after_ms(30'000);
    return lease;
  };
  start(limited, false);
  EXPECT_THAT(send_out(), HasSubstr("200 OK"));
  EXPECT_THAT(send_out(), HasSubstr("200 OK"));
  const std::string refused = send_out();
  EXPECT_THAT(refused, HasSubstr("HTTP/1.1 429"));
  EXPECT_THAT(refused, HasSubstr("retry-after: "));
  EXPECT_THAT(refused, HasSubstr("sallyport-denied: rate-limited"));
  EXPECT_EQ(origin_.requests, 2);
}

TEST_F(MemberGuard, AnExpiredPolicyRefusesUntilTheControllerIsBack) {
  link_api::Update short_lived = update();
  short_lived.set_lifetime_s(1);
  start(short_lived, true);
  EXPECT_THAT(send_out(), HasSubstr("200 OK"));
  EXPECT_THAT(send_in(), HasSubstr("200 OK"));
  controller_.go();
  EXPECT_THAT(send_out(), HasSubstr("200 OK"));  // it is still good
  ASSERT_TRUE(eventually([&] { return send_out().find("policy-expired") != std::string::npos; }));
  const int before = function_.requests;
  EXPECT_THAT(send_out(), HasSubstr("HTTP/1.1 503"));
  EXPECT_THAT(send_in(), HasSubstr("sallyport-denied: policy-expired"));
  EXPECT_EQ(function_.requests, before);
  controller_.come_back();
  ASSERT_TRUE(eventually([&] { return send_out().find("200 OK") != std::string::npos; }));
  EXPECT_THAT(send_in(), HasSubstr("200 OK"));
}

TEST_F(MemberGuard, AnUpdateChangesWhatIsAllowed) {
  start(update(1), false);
  EXPECT_THAT(send_out(), HasSubstr("200 OK"));
  link_api::Update narrower = update(2);
  narrower.mutable_policy()->mutable_spec()->mutable_endpoints(0)->mutable_rules(0)->mutable_path()->set_prefix("/y/");
  controller_.push(narrower);
  ASSERT_TRUE(eventually([&] { return controller_.refusal_of(2) == "taken"; }));
  ASSERT_TRUE(eventually([&] { return send_out().find("path-not-allowed") != std::string::npos; }));
  EXPECT_THAT(send_out("/y/1"), HasSubstr("200 OK"));
}

TEST_F(MemberGuard, InLearnTheTraceOfAnExecutionIsTold) {
  link_api::Update learning = update();
  learning.mutable_policy()->mutable_spec()->set_mode(policy::v1alpha1::MODE_LEARN);
  start(learning, false);
  EXPECT_THAT(send_out("/learned"), HasSubstr("200 OK"));
  end();
  const auto ended = told(link_api::Event::kExecutionEnded);
  ASSERT_EQ(ended.size(), 1U);
  ASSERT_EQ(ended[0].execution_ended().trace().flows_size(), 1);
  EXPECT_EQ(ended[0].execution_ended().trace().flows(0).operation().path(), "/learned");
}

TEST_F(MemberGuard, TheBeatSaysHowManyExecutionsAreOpen) {
  start(update(), false);
  EXPECT_TRUE(eventually([&] {
    const std::lock_guard lock(controller_.mutex);
    return controller_.open == 1;
  }));
}

}  // namespace
}  // namespace sallyport::guard
