#include "proxy/link/spool.h"

#include "base/limits.h"

namespace sallyport::link {

namespace api = controller::v1alpha1;

namespace {

constexpr std::size_t kItemBytes = 64;  // besides its text
constexpr char kSequenceTag = 1 << 3, kEventTag = 1 << 3 | 2, kEventsTag = 6 << 3 | 2;
static_assert(api::Event::kSequenceFieldNumber == 1 && api::Events::kEventsFieldNumber == 1 &&
              api::Envelope::kEventsFieldNumber == 6);

void append_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

std::size_t varint_size(std::uint64_t value) {
  std::size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

}  // namespace

Worth worth_of(const api::Event& event) {
  if (!event.has_exchange()) return Worth::other;
  switch (event.exchange().decision()) {
    case api::DECISION_ALLOW:
      return Worth::allowed_exchange;
    case api::DECISION_DENY:
    case api::DECISION_WOULD_DENY:
      return Worth::denial;
    default:  // ERROR, and what a later version may add
      return Worth::other;
  }
}

SpoolLimits SpoolLimits::usual() {
  return {.events = limits::kSpoolEventsMax,
          .bytes = limits::kSpoolBytesMax,
          .sent_events = limits::kSpoolSentEventsMax,
          .sent_bytes = limits::kSpoolSentBytesMax};
}

std::size_t Spool::weight(const Item& item) { return item.event.size() + kItemBytes; }

bool Spool::full(std::size_t more) const { return waiting() >= limits_.events || bytes_ + more > limits_.bytes; }

void Spool::count_lost(Worth worth) {
  ++lost_events_;
  ++untold_events_;
  if (worth != Worth::denial) return;
  ++lost_denials_;
  ++untold_denials_;
}

void Spool::add(std::string event, Worth worth) {
  Item item{.order = ++order_, .event = std::move(event)};
  const std::size_t more = weight(item);
  while (full(more) && !allowed_.empty()) {
    bytes_ -= weight(allowed_.front());
    allowed_.pop_front();
    count_lost(Worth::allowed_exchange);
  }
  if (full(more)) return count_lost(worth);
  bytes_ += more;
  (worth == Worth::allowed_exchange ? allowed_ : others_).push_back(std::move(item));
}

void Spool::number(Item item) {
  numbered_bytes_ += weight(item);
  numbered_.push_back(std::move(item));
}

// Gives a number to what comes next. What was lost is told before what came behind it.
bool Spool::number_next(std::int64_t seconds) {
  if (numbered_.size() >= limits_.sent_events || numbered_bytes_ >= limits_.sent_bytes) return false;
  if (untold_events_ > 0) {
    api::Event event;
    event.mutable_time()->set_seconds(seconds);
    event.mutable_lost()->set_events(untold_events_);
    event.mutable_lost()->set_denials(untold_denials_);
    untold_events_ = untold_denials_ = 0;
    Item lost{.event = event.SerializeAsString()};
    bytes_ += weight(lost);
    number(std::move(lost));
    return true;
  }
  if (allowed_.empty() && others_.empty()) return false;
  const bool from_allowed = others_.empty() || (!allowed_.empty() && allowed_.front().order < others_.front().order);
  std::deque<Item>& next = from_allowed ? allowed_ : others_;
  number(std::move(next.front()));
  next.pop_front();
  return true;
}

bool Spool::next_batch(std::string& envelope, std::int64_t seconds) {
  std::string events;
  std::size_t count = 0;
  while (count < limits::kSpoolBatchEvents && events.size() < limits::kSpoolBatchBytes) {
    if (sent_ == numbered_.size() && !number_next(seconds)) break;
    const std::string& event = numbered_[sent_].event;
    // A large one goes alone, so that none makes a message larger than it may be.
    if (count > 0 && event.size() > limits::kSpoolBatchBytes) break;
    const std::uint64_t sequence = first_ + sent_;
    events += kEventTag;
    append_varint(events, 1 + varint_size(sequence) + event.size());
    events += kSequenceTag;
    append_varint(events, sequence);
    events += event;
    ++sent_;
    ++count;
  }
  if (count == 0) return false;
  envelope.clear();
  envelope += kEventsTag;
  append_varint(envelope, events.size());
  envelope += events;
  return true;
}

bool Spool::taken(std::uint64_t sequence) {
  if (sequence >= first_ + numbered_.size()) return false;
  while (first_ <= sequence) {
    bytes_ -= weight(numbered_.front());
    numbered_bytes_ -= weight(numbered_.front());
    numbered_.pop_front();
    ++first_;
    ++acknowledged_;
    if (sent_ > 0) --sent_;
  }
  return true;
}

void Spool::number_anew() {
  first_ = 1;
  sent_ = 0;
}

}  // namespace sallyport::link
