#pragma once
// Who may write a shard of a Redis: one controller at a time (docs/decisions/0011). Its holder has a random token in a
// key that does not expire, and each write checks that in the same script; beside it a key that does expire says how
// long nobody else may become the holder.

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/error.h"
#include "controller/store/redis_connection.h"

namespace sallyport::controller {

class RedisLease {
 public:
  // `prefix` is what the shard's keys begin with. `on_lost` is called on its own thread, once, when another holds it.
  RedisLease(const RedisUrl& url, const std::string& prefix, std::function<void()> on_lost);
  ~RedisLease();  // gives it back, so that the next need not wait
  RedisLease(const RedisLease&) = delete;
  RedisLease& operator=(const RedisLease&) = delete;

  // Once. False: another holds it, or may come back to it: one that has run out, without having been given back, is
  // taken only where `lapsed` says so.
  Result<bool> take(bool lapsed);
  // What a write's script has to find in the key of its holder.
  const std::string& token() const { return token_; }
  // No other can be the holder yet, whatever has happened to this process or to Redis since. Any thread.
  bool held() const;

 private:
  void keep();
  Result<bool> renew();
  void note_renewed(std::chrono::steady_clock::time_point asked);

  RedisConnection connection_;
  const std::string holder_key_, lease_key_;
  const std::function<void()> on_lost_;
  std::string token_;
  std::atomic<std::chrono::steady_clock::rep> ends_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sallyport::controller
