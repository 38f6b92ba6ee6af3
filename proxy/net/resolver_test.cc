#include "proxy/net/resolver.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>

#include "base/limits.h"
#include "proxy/net/dns_builder_test.h"
#include "proxy/net/original_destination.h"
#include "proxy/net/run_task_test.h"

namespace sallyport::net {
namespace {

using namespace std::chrono_literals;
using request::IpAddress;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string record_a(std::uint8_t last, std::uint32_t ttl = 60) {
  return "\xc0\x0c" + u16(1) + u16(1) + u16(ttl >> 16) + u16(ttl & 0xffff) + u16(4) +
         std::string{'\xc0', '\0', '\x02', static_cast<char>(last)};
}

std::string record_aaaa(std::uint8_t last) {
  return "\xc0\x0c" + u16(28) + u16(1) + u16(0) + u16(60) + u16(16) + std::string("\x20\x01\x0d\xb8", 4) +
         std::string(11, '\0') + static_cast<char>(last);
}

// A DNS server on UDP and TCP that does what the first label of the name says.
class FakeServer {
 public:
  FakeServer() {
    for (int attempt = 0; attempt < 50 && !tcp_; ++attempt) {
      udp_ = bound(SOCK_DGRAM, 0);
      port_ = local_address(udp_.get())->port;
      tcp_ = bound(SOCK_STREAM, port_);
    }
    thread_ = std::thread([this] { run(); });
  }
  ~FakeServer() {
    stop_ = true;
    thread_.join();
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  int questions(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return questions_[name];
  }
  std::vector<std::string> names() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const auto& [name, count] : questions_) names.push_back(name);
    return names;
  }

 private:
  static UniqueFd bound(int type, std::uint16_t port) {
    UniqueFd fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
    sockaddr_in address{
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return {};
    if (type == SOCK_STREAM) ::listen(fd.get(), 10);
    return fd;
  }

  void run() {
    while (!stop_) {
      std::array<pollfd, 2> fds{{{udp_.get(), POLLIN, 0}, {tcp_.get(), POLLIN, 0}}};
      ::poll(fds.data(), fds.size(), 10);
      if ((fds[0].revents & POLLIN) != 0) serve_udp();
      if ((fds[1].revents & POLLIN) != 0) serve_tcp();
    }
  }

  void serve_udp() {
    std::array<char, 2'048> buffer;
    sockaddr_in peer{};
    socklen_t length = sizeof peer;
    const ssize_t count =
        ::recvfrom(udp_.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&peer), &length);
    if (count < 0) return;
    for (const std::string& answer : answers({buffer.data(), static_cast<std::size_t>(count)}, false)) {
      ::sendto(udp_.get(), answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&peer), length);
    }
  }

