#pragma once
// A guard that is registered, for as long as it is known: over its reconnects.

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "ca/certificate_request.h"
#include "controller/link/links.h"
#include "controller/state/token_bucket.h"
#include "controller/store/store.h"
#include "policy-engine/rate/gcra.h"

namespace sallyport::controller {

class Member {
 public:
  Member(GuardId id, std::string application, std::string function, std::uint64_t events_stored, TokenBucket budget)
      : id(id),
        application(std::move(application)),
        function(std::move(function)),
        accepted(events_stored),
        budget(budget),
        taken_(events_stored) {}
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  const GuardId id;
  const std::string application, function;
  // Under its tracker's lock: the last of its events that is on its way to the store, and the bytes that may go there.
  std::uint64_t accepted;
  TokenBucket budget;

  // Any thread, all of it. `way` outlives the link, whose end is told before that of `way`.
  void connect(Links& way, LinkId link) {
    const std::lock_guard lock(mutex_);
    way_ = &way;
    link_ = link;
    welcome_ = false;
  }
  // The key that it may be given another certificate for now. A guard that asks again asks with the same request.
  Result<ca::RequestedKey> take_certificate(Time now, const std::string& request) {
    const std::lock_guard lock(mutex_);
    if (certificates_.take(now.time_since_epoch()).count() != 0) {
      return fail(ErrorSource::controller, ErrorKind::limit, "it asks for certificates too often");
    }
    if (request != request_) {
      auto key = ca::key_of_request(nullptr, request);
      if (!key) return key;
      request_ = request;
      key_ = std::move(*key);
    }
    return key_;
  }
  // Its Registered, before which nothing is sent.
  void welcome(const v1alpha1::Envelope& registered) {
    const std::lock_guard lock(mutex_);
    if (way_ == nullptr) return;
    way_->send(link_, registered);
    welcome_ = true;
  }

  // Whether more is on its way than a guard has sent that waits until it is told what has been taken.
  bool sends_on() {
    const std::lock_guard lock(mutex_);
    return on_way_ > limits::kSpoolSentBytesMax + limits::kLinkMessageBytesMax;
  }
  void expect(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    on_way_ += bytes;
  }
  // They are stored, of which the guard is told at `due`. True: from now on tell_taken() is to be called, until that
  // says that nothing is left to be told.
  bool stored(std::uint64_t sequence, std::size_t bytes, Time due, Time now) {
    const std::lock_guard lock(mutex_);
    const bool waited = !waiting_.empty();
    waiting_.push_back({sequence, bytes, due});
    return tell(now) && !waited;
  }
  bool tell_taken(Time now) {
    const std::lock_guard lock(mutex_);
    return tell(now);
  }
  // The last of its events that it has been told is stored. What is sent again behind that is known.
  std::uint64_t taken() {
    const std::lock_guard lock(mutex_);
    return taken_;
  }

  void disconnect(LinkId link) {
    const std::lock_guard lock(mutex_);
    if (link_ == link) way_ = nullptr;
  }
  // Goes nowhere while it is not connected.
  void send(const v1alpha1::Envelope& envelope) {
    const std::lock_guard lock(mutex_);
    if (way_ != nullptr && welcome_) way_->send(link_, envelope);
  }
  void send(const SharedEnvelope& envelope) {
    const std::lock_guard lock(mutex_);
    if (way_ != nullptr && welcome_) way_->send_all({&link_, 1}, envelope);
  }
  void close(const v1alpha1::Refused& refused) {
    const std::lock_guard lock(mutex_);
    if (way_ != nullptr) way_->close(link_, refused);
  }
  // Only over the connection that asked.
  void answer(LinkId link, const v1alpha1::Envelope& envelope) {
    const std::lock_guard lock(mutex_);
    if (way_ != nullptr && link_ == link) way_->send(link, envelope);
  }

 private:
  struct Stored {
    std::uint64_t sequence;
    std::size_t bytes;
    Time due;
  };
  bool tell(Time now) {
    auto due = waiting_.begin();
    for (; due != waiting_.end() && due->due <= now; ++due) {
      taken_ = due->sequence;
      on_way_ -= due->bytes;
    }
    const bool news = due != waiting_.begin();
    waiting_.erase(waiting_.begin(), due);
    if (news && way_ != nullptr && welcome_) {
      v1alpha1::Envelope envelope;
      envelope.mutable_events_taken()->set_sequence(taken_);
      way_->send(link_, envelope);
    }
    return !waiting_.empty();
  }

  std::mutex mutex_;
  rate::Gcra certificates_{{limits::kGuardCertificateInterval, limits::kGuardCertificateBurst}};
  std::string request_;  // of `key_`
  ca::RequestedKey key_;
  Links* way_ = nullptr;
  LinkId link_{};
  bool welcome_ = false;
  std::uint64_t taken_;
  std::vector<Stored> waiting_;  // until it is told
  std::size_t on_way_ = 0;       // bytes of events that have come, and of which it is not told yet
};

}  // namespace sallyport::controller
