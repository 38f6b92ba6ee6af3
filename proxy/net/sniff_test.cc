#include "proxy/net/sniff.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <fstream>

#include "base/limits.h"
#include "proxy/net/hello_builder_test.h"
#include "proxy/net/program_test.h"
#include "proxy/net/run_task_test.h"

extern char** environ;

namespace sallyport::net {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

TEST(Classify, TellsProtocolsApart) {
  const std::vector<std::pair<std::string, Protocol>> cases{
      {"", Protocol::need_more},
      {"\x16", Protocol::need_more},
      {"\x16\x03", Protocol::tls},
      {"\x15\x03", Protocol::tls},
      {std::string("\x80\x2e\x01\x00\x02", 5), Protocol::tls},
      {"G", Protocol::need_more},
      {"GET", Protocol::need_more},
      {"GET ", Protocol::http1},
      {"GET / HTTP/1.1\r\n", Protocol::http1},
      {"CONNECT example.com:443 HTTP/1.1\r\n", Protocol::http1},
      {"BASELINE-CONTROL /", Protocol::http1},
      {"m!#$%&'*+-.^_`|~9 /", Protocol::http1},
      {std::string(32, 'M') + " /", Protocol::http1},
      {std::string(33, 'M'), Protocol::opaque},
      {" GET /", Protocol::opaque},
      {"\r\nGET /", Protocol::opaque},
      {"GET\t/", Protocol::opaque},
      {"EHLO\r\n", Protocol::opaque},
      {"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Protocol::opaque},
      {std::string("\0\0\0\x08\x04\xd2\x16\x2f", 8), Protocol::opaque},
      {"*1\r\n$4\r\nPING\r\n", Protocol::opaque},
      {"\x16\x02", Protocol::opaque},
      {std::string(kPreface), Protocol::h2_preface},
      {std::string(kPreface) + "frames", Protocol::h2_preface},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Protocol::need_more},
      {"PRI /", Protocol::http1},
      {"PRI * HTTP/1.1\r\n", Protocol::http1},
  };
  for (const auto& [bytes, protocol] : cases) {
    EXPECT_EQ(classify(bytes), protocol) << bytes;
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      const Protocol earlier = classify(std::string_view(bytes).substr(0, length));
      EXPECT_TRUE(earlier == Protocol::need_more || earlier == protocol) << bytes << " at " << length;
    }
  }
}

class Sniff : public ::testing::Test {
 protected:
  Sniff() : buffer_(limits::kSniffBytesMax) {
    std::array<int, 2> fds;
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    socket_.emplace(loop_, UniqueFd(fds[0]));
    client_.reset(fds[1]);
  }
  void send(std::string_view bytes) {
    EXPECT_EQ(::send(client_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  Result<Sniffed> sniffed(Clock::duration timeout = 5s) {
    return run_task(loop_, sniff(*socket_, buffer_, Clock::now() + timeout));
  }

  Loop loop_;
  std::optional<Socket> socket_;
  UniqueFd client_;
  std::vector<char> buffer_;
};

Task<> send_slowly(Loop& loop, int fd, std::string bytes) {
  for (const char& byte : bytes) {
    EXPECT_EQ(::send(fd, &byte, 1, MSG_NOSIGNAL), 1);
    co_await loop.yield();
  }
}

TEST_F(Sniff, ReadsAClientHelloThatArrivesByteByByte) {
  const std::string hello = records(HelloBuilder().message(), 100);
  loop_.spawn(send_slowly(loop_, client_.get(), hello));
  const auto result = sniffed();
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_EQ(result->protocol, Protocol::tls);
  EXPECT_EQ(result->bytes, hello.size());
  EXPECT_EQ(std::string_view(buffer_.data(), result->bytes), hello);
  EXPECT_EQ(result->hello.sni->name, "api.example.com");
  EXPECT_TRUE(result->hello.offers_alpn("h2"));
}

TEST_F(Sniff, StopsAtTheFirstBytesOfARequest) {
  send("POST /x HTTP/1.1\r\nHost: a\r\n");
  const auto result = sniffed();
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_EQ(result->protocol, Protocol::http1);
  EXPECT_EQ(result->bytes, 27U);
}

TEST_F(Sniff, TellsThePrefaceOfHttp2FromARequest) {
  loop_.spawn(send_slowly(loop_, client_.get(), std::string(kPreface)));
  const auto result = sniffed();
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_EQ(result->protocol, Protocol::h2_preface);
}

TEST_F(Sniff, SilenceMeansThatTheServerSpeaksFirst) {
  const auto result = sniffed(30ms);
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_EQ(result->protocol, Protocol::opaque);
  EXPECT_TRUE(result->server_first);
  EXPECT_EQ(result->bytes, 0U);
}

TEST_F(Sniff, AWordAndSilenceIsOpaque) {
  send("HELLO");
  const auto result = sniffed(30ms);
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_EQ(result->protocol, Protocol::opaque);
  EXPECT_FALSE(result->server_first);
  EXPECT_EQ(result->bytes, 5U);
}

TEST_F(Sniff, AClientHelloThatIsNeverFinishedTimesOut) {
  send(record(HelloBuilder().message()).substr(0, 80));
  const auto result = sniffed(30ms);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::timeout);
  EXPECT_EQ(result.error().source, ErrorSource::downstream);
  EXPECT_THAT(result.error().text, HasSubstr("80 bytes"));
}

TEST_F(Sniff, AMalformedClientHelloFails) {
  send(record(""));
  const auto result = sniffed();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::malformed);
  EXPECT_THAT(result.error().text, HasSubstr("record is empty"));
}

TEST_F(Sniff, AHelloInTooManyRecordsFails) {
  const std::string message = '\x01' + number(limits::kClientHelloBytesMax - 4, 3) + std::string(10'000, 'x');
  send(records(message, 1).substr(0, limits::kSniffBytesMax + 10));
  const auto result = sniffed();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::malformed);
  EXPECT_THAT(result.error().text, HasSubstr("longer than"));
}

TEST_F(Sniff, AClientThatClosesIsNotAProtocol) {
  send("\x16\x03");
  client_.reset();
  const auto result = sniffed();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::closed);
}

