#pragma once
// How often the functions of an application may send what: one bucket for each limit and scope, whichever guards come
// and go. Pure: time is told.
//
// Guards that share a limit send on leases, which are taken out of the bucket when they are granted: their sum over any
// time is at most `burst` and what comes in in that time, whatever happens to a guard. What is not used lapses; the
// bucket fills again by itself.
//
// What guards have sent is added up, too. What was sent without a lease (by guards that could not ask) is a debt; as
// long as there is one the limit is halted (STOP), and it is not resumed (RESUME) before the bucket is half full, so
// that it does not flutter.

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controller/api/link.pb.h"
#include "controller/state/token_bucket.h"
#include "controller/state/types.h"
#include "policy-engine/flow/pattern.h"

namespace sallyport::controller {

class RateTable {
 public:
  struct Lease {
    std::uint32_t granted = 0;
    std::chrono::milliseconds lifetime{};
    std::chrono::milliseconds retry_after{};  // where nothing was granted
  };
  // To be told to the guards that it concerns.
  struct Halt {
    std::string limit;
    v1alpha1::LimitScope scope = v1alpha1::LIMIT_SCOPE_UNSPECIFIED;
    std::uint32_t function = 0;  // where the scope is one
    bool halted = false;
    std::chrono::milliseconds retry_after{};
  };

  struct Rule {
    v1alpha1::Limit limit;
    std::vector<std::uint32_t> functions;  // whose requests it counts; empty: of all
  };
  // From now on these are in force. A limit that was there under its name and with its scope keeps its buckets. Those
  // that say nothing that can be kept (a rate that is no number, a pattern that is none) grant nothing.
  void set(std::span<const Rule> rules, Time now);

  // Nothing is granted of a limit that there is not.
  Lease lease(std::string_view limit, const Source& from, std::uint32_t wanted, Time now);

  // An exchange that a guard has reported.
  void count(const Source& from, const v1alpha1::Exchange& exchange, Time now, std::vector<Halt>& out);

  // What is halted for a guard, which may not have heard of it.
  void tell_halted(const Source& from, Time now, std::vector<Halt>& out);

  // To be called once in a while: limits that may be resumed.
  void advance(Time now, std::vector<Halt>& out);

  std::size_t buckets() const { return buckets_.size(); }
  // Those of a limit that are not as good as new.
  struct BucketFigures {
    std::uint32_t function = 0;  // where the scope is one
    double available = 0;        // below 0: more was sent than might be
    double leased = 0;           // and not reported as sent
    bool halted = false;
    std::chrono::milliseconds retry_after{};  // where it is halted
  };
  std::vector<BucketFigures> figures(std::string_view limit, Time now);

 private:
  struct Limit {
    std::string name, endpoint;
    std::vector<flow::Pattern> operations;
    bool any_operation = true;
    std::vector<std::uint32_t> functions;  // empty: all
    double per_second = 0, burst = 0;
    v1alpha1::LimitScope scope = v1alpha1::LIMIT_SCOPE_UNSPECIFIED;
    bool good = true;
  };
  struct Key {
    std::string limit;
    v1alpha1::LimitScope scope = v1alpha1::LIMIT_SCOPE_UNSPECIFIED;
    std::uint32_t function = 0;  // 0 where the scope is the application
    GuardId guard{};             // zeros where the scope is wider than an instance
    auto operator<=>(const Key&) const = default;
  };
  struct Credit {  // what was leased, and has not been reported as sent
    Time until{};
    double count = 0;
  };
  struct Bucket {
    TokenBucket tokens;
    std::deque<Credit> credits;  // those of one second are one
    bool halted = false;
  };

  static Limit limit_of(const v1alpha1::Limit& source);
  static Key key_of(const Limit& limit, const Source& from);
  const Limit* find(std::string_view name) const;
  static bool applies_to(const Limit& limit, const Source& from);
  static bool applies(const Limit& limit, const v1alpha1::Exchange& exchange);
  Bucket* bucket_of(const Limit& limit, const Source& from, Time now);
  static void add_credit(Bucket& bucket, double count, Time now);
  static bool use_credit(Bucket& bucket, Time now);
  static std::chrono::milliseconds until_resumed(Bucket& bucket, Time now);

  std::vector<Limit> limits_;
  std::map<Key, Bucket> buckets_;
};

}  // namespace sallyport::controller
