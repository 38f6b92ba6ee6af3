#include "proxy/net/dns_service.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/limits.h"
#include "proxy/net/dns_builder_test.h"
#include "proxy/net/original_destination.h"
#include "proxy/net/program_test.h"

namespace sallyport::net {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

struct Address {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Address address_of(const char* text, std::uint16_t port) {
  Address address;
  if (std::string_view(text).find(':') == std::string_view::npos) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(address.storage);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    ::inet_pton(AF_INET, text, &v4.sin_addr);
    address.length = sizeof v4;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address.storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    ::inet_pton(AF_INET6, text, &v6.sin6_addr);
    address.length = sizeof v6;
  }
  return address;
}

UniqueFd bound(const char* text, int type, std::uint16_t port) {
  Address address = address_of(text, port);
  UniqueFd fd(::socket(address.storage.ss_family, type | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd.get(), address.get(), address.length) != 0) return {};
  if (type == SOCK_STREAM) ::listen(fd.get(), 200);
  return fd;
}

// A client's socket with a limit on its patience.
UniqueFd connected(const char* text, int type, std::uint16_t port) {
  Address address = address_of(text, port);
  UniqueFd fd(::socket(address.storage.ss_family, type | SOCK_CLOEXEC, 0));
  const timeval limit{.tv_sec = 5, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  EXPECT_EQ(::connect(fd.get(), address.get(), address.length), 0);
  return fd;
}

void send_bytes(const UniqueFd& fd, std::string_view bytes) {
  EXPECT_EQ(::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
}

std::string receive_datagram(const UniqueFd& fd) {
  std::string buffer(4'096, '\0');
  const ssize_t count = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
  buffer.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return buffer;
}

// One message with its length before it; empty at the end of the stream.
std::string receive_message(const UniqueFd& fd) {
  std::array<char, 2> length;
  if (::recv(fd.get(), length.data(), 2, MSG_WAITALL) != 2) return {};
  std::string message(u16_at({length.data(), 2}, 0), '\0');
  if (::recv(fd.get(), message.data(), message.size(), MSG_WAITALL) != static_cast<ssize_t>(message.size())) return {};
  return message;
}

std::string framed(const std::string& message) { return u16(message.size()) + message; }

// The service in a thread of its own; the tests are its clients. Names under "allowed.example" are allowed.
class DnsServiceTest : public ::testing::Test {
 protected:
  void start(const char* v4 = "127.0.0.1", const char* v6 = "::1") {
    const auto all_bound = [this] { return udp_v6_ && tcp_v4_ && tcp_v6_; };
    for (int attempt = 0; attempt < 50 && !all_bound(); ++attempt) {  // the port may be somebody's elsewhere
      udp_v4_ = bound(v4, SOCK_DGRAM, 0);
      port_ = local_address(udp_v4_.get())->port;
      udp_v6_ = bound(v6, SOCK_DGRAM, port_);
      tcp_v4_ = bound(v4, SOCK_STREAM, port_);
      tcp_v6_ = bound(v6, SOCK_STREAM, port_);
    }
    ASSERT_TRUE(all_bound());
    std::vector<UniqueFd> udp;
    udp.push_back(std::move(udp_v4_));
    udp.push_back(std::move(udp_v6_));
    std::vector<UniqueFd> tcp;
    tcp.push_back(std::move(tcp_v4_));
    tcp.push_back(std::move(tcp_v6_));
    DnsPolicy policy{.decide =
                         [](std::string_view name) {
                           return name.ends_with("allowed.example") ? DnsDecision::allow : DnsDecision::deny;
                         },
                     .on_report = {}};
    service_.emplace(loop_, table_, std::move(policy), std::move(udp), std::move(tcp));
    thread_ = std::thread([this] { loop_.run(); });
  }
  void TearDown() override {
    if (!thread_.joinable()) return;
    loop_.post([this] {
      service_.reset();
      loop_.post([this] { loop_.post([this] { loop_.stop(); }); });
    });
    thread_.join();
    EXPECT_EQ(loop_.tasks(), 0U);
  }

  std::string command_output(const std::string& command) const {
    std::string output;
    FILE* pipe = ::popen(("PORT=" + std::to_string(port_) + "; " + command + " 2>&1").c_str(), "r");
    std::array<char, 4'096> buffer;
    while (const std::size_t count = std::fread(buffer.data(), 1, buffer.size(), pipe))
      output.append(buffer.data(), count);
    ::pclose(pipe);
    return output;
  }

  DnsTable table_{DnsTable::Seed{9}};
  Loop loop_;
  std::optional<DnsService> service_;
  UniqueFd udp_v4_, udp_v6_, tcp_v4_, tcp_v6_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

TEST_F(DnsServiceTest, AnswersOverUdpAndTcpAndBothFamilies) {
  start();
  for (const char* server : {"127.0.0.1", "::1"}) {
    const UniqueFd udp = connected(server, SOCK_DGRAM, port_);
    send_bytes(udp, query("api.allowed.example", DnsType::a));
    const std::string over_udp = receive_datagram(udp);
    ASSERT_GE(over_udp.size(), 12U);
    EXPECT_EQ(answers_of(over_udp), 1U);
    const UniqueFd tcp = connected(server, SOCK_STREAM, port_);
    send_bytes(tcp, framed(query("api.allowed.example", DnsType::a)));
    EXPECT_EQ(receive_message(tcp), over_udp);
  }
}

// A connected client drops what comes from elsewhere: as resolvers do, and connection tracking behind a redirect.
TEST_F(DnsServiceTest, OnAWildcardSocketTheAnswerLeavesFromTheAddressThatWasAsked) {
  start("0.0.0.0", "::1");
  for (const char* server : {"127.0.0.1", "127.0.0.2", "127.77.0.1"}) {
    const UniqueFd udp = connected(server, SOCK_DGRAM, port_);
    send_bytes(udp, query("api.allowed.example", DnsType::a));
    EXPECT_GE(receive_datagram(udp).size(), 12U) << server;
  }
}

TEST_F(DnsServiceTest, BrokenDatagramsDoNotDisturbTheNextQuery) {
  start();
  const UniqueFd udp = connected("127.0.0.1", SOCK_DGRAM, port_);
  send_bytes(udp, "");
  send_bytes(udp, "x");
  send_bytes(udp, header(1, 0x8180, 1) + question("api.allowed.example", DnsType::a));
  send_bytes(udp, header(2, 0, 1) + std::string(6'000, '\xc0'));
  EXPECT_EQ(rcode_of(receive_datagram(udp)), 1U);
  send_bytes(udp, query("api.allowed.example", DnsType::a, 3));
  EXPECT_EQ(u16_at(receive_datagram(udp), 0), 3U);
}

TEST_F(DnsServiceTest, TcpQueriesMayBePipelinedAndCutAnywhere) {
  start();
  std::string bytes;
  for (std::uint16_t id = 0; id < 500; ++id) bytes += framed(query("h.allowed.example", DnsType::a, id));
  const UniqueFd tcp = connected("127.0.0.1", SOCK_STREAM, port_);
  for (std::size_t at = 0; at < bytes.size(); at += 1'111) send_bytes(tcp, std::string_view(bytes).substr(at, 1'111));
  for (std::uint16_t id = 0; id < 500; ++id) ASSERT_EQ(u16_at(receive_message(tcp), 0), id);
  send_bytes(tcp, framed(query("h.allowed.example", DnsType::a, 7)).substr(0, 5));
  send_bytes(tcp, framed(query("h.allowed.example", DnsType::a, 7)).substr(5));
  EXPECT_EQ(u16_at(receive_message(tcp), 0), 7U);
}

TEST_F(DnsServiceTest, TcpThatIsNotDnsIsClosed) {
  start();
  for (const std::string& bytes : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("\0\0", 2), framed("short"),
                                   framed(header(1, 0x8180, 1) + question("a.allowed.example", DnsType::a))}) {
    const UniqueFd tcp = connected("127.0.0.1", SOCK_STREAM, port_);
    send_bytes(tcp, bytes);
    EXPECT_EQ(receive_message(tcp), "");
  }
}

TEST_F(DnsServiceTest, MoreTcpConnectionsThanAllowedWaitForTheirTurn) {
  start();
  std::vector<UniqueFd> idle;
  for (std::size_t i = 0; i < limits::kDnsTcpConnectionsMax; ++i) {
    idle.push_back(connected("127.0.0.1", SOCK_STREAM, port_));
  }
  const UniqueFd late = connected("127.0.0.1", SOCK_STREAM, port_);
  send_bytes(late, framed(query("api.allowed.example", DnsType::a, 5)));
  std::array<char, 1> byte;
  std::this_thread::sleep_for(50ms);
  EXPECT_LT(::recv(late.get(), byte.data(), 1, MSG_DONTWAIT), 0);
  idle.clear();
  EXPECT_EQ(u16_at(receive_message(late), 0), 5U);
}

TEST_F(DnsServiceTest, AFloodDoesNotStarveTheLoop) {
  start();
  std::atomic<bool> done = false;
  std::thread flood([&] {
    const UniqueFd udp = connected("127.0.0.1", SOCK_DGRAM, port_);
    const std::string bytes = query("evil.example", DnsType::txt);
    while (!done) ::send(udp.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  });
  Clock::duration slowest{};
  for (const auto end = Clock::now() + 300ms; Clock::now() < end;) {
    std::atomic<bool> ran = false;
    const auto posted = Clock::now();
    loop_.post([&] {
      ran = true;
      ran.notify_one();
    });
    ran.wait(false);
    slowest = std::max(slowest, Clock::now() - posted);
  }
  done = true;
  flood.join();
  EXPECT_LT(slowest, 1s);
}

TEST_F(DnsServiceTest, TheResolverOfTheCLibraryAgreesWithUs) {
  start();
  struct __res_state state{};
  ASSERT_EQ(::res_ninit(&state), 0);
  state.nscount = 1;
  state.nsaddr_list[0] = reinterpret_cast<const sockaddr_in&>(address_of("127.0.0.1", port_).storage);
  state.retry = 1;
  std::array<unsigned char, 1'024> answer;
  const auto ask = [&](const char* name, int type) {
    return ::res_nquery(&state, name, ns_c_in, type, answer.data(), static_cast<int>(answer.size()));
  };
  EXPECT_GT(ask("api.allowed.example", ns_t_a), 0);
  EXPECT_GT(ask("api.allowed.example", ns_t_aaaa), 0);
  EXPECT_LT(ask("api.allowed.example", ns_t_txt), 0);
  EXPECT_EQ(state.res_h_errno, NO_DATA);
  EXPECT_LT(ask("evil.example", ns_t_a), 0);
  EXPECT_EQ(state.res_h_errno, HOST_NOT_FOUND);
  state.options |= RES_USEVC | RES_USE_EDNS0;
  EXPECT_GT(ask("api.allowed.example", ns_t_a), 0);
  ::res_nclose(&state);
}

TEST_F(DnsServiceTest, DigAgreesWithUs) {
  if (!installed("dig")) GTEST_SKIP() << "dig is not installed";
  start();
  const std::string dig = "dig +tries=1 +time=5 -p $PORT @127.0.0.1 ";
  const std::string address = command_output(dig + "+short api.allowed.example");
  const auto parsed = request::IpAddress::parse(address.substr(0, address.find('\n')));
  ASSERT_TRUE(parsed) << address;
  EXPECT_EQ(table_.name_of(*parsed), "api.allowed.example");
  EXPECT_EQ(command_output(dig + "+short +tcp api.allowed.example"), address);
  EXPECT_EQ(command_output("dig +tries=1 +time=5 -p $PORT @::1 +short api.allowed.example"), address);
  EXPECT_EQ(command_output(dig + "+short -x " + parsed->to_string()), "api.allowed.example.\n");
  EXPECT_EQ(command_output(dig + "+short -x " + table_.assign("api.allowed.example")->v6.to_string()),
            "api.allowed.example.\n");
  const std::string denied = command_output(dig + "evil.example");
  EXPECT_THAT(denied, HasSubstr("status: NXDOMAIN"));
  EXPECT_THAT(denied, HasSubstr("sallyport.invalid"));
  EXPECT_THAT(denied, ::testing::Not(HasSubstr("WARNING")));
  const std::string txt = command_output(dig + "+dnssec +bufsize=1232 api.allowed.example TXT");
  EXPECT_THAT(txt, HasSubstr("status: NOERROR"));
  EXPECT_THAT(txt, HasSubstr("ANSWER: 0"));
  EXPECT_THAT(txt, HasSubstr("udp: 4096"));
  EXPECT_THAT(txt, ::testing::Not(HasSubstr("WARNING")));
  EXPECT_THAT(command_output(dig + "+edns=3 +noednsneg api.allowed.example"), HasSubstr("BADVERS"));
  EXPECT_THAT(command_output(dig + "+opcode=status api.allowed.example"), HasSubstr("NOTIMP"));
  EXPECT_THAT(command_output(dig + "CH TXT version.bind"), HasSubstr("REFUSED"));
}

}  // namespace
}  // namespace sallyport::net
