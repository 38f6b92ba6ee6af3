#pragma once
// Where a Redis is and what is asked of it, as one URL:
//   redis://[user@]host[:port][/database]        rediss:// for TLS
//   redis+sentinel://host[:port],…/master-name   redis+cluster://host[:port],…   (rediss+… for TLS)
// with ?name=NAME (default: "default"), ?shards=N, ?replicas=N, ?password-file=FILE, ?ca=FILE.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace sallyport::controller {

struct RedisUrl {
  enum class Kind : std::uint8_t { server, sentinel, cluster };
  struct Address {
    std::string host;
    std::uint16_t port = 0;
  };
  Kind kind = Kind::server;
  bool tls = false;
  std::vector<Address> addresses;
  std::string master;            // of sentinel
  std::string user;              // empty: Redis's default user
  std::string password_file;     // empty: no password
  std::string ca_file;           // empty: the system's roots
  std::string name = "default";  // of all that these controllers keep there
  unsigned shards = 0;           // 0: as many as there are
  unsigned database = 0;
  unsigned replicas = 0;  // that must have a write before it counts as stored
};

// ErrorKind::invalid: what is wrong and how it is written. A password in it is refused, as arguments are everybody's to
// read.
Result<RedisUrl> parse_redis_url(std::string_view text);
// "host:port", also of "[::1]:port", or `default_port`. ErrorKind::invalid.
Result<RedisUrl::Address> parse_redis_address(std::string_view text, std::uint16_t default_port);

}  // namespace sallyport::controller
