#pragma once
// One connection to the Redis that may be written: found by its address, by sentinels, or by what a cluster's nodes say
// of a key. Blocking, with deadlines. hiredis reads and writes the protocol; Debian's has no TLS, so the bytes are
// ours.

#include <hiredis/hiredis.h>
#include <openssl/ssl.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "controller/store/redis_url.h"

namespace sallyport::controller {

struct FreeRedis {
  void operator()(redisReply* reply) const noexcept { freeReplyObject(reply); }
  void operator()(redisReader* reader) const noexcept { redisReaderFree(reader); }
  void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
};
using RedisReply = std::unique_ptr<redisReply, FreeRedis>;
using RedisCommand = std::vector<std::string>;

// One thread at a time.
class RedisConnection {
 public:
  explicit RedisConnection(RedisUrl url) : url_(std::move(url)) {}

  // Connects first where it is not connected; after a failure the next call does. What failed with unavailable or
  // timeout may have been done or not: nothing is sent twice here. An error that Redis answers with is an Error:
  // limit (it is full), refused (a script's own word, which is the text), unavailable.
  Result<RedisReply> run(const RedisCommand& command);
  // All of them in one write; the first error is the result. In a cluster only the first may have a key.
  Result<std::vector<RedisReply>> run_all(std::span<const RedisCommand> commands);

 private:
  Result<std::vector<RedisReply>> run_in_cluster(std::span<const RedisCommand> commands);
  Result<void> be_connected();
  Result<void> connect();
  Result<void> dial(const RedisUrl::Address& address, bool sentinel);
  Result<void> start_tls(const std::string& host);
  Result<void> introduce(bool sentinel);
  Result<RedisUrl::Address> ask_sentinels();
  Result<void> expect_master();
  Result<std::vector<RedisReply>> exchange(std::span<const RedisCommand> commands);
  Result<std::vector<RedisReply>> exchange_asking(std::span<const RedisCommand> commands);
  Result<void> write(std::string_view bytes);
  Result<RedisReply> read();
  bool idle_and_open() const;
  std::optional<std::string> said_at_the_end() const;
  void close();
  std::unexpected<Error> broken(const std::string& what);

  const RedisUrl url_;
  UniqueFd socket_;
  std::unique_ptr<SSL_CTX, FreeRedis> context_;
  std::unique_ptr<SSL, FreeRedis> ssl_;
  std::unique_ptr<redisReader, FreeRedis> reader_;
  RedisUrl::Address at_;     // what was dialled last
  RedisUrl::Address moved_;  // of a cluster: the node that has our keys; its host is empty while it is not known
};

}  // namespace sallyport::controller
