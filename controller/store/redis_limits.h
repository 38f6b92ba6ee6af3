#pragma once
// The limits of the store in Redis, with their units, beside those of base/limits.h.

#include <chrono>

namespace sallyport::limits {

inline constexpr std::chrono::milliseconds kRedisTimeout{2'000};          // to connect, and for each read and write
inline constexpr std::chrono::milliseconds kRedisReplicasTimeout{1'000};  // for the replicas to have a write
inline constexpr std::chrono::milliseconds kStoreLeaseTime{2'000};        // then another controller may take over
inline constexpr std::chrono::milliseconds kStoreLeaseRenewInterval{500};
inline constexpr std::chrono::milliseconds kStoreLeaseRetryDelay{200};  // of who waits to take over

}  // namespace sallyport::limits