TEST_F(Sniff, EndsWhenItsSocketIsCancelled) {
  socket_->cancel();
  const auto result = sniffed();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::cancelled);
}

// Real clients: each is started against a listening socket of ours, and what it sends first is sniffed.
class RealClients : public ::testing::Test {
 protected:
  RealClients() : buffer_(limits::kSniffBytesMax), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 4), 0);
    socklen_t length = sizeof address;
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = std::to_string(ntohs(address.sin_port));
    const timeval limit{.tv_sec = 30, .tv_usec = 0};  // for a client that fails to start
    EXPECT_EQ(::setsockopt(listener_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  }

  // $PORT in the command stands for our port.
  Result<Sniffed> first_bytes_of(const std::string& command) {
    const std::string line = "PORT=" + port_ + "; exec >/dev/null 2>&1 </dev/null; " + command;
    const std::array<const char*, 4> argv{"sh", "-c", line.c_str(), nullptr};
    pid_t pid = 0;
    EXPECT_EQ(::posix_spawnp(&pid, "sh", nullptr, nullptr, const_cast<char* const*>(argv.data()), environ), 0);
    UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_TRUE(connection) << "no connection came from: " << command;
    Result<Sniffed> result = [&] {
      Socket socket(loop_, std::move(connection));
      return run_task(loop_, sniff(socket, buffer_, Clock::now() + 20s));
    }();
    // The client sees its connection closed and ends by itself.
    int status = 0;
    ::waitpid(pid, &status, 0);
    return result;
  }

  Loop loop_;
  std::vector<char> buffer_;
  UniqueFd listener_;
  std::string port_;
};

TEST_F(RealClients, OpensslWithNameProtocolsAndBothVersions) {
  if (lacks("openssl")) GTEST_SKIP() << "openssl is not installed";
  auto result =
      first_bytes_of("openssl s_client -connect 127.0.0.1:$PORT -servername Api.Example.com -alpn h2,http/1.1");
  ASSERT_TRUE(result) << result.error().text;
  ASSERT_EQ(result->protocol, Protocol::tls);
  EXPECT_EQ(result->hello.sni->name, "api.example.com");
  EXPECT_THAT(result->hello.alpn, ::testing::ElementsAre("h2", "http/1.1"));
  EXPECT_THAT(result->hello.supported_versions, Contains(0x0304));
  EXPECT_EQ(result->bytes, result->hello.bytes_consumed);

  result = first_bytes_of("openssl s_client -connect 127.0.0.1:$PORT -noservername -tls1_2");
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_FALSE(result->hello.sni);
  EXPECT_THAT(result->hello.supported_versions, IsEmpty());
  EXPECT_EQ(result->hello.legacy_version, 0x0303);
}

