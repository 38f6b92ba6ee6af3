#pragma once
// This process's part of what several controllers keep in one Redis (docs/decisions/0011): a Controller for each shard
// whose lease it has, and for guards of others the way to the one that has theirs. By themselves the controllers that
// live share the shards evenly.

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "controller/core/controller.h"
#include "controller/shards/directory.h"
#include "controller/store/redis_store.h"

namespace sallyport::controller {

// The same in all processes and versions.
unsigned shard_of(std::string_view application, unsigned shards);

struct ShardsOptions {
  RedisUrl redis;
  std::string folder;               // with the key that all of them seal with
  std::string link_url, admin_url;  // where this one is reached
  ControllerOptions controller;
  std::optional<TokenReviewOptions> kubernetes;
  std::function<void()> on_lost;  // a shard was lost against its will: the process must end. Any thread
};

class Shards final : public LinkHandler {
 public:
  // Errors as Directory::open().
  static Result<std::unique_ptr<Shards>> join(ShardsOptions options);
  // Gives all of it back. Every link has ended, and every Use.
  ~Shards() override;

  void connected(Links& way, LinkId link, v1alpha1::Register&& wanted) override;
  void received(LinkId link, v1alpha1::Envelope&& envelope) override;
  void closed(LinkId link, const std::string& why) override;

  // A shard's Controller, which stays as long as this.
  class Use {
   public:
    Use(Shards& owner, unsigned shard, Controller& controller)
        : owner_(&owner), shard_(shard), controller_(&controller) {}
    Use(Use&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), shard_(other.shard_), controller_(other.controller_) {}
    Use& operator=(Use&&) = delete;
    ~Use() {
      if (owner_ != nullptr) owner_->release(shard_);
    }
    Controller& operator*() const { return *controller_; }
    Controller* operator->() const { return controller_; }

   private:
    Shards* owner_;
    unsigned shard_;
    Controller* controller_;
  };
  // Any thread. Nothing: another has it, or nobody at present.
  std::optional<Use> use(unsigned shard);
  std::vector<unsigned> held() const;
  unsigned count() const { return static_cast<unsigned>(slots_.size()); }
  unsigned of(std::string_view application) const { return shard_of(application, count()); }
  // The others that live, and which of them has the shard, as it was known last.
  std::vector<Replica> others() const;
  std::optional<Replica> holder(unsigned shard) const;
  // Why guards and administrators had better go elsewhere; empty: this one is a part of it.
  std::string trouble();

 private:
  using Clock = std::chrono::steady_clock;
  enum class State : std::uint8_t { away, taking, held, leaving };
  // The Controller goes first.
  struct Parts {
    std::unique_ptr<TokenReviewer> reviewer;
    std::unique_ptr<RedisStore> store;
    std::unique_ptr<Controller> controller;
  };
  struct Slot {
    State state = State::away;
    bool leased = false;
    Clock::time_point beyond_until{};  // taken beyond this one's share, as nobody else did
    Clock::time_point free_since{}, not_before{};
    std::size_t uses = 0;  // links and calls
    std::unique_ptr<Parts> parts;
    std::thread mover;  // takes it or gives it up
  };
  struct Linked {
    Links* way = nullptr;
    unsigned shard = 0;
  };

  Shards(ShardsOptions options, std::unique_ptr<Directory> directory);
  void run();
  void look();
  void balance(Clock::time_point now, bool lapsed);
  void take(unsigned shard, bool lapsed);
  void leave(unsigned shard);
  Result<std::unique_ptr<Parts>> open(unsigned shard, bool lapsed);
  void end(std::unique_ptr<Parts> parts);
  void release(unsigned shard);
  Replica me() const;
  v1alpha1::Refused elsewhere(unsigned shard) const;
  void say(const std::string& text) const;
  void say_what_is_held();

  const ShardsOptions options_;
  const std::unique_ptr<Directory> directory_;  // the thread's
  const std::string id_;

  mutable std::shared_mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<Slot> slots_;
  std::unordered_map<LinkId, Linked> links_;
  std::vector<Replica> replicas_;                // as they were seen last, with this one
  Clock::time_point looked_{};                   // when that was
  std::optional<Clock::time_point> calm_since_;  // since when Redis has answered each time
  bool whole_ = false;                           // all shards have been seen to be held, once
  bool announce_ = false, stopping_ = false;
  std::string trouble_, ignored_, said_;  // the last that was said of it; the thread's
  std::thread thread_;
};

}  // namespace sallyport::controller
