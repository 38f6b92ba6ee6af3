#pragma once
// What tests of this folder share: temporary files, other programs, and a TLS server that presents a given certificate.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

#include "base/unique_fd.h"
#include "ca/authority.h"

namespace sallyport::ca::test {

// A directory that goes with the test.
class TempDir {
 public:
  TempDir() {
    std::string form = (std::filesystem::temp_directory_path() / "sallyport-ca-XXXXXX").string();
    if (mkdtemp(form.data()) == nullptr) std::abort();
    path_ = form;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() { std::filesystem::remove_all(path_); }

  std::string path(std::string_view name) const { return (path_ / name).string(); }
  std::string write(std::string_view name, std::string_view content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
    return path(name);
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_file(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

struct Ran {
  int status = -1;
  std::string output;  // standard output and error
};

// Runs a shell command line.
inline Ran run(const std::string& command) {
  Ran ran;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return ran;
  char buffer[4096];
  while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) ran.output.append(buffer, n);
  const int status = pclose(pipe);
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ran;
}

// For tests that are skipped where a program is missing; in CI that is a failure.
inline bool have(const std::string& program) {
  const bool found = run("command -v " + program).status == 0;
  if (!found && std::getenv("CI") != nullptr) ADD_FAILURE() << program << " is missing, and nothing is skipped in CI";
  return found;
}

inline std::string pem(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), certificate);
  return std::string(bio_view(bio.get()));
}

// Answers each TLS connection on 127.0.0.1 with one small HTTP response, until it goes.
class TlsServer {
 public:
  TlsServer(X509* certificate, EVP_PKEY* key, STACK_OF(X509) * chain, OSSL_LIB_CTX* lib = nullptr)
      : context_(SSL_CTX_new_ex(lib, nullptr, TLS_server_method())) {
    EXPECT_EQ(SSL_CTX_use_cert_and_key(context_.get(), certificate, key, chain, 1), 1);
    listener_.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_.get(), 8), 0);
    EXPECT_EQ(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~TlsServer() {
    shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

  std::string port() const { return std::to_string(port_); }

 private:
  void serve() {
    while (true) {
      const UniqueFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!connection) return;
      const timeval deadline{10, 0};
      setsockopt(connection.get(), SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
      const SslPtr ssl(SSL_new(context_.get()));
      SSL_set_fd(ssl.get(), connection.get());
      if (SSL_accept(ssl.get()) != 1) continue;
      answer(ssl.get());
      SSL_shutdown(ssl.get());
    }
  }

  static void answer(SSL* ssl) {
    std::string request;
    char buffer[2048];
    while (request.find("\r\n\r\n") == std::string::npos) {
      const int n = SSL_read(ssl, buffer, sizeof buffer);
      if (n <= 0) return;
      request.append(buffer, static_cast<std::size_t>(n));
    }
    constexpr std::string_view kResponse = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    SSL_write(ssl, kResponse.data(), static_cast<int>(kResponse.size()));
  }

  SslCtxPtr context_;
  UniqueFd listener_;
  int port_ = 0;
  std::thread thread_;
};

// A fixed moment for everything that needs no real client: 2026-06-01 12:00:00 UTC.
inline constexpr TimePoint kNoon{std::chrono::seconds(1'780'315'200)};

inline TimePoint today() { return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()); }

}  // namespace sallyport::ca::test