  // c-ares keeps its connection open, so each is served to its end by a thread.
  void serve_tcp() {
    const UniqueFd fd(::accept4(tcp_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const timeval limit{.tv_sec = 0, .tv_usec = 200'000};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    std::array<char, 2'048> buffer;
    while (::recv(fd.get(), buffer.data(), 2, MSG_WAITALL) == 2) {
      const std::size_t length = u16_at({buffer.data(), 2}, 0);
      if (::recv(fd.get(), buffer.data(), length, MSG_WAITALL) != static_cast<ssize_t>(length)) return;
      for (const std::string& answer : answers({buffer.data(), length}, true)) {
        const std::string bytes = u16(answer.size()) + answer;
        ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      }
    }
  }

  std::vector<std::string> answers(std::string_view message, bool over_tcp) {
    const DnsParsed parsed = parse_dns_query(message);
    if (parsed.verdict != DnsVerdict::query) return {};
    const DnsQuery& asked = parsed.query;
    {
      const std::lock_guard lock(mutex_);
      ++questions_[asked.name];
    }
    const bool v6 = asked.type == DnsType::aaaa;
    const std::string one = v6 ? record_aaaa(1) : record_a(1);
    const std::string good = answer(asked, 0x8180, 1, one);
    const std::string kind = asked.name.substr(0, asked.name.find('.'));
    if (kind == "drop" || (kind == "drop6" && v6)) return {};
    if (kind == "delay") std::this_thread::sleep_for(150ms);
    if (kind == "nxdomain") return {answer(asked, 0x8183, 0, "")};
    if (kind == "servfail") return {answer(asked, 0x8182, 0, "")};
    if (kind == "refused") return {answer(asked, 0x8185, 0, "")};
    if (kind == "nodata" || (kind == "only4" && v6) || (kind == "only6" && !v6)) return {answer(asked, 0x8180, 0, "")};
    if (kind == "truncated" && !over_tcp) return {answer(asked, 0x8380, 0, "")};
    if (kind == "lies") return {lie_about_id(good), lie_about_question(asked, one), good};
    if (kind == "liesonly") return {lie_about_id(good), lie_about_question(asked, one)};
    if (kind == "garbage") return {good.substr(0, 20), "x", good};
    if (kind == "short") return {answer(asked, 0x8180, 1, v6 ? record_aaaa(1) : record_a(1, 0))};
    if (kind == "many") return {many(asked)};
    if (kind == "twice") return {answer(asked, 0x8180, 2, one + one)};
    return {good};
  }

  static std::string answer(const DnsQuery& asked, std::uint16_t flags, std::size_t count, const std::string& records) {
    return header(asked.id, flags, 1, count) + std::string(asked.question) + records;
  }
  static std::string lie_about_id(std::string good) {
    good[0] = static_cast<char>(good[0] ^ 0x55);
    good[good.size() - 1] = 66;
    return good;
  }
  static std::string lie_about_question(const DnsQuery& asked, std::string records) {
    records[records.size() - 1] = 77;
    return header(asked.id, 0x8180, 1, 1) + question("other.test", asked.type) + records;
  }
  static std::string many(const DnsQuery& asked) {
    std::string records;
    for (std::uint8_t i = 0; i < 100; ++i) records += asked.type == DnsType::aaaa ? record_aaaa(i) : record_a(i);
    return answer(asked, 0x8180, 100, records);
  }

  UniqueFd udp_, tcp_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stop_ = false;
  std::mutex mutex_;
  std::map<std::string, int> questions_;
  std::thread thread_;
};

class ResolverTest : public ::testing::Test {
 protected:
  ResolverTest() { use(server_.address()); }
  void use(const std::string& servers) {
    auto made = make_resolver(loop_, {.servers = servers});
    ASSERT_TRUE(made) << made.error().text;
    resolver_ = std::move(*made);
  }
  ResolveResult resolve(const std::string& host, Clock::duration patience = 15s) {
    return run_task(loop_, resolver_->resolve(host, Clock::now() + patience));
  }
  static std::vector<std::string> texts(const ResolveResult& result) {
    std::vector<std::string> texts;
    if (!result) return {result.error().text};
    for (const IpAddress& address : *result) texts.push_back(address.to_string());
    return texts;
  }

  FakeServer server_;
  Loop loop_;
  std::unique_ptr<Resolver> resolver_;
};

TEST_F(ResolverTest, GivesBothFamiliesInTurn) {
  EXPECT_THAT(texts(resolve("www.test")), ElementsAre("2001:db8::1", "192.0.2.1"));
  EXPECT_EQ(server_.questions("www.test"), 2);
}

TEST_F(ResolverTest, OneFamilyIsEnough) {
  EXPECT_THAT(texts(resolve("only4.test")), ElementsAre("192.0.2.1"));
  EXPECT_THAT(texts(resolve("only6.test")), ElementsAre("2001:db8::1"));
  EXPECT_THAT(texts(resolve("twice.test")), ElementsAre("2001:db8::1", "192.0.2.1"));
}

TEST_F(ResolverTest, ANameWithoutDotsIsAskedForAsItIs) {
  EXPECT_THAT(texts(resolve("database")), ElementsAre("2001:db8::1", "192.0.2.1"));
  EXPECT_FALSE(resolve("nxdomain"));
  EXPECT_FALSE(resolve("nxdomain.a.b"));
  EXPECT_THAT(server_.names(), ElementsAre("database", "nxdomain", "nxdomain.a.b"));  // no search domain was tried
}

TEST_F(ResolverTest, AnAddressIsItsOwnAnswer) {
  EXPECT_THAT(texts(resolve("192.0.2.9")), ElementsAre("192.0.2.9"));
  EXPECT_THAT(texts(resolve("2001:db8::9")), ElementsAre("2001:db8::9"));
  EXPECT_THAT(server_.names(), IsEmpty());
}

TEST_F(ResolverTest, TheHostsFileComesFirst) {
  const ResolveResult result = resolve("localhost");
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_THAT(texts(result), ::testing::Contains("127.0.0.1"));
  EXPECT_THAT(server_.names(), IsEmpty());
}

TEST_F(ResolverTest, ASecondQuestionIsAnsweredFromTheCache) {
  EXPECT_TRUE(resolve("cached.test"));
  EXPECT_TRUE(resolve("cached.test"));
  EXPECT_EQ(server_.questions("cached.test"), 2);
  EXPECT_FALSE(resolve("nxdomain.test"));
  EXPECT_FALSE(resolve("nxdomain.test"));
  EXPECT_EQ(server_.questions("nxdomain.test"), 2);
}

TEST_F(ResolverTest, ATtlOfZeroIsKeptForASecond) {
  EXPECT_TRUE(resolve("short.test"));
  EXPECT_TRUE(resolve("short.test"));
  EXPECT_EQ(server_.questions("short.test"), 2);
  run_for(loop_, 1'100ms);
  EXPECT_TRUE(resolve("short.test"));
  EXPECT_EQ(server_.questions("short.test"), 4);
}

Task<> resolve_and_keep(Resolver& resolver, std::string host, Deadline deadline, std::vector<ResolveResult>& results) {
  results.push_back(co_await resolver.resolve(std::move(host), deadline));
}

TEST_F(ResolverTest, ManyWhoAskAtOnceShareOneLookup) {
  std::vector<ResolveResult> results;
  for (int i = 0; i < 20; ++i) loop_.spawn(resolve_and_keep(*resolver_, "delay.test", Clock::now() + 5s, results));
  EXPECT_TRUE(resolve("delay.test"));
  run_for(loop_, 50ms);
  ASSERT_THAT(results, SizeIs(20));
  for (const ResolveResult& result : results) EXPECT_THAT(texts(result), SizeIs(2));
  EXPECT_EQ(server_.questions("delay.test"), 2);
  run_for(loop_, 50ms);
  EXPECT_EQ(loop_.tasks(), 0U);
}

TEST_F(ResolverTest, AServerThatIgnoresAaaaCostsLittle) {
  const auto start = Clock::now();
  EXPECT_THAT(texts(resolve("drop6.test")), ElementsAre("192.0.2.1"));
  EXPECT_LT(Clock::now() - start, limits::kResolveSecondFamilyDelay + 500ms);
}

TEST_F(ResolverTest, AnswersTooLongForUdpComeOverTcp) {
  EXPECT_THAT(texts(resolve("truncated.test")), ElementsAre("2001:db8::1", "192.0.2.1"));
  EXPECT_GE(server_.questions("truncated.test"), 4);
}

TEST_F(ResolverTest, ForgedAnswersAreIgnored) {
  EXPECT_THAT(texts(resolve("lies.test")), ElementsAre("2001:db8::1", "192.0.2.1"));
  EXPECT_FALSE(resolve("liesonly.test", 300ms));
}

TEST_F(ResolverTest, GarbageBeforeTheAnswerDoesNoHarm) {
  EXPECT_THAT(texts(resolve("garbage.test", 5s)), ElementsAre("2001:db8::1", "192.0.2.1"));
}

TEST_F(ResolverTest, KeepsNoMoreAddressesThanAllowed) {
  const ResolveResult result = resolve("many.test");
  ASSERT_TRUE(result) << result.error().text;
  ASSERT_THAT(*result, SizeIs(limits::kAddressesPerNameMax));
  EXPECT_FALSE((*result)[0].is_v4());
  EXPECT_TRUE((*result)[1].is_v4());
}

TEST_F(ResolverTest, FailuresSayWhatHappenedAndWhoWasAsked) {
  const ResolveResult missing = resolve("nxdomain.test");
  ASSERT_FALSE(missing);
  EXPECT_FALSE(missing.error().timed_out);
  EXPECT_THAT(missing.error().text,
              AllOf(HasSubstr("nxdomain.test"), HasSubstr("NXDOMAIN"), HasSubstr(server_.address())));
  const ResolveResult empty = resolve("nodata.test");
  ASSERT_FALSE(empty);
  EXPECT_THAT(empty.error().text, HasSubstr("has no IPv4 or IPv6 address"));
  for (const char* name : {"servfail.test", "refused.test"}) {
    const ResolveResult broken = resolve(name);
    ASSERT_FALSE(broken);
    EXPECT_FALSE(broken.error().timed_out) << broken.error().text;
    EXPECT_THAT(broken.error().text, HasSubstr("could not be looked up"));
  }
}

TEST_F(ResolverTest, AServerThatFailsIsAskedAgainNextTime) {
  EXPECT_FALSE(resolve("servfail.test"));
  const int before = server_.questions("servfail.test");
  EXPECT_FALSE(resolve("servfail.test"));
  EXPECT_GT(server_.questions("servfail.test"), before);
}

TEST_F(ResolverTest, TheCallersDeadlineEndsTheWaitAndNotTheLookup) {
  const ResolveResult hasty = resolve("delay.test", 30ms);
  ASSERT_FALSE(hasty);
  EXPECT_TRUE(hasty.error().timed_out);
  EXPECT_THAT(hasty.error().text, HasSubstr(server_.address()));
  run_for(loop_, 500ms);
  const int asked = server_.questions("delay.test");
  EXPECT_TRUE(resolve("delay.test", 5ms));
  EXPECT_EQ(server_.questions("delay.test"), asked);
}

TEST_F(ResolverTest, SilenceIsATimeout) {
  const auto start = Clock::now();
  const ResolveResult result = resolve("drop.test", 60s);
  ASSERT_FALSE(result);
  EXPECT_TRUE(result.error().timed_out);
  EXPECT_LE(Clock::now() - start, limits::kResolveTimeout + 500ms);
  run_for(loop_, 50ms);
  EXPECT_EQ(loop_.tasks(), 0U);
}

TEST_F(ResolverTest, AServerThatIsNotThereIsNamed) {
  use("127.0.0.1:1");
  const ResolveResult result = resolve("www.test");
  ASSERT_FALSE(result);
  EXPECT_FALSE(result.error().timed_out) << result.error().text;
  EXPECT_THAT(result.error().text, AllOf(HasSubstr("no server answers"), HasSubstr("127.0.0.1:1")));
}

TEST_F(ResolverTest, TheNextServerIsAskedWhenOneIsNotThere) {
  use("127.0.0.1:1," + server_.address());
  EXPECT_THAT(texts(resolve("www.test")), ElementsAre("2001:db8::1", "192.0.2.1"));
}

TEST_F(ResolverTest, TooManyLookupsAtOnceAreRefused) {
  std::vector<ResolveResult> results;
  for (std::size_t i = 0; i < limits::kResolverLookupsMax + 5; ++i) {
    loop_.spawn(resolve_and_keep(*resolver_, "drop.h" + std::to_string(i) + ".test", Clock::now() + 100ms, results));
  }
  ASSERT_THAT(results, SizeIs(5));
  EXPECT_THAT(results[0].error().text, HasSubstr("lookups are under way"));
}

TEST_F(ResolverTest, GoesWhileLookupsAreUnderWay) {
  std::vector<ResolveResult> results;
  loop_.spawn(resolve_and_keep(*resolver_, "drop.test", Clock::now() + 10s, results));
  loop_.spawn(resolve_and_keep(*resolver_, "truncated.test", Clock::now() + 10s, results));
  run_for(loop_, 5ms);
  resolver_.reset();
  run_for(loop_, 50ms);
  ASSERT_THAT(results, SizeIs(2));
  EXPECT_EQ(loop_.tasks(), 0U);
}

TEST_F(ResolverTest, TheLoopMayGoWhileLookupsAreUnderWay) {
  auto loop = std::make_unique<Loop>();
  auto made = make_resolver(*loop, {.servers = server_.address()});
  ASSERT_TRUE(made);
  std::vector<ResolveResult> results;
  loop->spawn(resolve_and_keep(**made, "drop.test", Clock::now() + 10s, results));
  made->reset();
  loop.reset();
  EXPECT_THAT(results, IsEmpty());
}

TEST_F(ResolverTest, ServersThatAreNoAddressesAreAnError) {
  const auto made = make_resolver(loop_, {.servers = "dns.example"});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().kind, ErrorKind::invalid);
  EXPECT_THAT(made.error().text, HasSubstr("dns.example"));
}

TEST_F(ResolverTest, ServersOfTheMachineAreUsedWithoutOptions) { EXPECT_TRUE(make_resolver(loop_, {})); }

TEST_F(ResolverTest, AChangedResolvConfIsTakenUp) {
  const std::string path = ::testing::TempDir() + "/sallyport_resolv_" + std::to_string(::getpid());
  std::ofstream(path) << "nameserver 127.0.0.2\n";
  auto made = make_resolver(loop_, {.resolv_conf = path});
  ASSERT_TRUE(made) << made.error().text;
  resolver_ = std::move(*made);
  EXPECT_THAT(texts(resolve("www.test")), ElementsAre(HasSubstr("asked 127.0.0.2:53")));
  std::ofstream(path) << "search example.com\nnameserver 127.0.0.3\nnameserver 127.0.0.4\n";
  EXPECT_THAT(texts(resolve("www.test")), ElementsAre(HasSubstr("asked 127.0.0.3:53, 127.0.0.4:53")));
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace sallyport::net
