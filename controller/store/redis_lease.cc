#include "controller/store/redis_lease.h"

#include <array>
#include <chrono>

#include "base/hex.h"
#include "base/limits.h"
#include "base/random.h"

namespace sallyport::controller {

namespace {

using Clock = std::chrono::steady_clock;

// KEYS: holder, lease. ARGV: token, milliseconds, whether one that has run out is taken.
constexpr const char* kTake = R"(
  if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
  if ARGV[3] == '0' and redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  redis.call('SET', KEYS[1], ARGV[1])
  return 1)";

// Also where the lease has run out: as long as nobody has become the holder, nothing has been written since.
constexpr const char* kRenew = R"(
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  return 1)";

constexpr const char* kGiveBack = R"(
  if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1], KEYS[2]) end
  return 1)";

std::string milliseconds() { return std::to_string(limits::kStoreLeaseTime.count()); }

}  // namespace

RedisLease::RedisLease(const RedisUrl& url, const std::string& prefix, std::function<void()> on_lost)
    : connection_(url), holder_key_(prefix + "holder"), lease_key_(prefix + "lease"), on_lost_(std::move(on_lost)) {}

RedisLease::~RedisLease() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (!thread_.joinable()) return;
  thread_.join();
  // If this fails the lease runs out by itself.
  [[maybe_unused]] const auto given = connection_.run({"EVAL", kGiveBack, "2", holder_key_, lease_key_, token_});
}

Result<bool> RedisLease::take(bool lapsed) {
  std::array<unsigned char, 16> random{};
  if (!random_bytes(random)) {
    return fail(ErrorSource::internal, ErrorKind::unavailable, "this machine has no randomness");
  }
  token_ = to_hex(random);
  const Clock::time_point asked = Clock::now();
  const auto answer =
      connection_.run({"EVAL", kTake, "2", holder_key_, lease_key_, token_, milliseconds(), lapsed ? "1" : "0"});
  if (!answer) return std::unexpected(answer.error());
  if ((*answer)->integer != 1) return false;
  note_renewed(asked);
  thread_ = std::thread([this] { keep(); });
  return true;
}

Result<bool> RedisLease::renew() {
  const Clock::time_point asked = Clock::now();
  const auto answer = connection_.run({"EVAL", kRenew, "2", holder_key_, lease_key_, token_, milliseconds()});
  if (!answer) return std::unexpected(answer.error());
  if ((*answer)->integer != 1) return false;
  note_renewed(asked);
  return true;
}

// Redis's time began when it did it, which was later.
void RedisLease::note_renewed(Clock::time_point asked) {
  ends_ = (asked + limits::kStoreLeaseTime).time_since_epoch().count();
}

bool RedisLease::held() const { return Clock::now().time_since_epoch().count() < ends_; }

void RedisLease::keep() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, limits::kStoreLeaseRenewInterval, [this] { return stopping_; })) {
    lock.unlock();
    const auto renewed = renew();
    // While Redis can't be asked held() becomes false by itself, and true again with the next success.
    if (renewed && !*renewed) {
      ends_ = 0;
      return on_lost_();
    }
    lock.lock();
  }
}

}  // namespace sallyport::controller
