#pragma once
// Which controllers share a Redis, where each is reached, and which shards it has: a hint for who looks for one, as the
// leases alone decide. What stands there is sealed, so that whoever may write to Redis sends nobody elsewhere.

#include <memory>
#include <string>
#include <vector>

#include "controller/store/redis_connection.h"
#include "controller/store/sealing.h"

namespace sallyport::controller {

struct Replica {
  std::string id;                   // random, of the process
  std::string link_url, admin_url;  // wss://HOST:PORT, https://HOST:PORT
  std::vector<unsigned> shards;     // whose leases it has
};

// One thread.
class Directory {
 public:
  // ErrorKind::invalid, with the remedy: this Redis may forget; has another number of shards than the URL says; or the
  // key in `folder` is not the one that the other controllers seal with.
  static Result<std::unique_ptr<Directory>> open(const RedisUrl& url, const std::string& folder);

  unsigned shards() const { return shards_; }

  struct Seen {
    std::vector<Replica> replicas;     // that live, this one among them; their URLs can be used
    std::vector<std::string> ignored;  // why others there are not believed
  };
  // Announces this one for limits::kStoreLeaseTime, and says who else lives.
  Result<Seen> look(const Replica& me);
  // Nobody need wait for it.
  void leave(const std::string& id);

 private:
  Directory(const RedisUrl& url, SealingKey key);
  Result<void> agree(unsigned wanted, const std::string& folder);
  Result<Replica> read(const std::string& id, std::string_view sealed) const;
  std::string key(std::string_view name) const { return prefix_ + std::string(name); }

  RedisConnection connection_;
  const std::string prefix_;
  const SealingKey key_;
  unsigned shards_ = 0;
  std::string announced_, sealed_;  // the last, as it is sealed anew only when it changes
};

}  // namespace sallyport::controller
