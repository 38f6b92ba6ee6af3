#include "controller/store/redis_connection.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/limits.h"
#include "base/read_file.h"

namespace sallyport::controller {

namespace {

constexpr int kMovesMax = 5;  // from one node of a cluster to another, for one call

std::string_view view(const redisReply& reply) {
  return reply.str == nullptr ? std::string_view() : std::string_view(reply.str, reply.len);
}

std::string text_of(const RedisUrl::Address& address) { return address.host + ":" + std::to_string(address.port); }

std::unexpected<Error> error_of(std::string_view text) {
  const ErrorKind kind = text.starts_with("OOM")                                      ? ErrorKind::limit
                         : text.starts_with("FENCED") || text.starts_with("CHANGED ") ? ErrorKind::refused
                                                                                      : ErrorKind::unavailable;
  return fail(ErrorSource::controller, kind, std::string(text));
}

Result<UniqueFd> connect_to(const RedisUrl::Address& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int failed = getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
      failed != 0) {
    return fail(ErrorSource::controller, ErrorKind::unavailable, gai_strerror(failed));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(found, &freeaddrinfo);
  int error = 0;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    UniqueFd out(::socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!out) return fail(ErrorSource::controller, ErrorKind::unavailable, std::strerror(errno));
    const timeval limit{.tv_sec = limits::kRedisTimeout.count() / 1'000,
                        .tv_usec = limits::kRedisTimeout.count() % 1'000 * 1'000};
    const int yes = 1;
    // The time to send also bounds connect().
    setsockopt(out.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(out.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(out.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (::connect(out.get(), each->ai_addr, each->ai_addrlen) == 0) return out;
    error = errno;
  }
  return fail(ErrorSource::controller, ErrorKind::unavailable, std::strerror(error));
}

}  // namespace

std::unexpected<Error> RedisConnection::broken(const std::string& what) {
  const std::string where = where_;
  close();
  return fail(ErrorSource::controller, ErrorKind::unavailable, "Redis at " + where + ": " + what);
}

void RedisConnection::close() {
  ssl_.reset();
  reader_.reset();
  socket_.reset();
}

Result<void> RedisConnection::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ssl_ ? SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()))
                              : ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return broken("it takes nothing any more");
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return {};
}

Result<RedisReply> RedisConnection::read() {
  std::array<char, 64 << 10> room;
  while (true) {
    void* reply = nullptr;
    if (redisReaderGetReply(reader_.get(), &reply) != REDIS_OK) return broken(reader_->errstr);
    if (reply != nullptr) return RedisReply(static_cast<redisReply*>(reply));
    const ssize_t got =
        ssl_ ? SSL_read(ssl_.get(), room.data(), room.size()) : ::recv(socket_.get(), room.data(), room.size(), 0);
    if (got <= 0) return broken(got == 0 ? "it has closed the connection" : "it does not answer");
    if (redisReaderFeed(reader_.get(), room.data(), static_cast<std::size_t>(got)) != REDIS_OK) {
      return broken(reader_->errstr);
    }
  }
}

// Of one that Redis has closed meanwhile the end can be read, and what is sent on it would be lost.
bool RedisConnection::idle_and_open() const {
  if (!socket_) return false;
  pollfd asked{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&asked, 1, 0) == 0) return true;
  // Under TLS what can be read may be a ticket.
  char byte = 0;
  return ssl_ && ::recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

Result<void> RedisConnection::start_tls(const std::string& host) {
  if (!context_) {
    context_.reset(SSL_CTX_new(TLS_client_method()));
    const bool good =
        context_ && SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION) == 1 &&
        (url_.ca_file.empty() ? SSL_CTX_set_default_verify_paths(context_.get())
                              : SSL_CTX_load_verify_locations(context_.get(), url_.ca_file.c_str(), nullptr)) == 1;
    if (!good) {
      context_.reset();
      return broken("its CA can't be read from " + (url_.ca_file.empty() ? "the system's roots" : url_.ca_file));
    }
    // Without a verified certificate the secrets of all applications would go to whoever answers: fails closed.
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
  }
  ssl_.reset(SSL_new(context_.get()));
  if (!ssl_) return broken("out of memory");
  X509_VERIFY_PARAM* const parameters = SSL_get0_param(ssl_.get());
  if (X509_VERIFY_PARAM_set1_ip_asc(parameters, host.c_str()) != 1 &&
      (SSL_set1_host(ssl_.get(), host.c_str()) != 1 || SSL_set_tlsext_host_name(ssl_.get(), host.c_str()) != 1)) {
    return broken("its name is none that a certificate could have");
  }
  if (SSL_set_fd(ssl_.get(), socket_.get()) != 1 || SSL_connect(ssl_.get()) != 1) {
    const long verified = SSL_get_verify_result(ssl_.get());
    return broken(verified == X509_V_OK
                      ? "no TLS there"
                      : std::string("its certificate is not good: ") + X509_verify_cert_error_string(verified));
  }
  return {};
}