TEST_F(RealClients, Curl) {
  if (lacks("curl")) GTEST_SKIP() << "curl is not installed";
  auto result = first_bytes_of("curl -k --connect-to ::127.0.0.1:$PORT https://curl.example.com/");
  ASSERT_TRUE(result) << result.error().text;
  ASSERT_EQ(result->protocol, Protocol::tls);
  EXPECT_EQ(result->hello.sni->name, "curl.example.com");
  EXPECT_TRUE(result->hello.offers_alpn("http/1.1"));

  result = first_bytes_of("curl -X PROPFIND --connect-to ::127.0.0.1:$PORT http://curl.example.com/");
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_EQ(result->protocol, Protocol::http1);

  result = first_bytes_of("curl --http2-prior-knowledge --connect-to ::127.0.0.1:$PORT http://curl.example.com/");
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_EQ(result->protocol, Protocol::h2_preface);
}

TEST_F(RealClients, Python) {
  if (lacks("python3")) GTEST_SKIP() << "python3 is not installed";
  const auto result = first_bytes_of(
      "python3 -c 'import socket,ssl,sys; c=ssl.create_default_context(); "
      "c.wrap_socket(socket.create_connection((\"127.0.0.1\",int(sys.argv[1]))),server_hostname=\"py.example.com\")' "
      "$PORT");
  ASSERT_TRUE(result) << result.error().text;
  ASSERT_EQ(result->protocol, Protocol::tls);
  EXPECT_EQ(result->hello.sni->name, "py.example.com");
}

TEST_F(RealClients, PythonWithAnAddressAsName) {
  if (lacks("python3")) GTEST_SKIP() << "python3 is not installed";
  // Python's ssl sends no SNI for an address: as RFC 6066 wants it.
  const auto result = first_bytes_of(
      "python3 -c 'import socket,ssl,sys; c=ssl.create_default_context(); "
      "c.wrap_socket(socket.create_connection((\"127.0.0.1\",int(sys.argv[1]))),server_hostname=\"127.0.0.1\")' $PORT");
  ASSERT_TRUE(result) << result.error().text;
  EXPECT_EQ(result->protocol, Protocol::tls);
  EXPECT_FALSE(result->hello.sni);
}

TEST_F(RealClients, Node) {
  if (lacks("node")) GTEST_SKIP() << "node is not installed";
  const auto result = first_bytes_of(
      "node -e 'require(\"tls\").connect({host:\"127.0.0.1\",port:+process.argv[1],servername:\"node.example.com\","
      "ALPNProtocols:[\"h2\"]}).on(\"error\",()=>process.exit())' $PORT");
  ASSERT_TRUE(result) << result.error().text;
  ASSERT_EQ(result->protocol, Protocol::tls);
  EXPECT_EQ(result->hello.sni->name, "node.example.com");
  EXPECT_TRUE(result->hello.offers_alpn("h2"));
}

// Go offers X25519MLKEM768 since 1.24: a hello of some 1,500 bytes, more than one segment.
TEST_F(RealClients, GoWithItsPostQuantumKeyShare) {
  if (!installed("go")) GTEST_SKIP() << "go is not installed";
  const std::string folder = ::testing::TempDir() + "/sallyport_go_hello";
  ASSERT_EQ(std::system(("mkdir -p " + folder).c_str()), 0);
  std::ofstream(folder + "/main.go") << R"(package main
import ("crypto/tls"; "os")
func main() { tls.Dial("tcp", "127.0.0.1:"+os.Args[1], &tls.Config{ServerName: "go.example.com", NextProtos: []string{"h2"}}) }
)";
  const std::string build = "cd " + folder + " && GO111MODULE=off go build -o hello main.go";
  ASSERT_EQ(std::system(build.c_str()), 0);
  const auto result = first_bytes_of(folder + "/hello $PORT");
  ASSERT_TRUE(result) << result.error().text;
  ASSERT_EQ(result->protocol, Protocol::tls);
  EXPECT_EQ(result->hello.sni->name, "go.example.com");
  EXPECT_TRUE(result->hello.offers_alpn("h2"));
}

}  // namespace
}  // namespace sallyport::net
