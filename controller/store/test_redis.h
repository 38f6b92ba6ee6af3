#pragma once
// A Redis of a test's own: Debian's server on a free port of the loopback, with nothing but what is said here.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "controller/store/redis_connection.h"

namespace sallyport::controller {

class RedisServer {
 public:
  // `options` as on its command line, "--maxmemory", "1mb".
  explicit RedisServer(std::vector<std::string> options = {"--appendonly", "yes", "--appendfsync", "always"})
      : folder_(::testing::TempDir() + "/sallyport_redis." + std::to_string(getpid()) + "." + std::to_string(++made)),
        port_(free_port()),
        options_(std::move(options)) {
    std::filesystem::create_directory(folder_);
    start();
  }
  ~RedisServer() {
    kill();
    std::filesystem::remove_all(folder_);
  }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  std::string url(const std::string& options = {}) const {
    return "redis://127.0.0.1:" + std::to_string(port_) + "/0?name=test" + options;
  }
  void kill() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = 0;
  }
  void start() {
    std::vector<std::string> words{
        "redis-server", "--port", std::to_string(port_), "--bind",        "127.0.0.1", "--dir", folder_,
        "--save",       "",       "--logfile",           folder_ + "/log"};
    words.insert(words.end(), options_.begin(), options_.end());
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    ASSERT_EQ(posix_spawnp(&process_, "redis-server", nullptr, nullptr, arguments.data(), environ), 0);
    RedisConnection connection(*parse_redis_url(url()));
    for (int tries = 0; tries < 500 && !connection.run({"PING"}); ++tries) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  Result<RedisReply> run(const RedisCommand& command) { return RedisConnection(*parse_redis_url(url())).run(command); }

 private:
  static int free_port() {
    const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size);
    return ntohs(address.sin_port);
  }

  static inline int made = 0;
  const std::string folder_;
  const int port_;
  const std::vector<std::string> options_;
  pid_t process_ = 0;
};

}  // namespace sallyport::controller
