#include "controller/shards/shards.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

#include "base/hex.h"
#include "base/limits.h"
#include "base/random.h"
#include "proxy/http1/https_call.h"
#include "proxy/link/remote_link.h"

namespace sallyport::controller {

namespace {

std::string random_id() {
  std::array<unsigned char, 16> bytes{};
  return random_bytes(bytes) ? to_hex(bytes) : std::string();
}

}  // namespace

// FNV-1a.
unsigned shard_of(std::string_view application, unsigned shards) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : application) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  return static_cast<unsigned>(hash % shards);
}

Shards::Shards(ShardsOptions options, std::unique_ptr<Directory> directory)
    : options_(std::move(options)), directory_(std::move(directory)), id_(random_id()), slots_(directory_->shards()) {}

Result<std::unique_ptr<Shards>> Shards::join(ShardsOptions options) {
  auto directory = Directory::open(options.redis, options.folder);
  if (!directory) return std::unexpected(directory.error());
  if (!link::parse_controller_url(options.link_url) || !http1::parse_https_url(options.admin_url)) {
    return fail(ErrorSource::controller, ErrorKind::invalid,
                "the others of this Redis can't reach this controller at " + options.link_url + " and " +
                    options.admin_url + ": say a host (--advertise HOST), and ports in --listen and --admin-listen");
  }
  std::unique_ptr<Shards> out(new Shards(std::move(options), std::move(*directory)));
  if (out->id_.empty()) {
    return fail(ErrorSource::internal, ErrorKind::unavailable, "this machine has no randomness");
  }
  out->thread_ = std::thread([raw = out.get()] { raw->run(); });
  return out;
}

Shards::~Shards() {
  {
    const std::unique_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (!thread_.joinable()) return;
  thread_.join();
  for (Slot& slot : slots_) {
    if (slot.mover.joinable()) slot.mover.join();
    if (slot.parts) slot.mover = std::thread([this, &slot] { end(std::move(slot.parts)); });
  }
  for (Slot& slot : slots_) {
    if (slot.mover.joinable()) slot.mover.join();
  }
  directory_->leave(id_);
}

// Guards.

void Shards::connected(Links& way, LinkId link, v1alpha1::Register&& wanted) {
  const unsigned shard = of(wanted.application());
  Controller* controller = nullptr;
  {
    const std::unique_lock lock(mutex_);
    Slot& slot = slots_[shard];
    if (slot.state == State::held) {
      links_[link] = {&way, shard};
      ++slot.uses;
      controller = slot.parts->controller.get();
    }
  }
  if (controller == nullptr) return way.close(link, elsewhere(shard));
  controller->connected(way, link, std::move(wanted));
}

void Shards::received(LinkId link, v1alpha1::Envelope&& envelope) {
  Controller* controller = nullptr;
  {
    const std::shared_lock lock(mutex_);
    const auto found = links_.find(link);
    if (found == links_.end()) return;
    controller = slots_[found->second.shard].parts->controller.get();  // which stays until the link is closed
  }
  controller->received(link, std::move(envelope));
}

void Shards::closed(LinkId link, const std::string& why) {
  unsigned shard = 0;
  Controller* controller = nullptr;
  {
    const std::unique_lock lock(mutex_);
    const auto found = links_.find(link);
    if (found == links_.end()) return;
    shard = found->second.shard;
    controller = slots_[shard].parts->controller.get();
    links_.erase(found);
  }
  controller->closed(link, why);
  release(shard);
}

v1alpha1::Refused Shards::elsewhere(unsigned shard) const {
  v1alpha1::Refused out;
  out.set_reason(v1alpha1::REFUSED_REASON_ELSEWHERE);
  const auto other = holder(shard);
  if (other) out.set_url(other->link_url);
  out.set_text(other ? "the application is with the controller at " + other->link_url
                     : "no controller has the application at the moment");
  return out;
}

// What is there.

std::optional<Shards::Use> Shards::use(unsigned shard) {
  const std::unique_lock lock(mutex_);
  Slot& slot = slots_[shard];
  if (slot.state != State::held) return std::nullopt;
  ++slot.uses;
  return Use(*this, shard, *slot.parts->controller);
}

void Shards::release(unsigned shard) {
  {
    const std::unique_lock lock(mutex_);
    if (--slots_[shard].uses != 0 || slots_[shard].state != State::leaving) return;
  }
  changed_.notify_all();
}

std::vector<unsigned> Shards::held() const {
  const std::shared_lock lock(mutex_);
  std::vector<unsigned> out;
  for (unsigned shard = 0; shard < slots_.size(); ++shard) {
    if (slots_[shard].state == State::held) out.push_back(shard);
  }
  return out;
}

std::vector<Replica> Shards::others() const {
  const std::shared_lock lock(mutex_);
  std::vector<Replica> out = replicas_;
  std::erase_if(out, [this](const Replica& each) { return each.id == id_; });
  return out;
}

std::optional<Replica> Shards::holder(unsigned shard) const {
  for (Replica& each : others()) {
    if (std::ranges::find(each.shards, shard) != each.shards.end()) return std::move(each);
  }
  return std::nullopt;
}

std::string Shards::trouble() {
  const std::unique_lock lock(mutex_);
  if (Clock::now() - looked_ > limits::kStoreLeaseTime) return "Redis can't be asked who shares it";
  if (!whole_) return "not every application has a controller yet";
  // For a lease it may be this one before it was started again.
  const bool twice = std::ranges::any_of(
      replicas_, [this](const Replica& each) { return each.id != id_ && each.link_url == options_.link_url; });
  if (twice && calm_since_ && looked_ - *calm_since_ > 2 * limits::kStoreLeaseTime) {
    return "another controller says that it is at " + options_.link_url +
           ", too: say where this one is (--advertise HOST)";
  }
  for (const Slot& slot : slots_) {
    if (slot.state == State::held && !slot.parts->controller->store_works()) return "the store can't be written";
  }
  return {};
}

// Who has what.

void Shards::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    announce_ = false;
    lock.unlock();
    look();
    lock.lock();
    changed_.wait_for(lock, limits::kReplicaLookInterval, [this] { return stopping_ || announce_; });
  }
}

