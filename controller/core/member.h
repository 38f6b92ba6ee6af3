#pragma once
// A guard that is registered, for as long as it is known: over its reconnects.

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

#include "controller/link/links.h"
#include "controller/store/store.h"

namespace sallyport::controller {

class Member {
 public:
  Member(GuardId id, std::string application, std::string function, std::uint64_t events_stored)
      : id(id),
        application(std::move(application)),
        function(std::move(function)),
        accepted(events_stored),
        stored(events_stored) {}
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  const GuardId id;
  const std::string application, function;
  std::uint64_t accepted;  // the last of its events that is on its way to the store; under its tracker's lock
  std::atomic<std::uint64_t> stored;  // and that is there

  // Any thread, all of it. `way` outlives the link, whose end is told before that of `way`.
  void connect(Links& way, LinkId link) {
    const std::lock_guard lock(mutex_);
    way_ = &way;
    link_ = link;
    welcome_ = false;
  }
  // Its Registered, before which nothing is sent.
  void welcome(const v1alpha1::Envelope& registered) {
    const std::lock_guard lock(mutex_);
    if (way_ == nullptr) return;
    way_->send(link_, registered);
    welcome_ = true;
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
  std::mutex mutex_;
  Links* way_ = nullptr;
  LinkId link_{};
  bool welcome_ = false;
};

}  // namespace sallyport::controller