Result<void> RedisConnection::introduce(bool sentinel) {
  if (sentinel) return {};  // they have no password of Redis's
  if (!url_.password_file.empty()) {
    auto password = read_file(url_.password_file, limits::kSecretBytesMax);
    if (!password) return std::unexpected(password.error());
    if (password->ends_with('\n')) password->pop_back();
    RedisCommand command{"AUTH"};
    if (!url_.user.empty()) command.push_back(url_.user);
    command.push_back(std::move(*password));
    const auto answer = exchange({&command, 1});
    OPENSSL_cleanse(command.back().data(), command.back().size());
    if (!answer) return broken("it does not take the password of " + url_.password_file + ": " + answer.error().text);
  }
  if (url_.database != 0) {
    const RedisCommand command{"SELECT", std::to_string(url_.database)};
    if (auto answer = exchange({&command, 1}); !answer) {
      return broken("it has no database " + std::to_string(url_.database) + " for us: " + answer.error().text);
    }
  }
  return {};
}

Result<void> RedisConnection::dial(const RedisUrl::Address& address, bool sentinel) {
  close();
  where_ = text_of(address);
  auto connected = connect_to(address);
  if (!connected) return broken(connected.error().text);
  socket_ = std::move(*connected);
  reader_.reset(redisReaderCreate());
  if (!reader_) return broken("out of memory");
  if (url_.tls) {
    if (auto started = start_tls(address.host); !started) return started;
  }
  auto introduced = introduce(sentinel);
  if (!introduced) close();
  return introduced;
}

Result<RedisUrl::Address> RedisConnection::ask_sentinels() {
  Error last;
  for (const RedisUrl::Address& sentinel : url_.addresses) {
    if (auto dialled = dial(sentinel, true); !dialled) {
      last = dialled.error();
      continue;
    }
    const RedisCommand command{"SENTINEL", "get-master-addr-by-name", url_.master};
    const auto answers = exchange({&command, 1});
    if (answers && (*answers)[0]->type == REDIS_REPLY_ARRAY && (*answers)[0]->elements == 2) {
      return parse_redis_address(
          "[" + std::string(view(*(*answers)[0]->element[0])) + "]:" + std::string(view(*(*answers)[0]->element[1])),
          0);
    }
    last = {ErrorSource::controller, ErrorKind::unavailable,
            answers ? "the sentinel at " + where_ + " knows no master " + url_.master : answers.error().text};
  }
  return std::unexpected(last);
}

// A sentinel may be the last to hear that another has become master.
Result<void> RedisConnection::expect_master() {
  const RedisCommand command{"ROLE"};
  const auto answers = exchange({&command, 1});
  if (!answers) return std::unexpected(answers.error());
  const redisReply& role = *(*answers)[0];
  if (role.type != REDIS_REPLY_ARRAY || role.elements == 0 || view(*role.element[0]) != "master") {
    return broken("it is a replica");
  }
  return {};
}

Result<void> RedisConnection::connect() {
  switch (url_.kind) {
    case RedisUrl::Kind::server:
      return dial(url_.addresses[0], false);
    case RedisUrl::Kind::sentinel: {
      const auto master = ask_sentinels();
      if (!master) return std::unexpected(master.error());
      if (auto dialled = dial(*master, false); !dialled) return dialled;
      return expect_master();
    }
    case RedisUrl::Kind::cluster: {
      if (!moved_.host.empty()) {
        const RedisUrl::Address node = std::exchange(moved_, {});
        if (dial(node, false)) return {};
      }
      Result<void> dialled;
      for (const RedisUrl::Address& node : url_.addresses) {
        dialled = dial(node, false);
        if (dialled) break;
      }
      return dialled;
    }
  }
  return {};
}

Result<std::vector<RedisReply>> RedisConnection::exchange(std::span<const RedisCommand> commands) {
  std::string sent;
  for (const RedisCommand& command : commands) {
    sent += "*" + std::to_string(command.size()) + "\r\n";
    for (const std::string& word : command) sent += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
  }
  const auto written = write(sent);
  OPENSSL_cleanse(sent.data(), sent.size());
  if (!written) return std::unexpected(written.error());
  std::vector<RedisReply> out;
  Result<void> good;
  for (std::size_t i = 0; i < commands.size(); ++i) {
    auto reply = read();
    if (!reply) return std::unexpected(reply.error());
    if ((*reply)->type == REDIS_REPLY_ERROR && good) good = error_of(view(**reply));
    out.push_back(std::move(*reply));
  }
  if (!good) return std::unexpected(good.error());
  return out;
}

Result<std::vector<RedisReply>> RedisConnection::run_all(std::span<const RedisCommand> commands) {
  for (int moves = 0;; ++moves) {
    if (!idle_and_open()) {
      if (auto connected = connect(); !connected) return std::unexpected(connected.error());
    }
    auto answers = exchange(commands);
    if (answers) return answers;
    const std::string& text = answers.error().text;
    if (url_.kind == RedisUrl::Kind::cluster && text.starts_with("MOVED ") && moves < kMovesMax) {
      // "MOVED SLOT HOST:PORT": nothing was done here.
      auto node = parse_redis_address(std::string_view(text).substr(text.rfind(' ') + 1), 0);
      if (!node) return std::unexpected(node.error());
      moved_ = *node;
      close();
      if (auto dialled = dial(moved_, false); !dialled) return std::unexpected(dialled.error());
      continue;
    }
    // One that is no master any more: who is, is found out with the next call.
    if (text.starts_with("READONLY") || text.starts_with("CLUSTERDOWN") || text.starts_with("LOADING")) close();
    return answers;
  }
}

Result<RedisReply> RedisConnection::run(const RedisCommand& command) {
  auto answers = run_all({&command, 1});
  if (!answers) return std::unexpected(answers.error());
  return std::move((*answers)[0]);
}

}  // namespace sallyport::controller