Replica Shards::me() const {
  Replica out{id_, options_.link_url, options_.admin_url, {}};
  const std::shared_lock lock(mutex_);
  for (unsigned shard = 0; shard < slots_.size(); ++shard) {
    if (slots_[shard].leased) out.shards.push_back(shard);
  }
  return out;
}

void Shards::look() {
  auto seen = directory_->look(me());
  const std::string trouble = seen ? std::string() : seen.error().text;
  if (trouble != std::exchange(trouble_, trouble)) {
    say(trouble.empty() ? "Redis says again who shares it" : "Redis can't be asked who shares it: " + trouble);
  }
  const std::unique_lock lock(mutex_);
  if (!seen) {
    calm_since_.reset();
    return;
  }
  for (const std::string& each : seen->ignored) {
    if (each != std::exchange(ignored_, each)) say(each);
  }
  const Clock::time_point now = Clock::now();
  looked_ = now;
  if (!calm_since_) calm_since_ = now;
  replicas_ = std::move(seen->replicas);
  // A lease that has run out may be that of a controller which could not ask Redis either, and comes back to it.
  balance(now, now - *calm_since_ >= limits::kStoreLeaseTime);
  say_what_is_held();
}

// Under the mutex. Whoever is below its share takes what is free, and whoever is above it gives up the rest, but only
// while nothing is free: so shards move to where there is room, and never in a circle.
void Shards::balance(Clock::time_point now, bool lapsed) {
  std::vector<bool> elsewhere(slots_.size());
  for (const Replica& replica : replicas_) {
    if (replica.id == id_) continue;
    for (const unsigned shard : replica.shards) elsewhere[shard] = true;
  }
  const std::size_t live = std::max<std::size_t>(replicas_.size(), 1);
  const std::size_t share = (slots_.size() + live - 1) / live;
  std::size_t mine = 0, free = 0;
  for (unsigned shard = 0; shard < slots_.size(); ++shard) {
    const Slot& slot = slots_[shard];
    const bool here = slot.state == State::taking || slot.state == State::held;
    if (here && now >= slot.beyond_until) ++mine;
    if (!elsewhere[shard] && slot.state != State::held) ++free;
  }
  if (free == 0) whole_ = true;
  // Each begins elsewhere, so that several seldom try the same.
  const std::size_t first = std::hash<std::string>{}(id_) % slots_.size();
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const auto shard = static_cast<unsigned>((first + i) % slots_.size());
    Slot& slot = slots_[shard];
    if (slot.state != State::away || elsewhere[shard]) {
      slot.free_since = {};
      continue;
    }
    if (slot.free_since == Clock::time_point{}) slot.free_since = now;
    const bool unclaimed = mine >= share;
    if (now < slot.not_before || (unclaimed && now - slot.free_since < limits::kShardUnclaimedTime)) continue;
    if (!unclaimed) ++mine;
    slot.beyond_until = unclaimed ? now + limits::kShardUnclaimedKept : now;
    slot.state = State::taking;
    if (slot.mover.joinable()) slot.mover.join();  // it has said its last
    slot.mover = std::thread([this, shard, lapsed] { take(shard, lapsed); });
  }
  for (Slot& slot : slots_) {
    if (free != 0 || mine <= share) break;
    if (slot.state != State::held || now < slot.beyond_until) continue;
    --mine;
    slot.state = State::leaving;
    if (slot.mover.joinable()) slot.mover.join();
    slot.mover = std::thread([this, shard = static_cast<unsigned>(&slot - slots_.data())] { leave(shard); });
  }
}

