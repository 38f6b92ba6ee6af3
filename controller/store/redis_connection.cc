#include "controller/store/redis_connection.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>
#include <thread>
#include <utility>

#include "base/limits.h"
#include "base/read_file.h"

namespace sallyport::controller {

namespace {

constexpr int kMovesMax = 5;                            // from one node of a cluster to another, for one call
constexpr std::chrono::milliseconds kMovingDelay{200};  // before a cluster that moves a slot is asked again

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

// Why a handshake, or what comes behind it, failed, with what there is to do about it.
std::string tls_failure(const SSL& ssl) {
  switch (const long verified = SSL_get_verify_result(&ssl)) {
    case X509_V_OK:
      break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return "its certificate is for other names; it needs the host that is dialled as a subjectAltName (of an address "
             "an IP entry), and nodes that a sentinel or a cluster tells of are dialled as they announce themselves";
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return std::string("its certificate is not good now: ") + X509_verify_cert_error_string(verified) +
             "; renew it, or set the clocks";
    default:
      return std::string("its certificate is not good: ") + X509_verify_cert_error_string(verified) +
             "; name the CA that it chains to with ?ca=FILE in the store's URL";
  }
  const unsigned long error = ERR_peek_error();
  if (ERR_GET_LIB(error) != ERR_LIB_SSL) {
    return "its TLS gives no answer; where it speaks none, the store's URL begins with redis instead of rediss";
  }
  switch (ERR_GET_REASON(error)) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
      return "it speaks no TLS there; name its tls-port, or begin the store's URL with redis instead of rediss";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
      return "it wants a certificate of its clients, and controllers have a password instead; set tls-auth-clients to "
             "no "
             "there";
    default:
      return std::string("TLS fails there: ") + ERR_reason_error_string(error);
  }
}

// The node of "MOVED SLOT HOST:PORT" or "ASK SLOT HOST:PORT". Without a host it is the one that has said it.
Result<RedisUrl::Address> node_of(std::string_view text, const RedisUrl::Address& said_by) {
  text.remove_prefix(text.rfind(' ') + 1);
  if (!text.starts_with(':')) return parse_redis_address(text, 0);
  return parse_redis_address("[" + said_by.host + "]" + std::string(text), 0);
}

}  // namespace

std::unexpected<Error> RedisConnection::broken(const std::string& what) {
  const std::string where = text_of(at_);
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
    ERR_clear_error();
    const ssize_t sent = ssl_ ? SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()))
                              : ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return broken(said_at_the_end().value_or("it takes nothing any more"));
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return {};
}

// With TLS 1.3 a server tells only behind the handshake that it wanted a certificate of us, and has closed then.
std::optional<std::string> RedisConnection::said_at_the_end() const {
  char byte = 0;
  if (!ssl_ || (ERR_peek_error() == 0 && SSL_read(ssl_.get(), &byte, 1) > 0)) return std::nullopt;
  return ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_SSL ? std::optional(tls_failure(*ssl_)) : std::nullopt;
}

Result<RedisReply> RedisConnection::read() {
  std::array<char, 64 << 10> room;
  while (true) {
    void* reply = nullptr;
    if (redisReaderGetReply(reader_.get(), &reply) != REDIS_OK) return broken(reader_->errstr);
    if (reply != nullptr) return RedisReply(static_cast<redisReply*>(reply));
    ERR_clear_error();
    const ssize_t got =
        ssl_ ? SSL_read(ssl_.get(), room.data(), room.size()) : ::recv(socket_.get(), room.data(), room.size(), 0);
    if (got <= 0) {
      return broken(said_at_the_end().value_or(got == 0 ? "it has closed the connection" : "it does not answer"));
    }
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
  if (!ssl_) return false;
  // Under TLS what can be read may be a ticket, or the end.
  const int flags = ::fcntl(socket_.get(), F_GETFL);
  if (::fcntl(socket_.get(), F_SETFL, flags | O_NONBLOCK) != 0) return false;
  char byte = 0;
  ERR_clear_error();
  const int got = SSL_peek(ssl_.get(), &byte, 1);
  const bool open = got <= 0 && SSL_get_error(ssl_.get(), got) == SSL_ERROR_WANT_READ;
  return ::fcntl(socket_.get(), F_SETFL, flags) == 0 && open;
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
  ERR_clear_error();
  if (SSL_set_fd(ssl_.get(), socket_.get()) != 1 || SSL_connect(ssl_.get()) != 1) return broken(tls_failure(*ssl_));
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
    if (!answer && !socket_) return std::unexpected(answer.error());
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
  at_ = address;
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
            answers ? "the sentinel at " + text_of(at_) + " knows no master " + url_.master : answers.error().text};
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
  if (url_.kind == RedisUrl::Kind::cluster) return run_in_cluster(commands);
  if (auto there = be_connected(); !there) return std::unexpected(there.error());
  auto answers = exchange(commands);
  // One that is no master any more: who is, is found out with the next call.
  if (!answers && (answers.error().text.starts_with("READONLY") || answers.error().text.starts_with("LOADING"))) {
    close();
  }
  return answers;
}

Result<void> RedisConnection::be_connected() { return idle_and_open() ? Result<void>{} : connect(); }

// A node that does not have our slot does nothing, and says who has it: MOVED for good, ASK for this call alone, while
// the slot is on its way there, and TRYAGAIN while its keys are on both sides.
Result<std::vector<RedisReply>> RedisConnection::run_in_cluster(std::span<const RedisCommand> commands) {
  const auto last = std::chrono::steady_clock::now() + limits::kRedisTimeout;
  bool ask = false;
  for (int moves = 0;;) {
    if (auto there = be_connected(); !there) return std::unexpected(there.error());
    auto answers = ask ? exchange_asking(commands) : exchange(commands);
    if (answers) return answers;
    const std::string& text = answers.error().text;
    ask = text.starts_with("ASK ");
    if ((ask || text.starts_with("MOVED ")) && moves++ < kMovesMax) {
      const auto node = node_of(text, at_);
      if (!node) return std::unexpected(node.error());
      if (!ask) moved_ = *node;
      if (auto dialled = dial(*node, false); !dialled) return std::unexpected(dialled.error());
      continue;
    }
    if (text.starts_with("TRYAGAIN")) {
      if (std::chrono::steady_clock::now() >= last) {
        return fail(ErrorSource::controller, ErrorKind::unavailable, "the cluster is moving what is stored: " + text);
      }
      // tidy:allow(sleeps): whoever calls this waits for Redis already, and serves no connections
      std::this_thread::sleep_for(kMovingDelay);
      moves = 0;
      continue;
    }
    if (text.starts_with("CLUSTERDOWN") || text.starts_with("LOADING") || text.starts_with("MASTERDOWN")) close();
    return answers;
  }
}

// ASKING holds for one command: the first, as none behind it has a key.
Result<std::vector<RedisReply>> RedisConnection::exchange_asking(std::span<const RedisCommand> commands) {
  std::vector<RedisCommand> asking{{"ASKING"}};
  asking.insert(asking.end(), commands.begin(), commands.end());
  auto answers = exchange(asking);
  for (RedisCommand& command : asking) {
    for (std::string& word : command) OPENSSL_cleanse(word.data(), word.size());
  }
  if (answers) answers->erase(answers->begin());
  return answers;
}

Result<RedisReply> RedisConnection::run(const RedisCommand& command) {
  auto answers = run_all({&command, 1});
  if (!answers) return std::unexpected(answers.error());
  return std::move((*answers)[0]);
}

}  // namespace sallyport::controller