void Shards::take(unsigned shard, bool lapsed) {
  auto parts = open(shard, lapsed);
  if (!parts && parts.error().kind != ErrorKind::cancelled) {
    say("shard " + std::to_string(shard) + " can't be had: " + parts.error().text);
  }
  {
    const std::unique_lock lock(mutex_);
    Slot& slot = slots_[shard];
    slot.leased = parts.has_value();
    slot.state = parts ? State::held : State::away;
    if (parts) slot.parts = std::move(*parts);
    if (!parts && parts.error().kind != ErrorKind::cancelled) slot.not_before = Clock::now() + limits::kStoreRetryDelay;
    if (!parts && !lapsed && calm_since_) slot.not_before = *calm_since_ + limits::kStoreLeaseTime;
    announce_ = announce_ || slot.leased;
  }
  changed_.notify_all();
}

Result<std::unique_ptr<Shards::Parts>> Shards::open(unsigned shard, bool lapsed) {
  auto out = std::make_unique<Parts>();
  auto store =
      RedisStore::open(options_.redis, shard, options_.folder, {.lapsed = lapsed, .on_lost = options_.on_lost});
  if (!store) return std::unexpected(store.error());
  out->store = std::move(*store);
  {
    // Reading what is stored may take longer than others wait for somebody to take it.
    const std::unique_lock lock(mutex_);
    slots_[shard].leased = announce_ = true;
  }
  changed_.notify_all();
  ControllerOptions options = options_.controller;
  if (options_.kubernetes) {
    auto reviewer = TokenReviewer::start(*options_.kubernetes);
    if (!reviewer) return std::unexpected(reviewer.error());
    out->reviewer = std::move(*reviewer);
    options.reviewer = out->reviewer.get();
  }
  auto controller = Controller::start(*out->store, std::move(options));
  if (!controller) return std::unexpected(controller.error());
  out->controller = std::move(*controller);
  return out;
}

// Its guards are told to go, and what they have told meanwhile is stored or told again to the next.
void Shards::leave(unsigned shard) {
  std::vector<std::pair<LinkId, Links*>> links;
  Parts* parts = nullptr;
  {
    const std::shared_lock lock(mutex_);
    parts = slots_[shard].parts.get();
    for (const auto& [link, linked] : links_) {
      if (linked.shard == shard) links.emplace_back(link, linked.way);
    }
  }
  if (parts->reviewer) parts->reviewer->stop();
  const v1alpha1::Refused refused = elsewhere(shard);
  for (const auto& [link, way] : links) way->close(link, refused);
  std::unique_ptr<Parts> taken;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this, shard] { return slots_[shard].uses == 0; });
    taken = std::move(slots_[shard].parts);
  }
  end(std::move(taken));
  {
    const std::unique_lock lock(mutex_);
    slots_[shard].state = State::away;
    slots_[shard].leased = false;
    announce_ = true;
  }
  changed_.notify_all();
}

// Without links and calls. The store goes last, and gives the lease back.
void Shards::end(std::unique_ptr<Parts> parts) {
  if (parts->reviewer) parts->reviewer->stop();
  parts->controller.reset();
}

void Shards::say(const std::string& text) const {
  if (options_.controller.say) options_.controller.say(text);
}

// Under the mutex; once what moves has come to rest.
void Shards::say_what_is_held() {
  std::size_t held = 0;
  for (const Slot& slot : slots_) {
    if (slot.state == State::taking || slot.state == State::leaving) return;
    if (slot.state == State::held) ++held;
  }
  const std::string text = "holds " + std::to_string(held) + " of " + std::to_string(slots_.size()) + " shards, with " +
                           std::to_string(replicas_.size()) + " controllers";
  if (text != std::exchange(said_, text)) say(text);
}

}  // namespace sallyport::controller
