#pragma once
// The events that the controller has not taken yet. Those that were sent have their numbers and stay until they are
// taken; those that were not have none, so that what is dropped leaves no gap. One thread.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

#include "controller/api/link.pb.h"

namespace sallyport::link {

// What is dropped when there is no room: allowed exchanges first, the oldest of them. Of all others what comes last is
// dropped: what led up to the loss is kept.
enum class Worth : std::uint8_t { allowed_exchange, other, denial };
Worth worth_of(const controller::v1alpha1::Event& event);

struct SpoolLimits {
  std::size_t events, bytes;            // in all
  std::size_t sent_events, sent_bytes;  // that are not taken
  static SpoolLimits usual();
};

class Spool {
 public:
  explicit Spool(SpoolLimits limits = SpoolLimits::usual()) : limits_(limits) {}

  // `event` is an Event without its sequence, serialised.
  void add(std::string event, Worth worth);
  // Counts what was lost before it came here.
  void count_lost(Worth worth);

  // The next Envelope to send, with Events in it: those to be sent again first, then new ones, which get their numbers.
  // False when there is nothing, or too much waits to be taken. `seconds` is the time, for a Lost.
  bool next_batch(std::string& envelope, std::int64_t seconds);
  // All up to this one are stored. False if it was never sent: then nothing has changed.
  [[nodiscard]] bool taken(std::uint64_t sequence);
  // What is not taken is sent once more, over another connection.
  void send_again() { sent_ = 0; }
  // A guard id of its own: what is not taken gets new numbers, from 1.
  void number_anew();

  std::size_t waiting() const { return numbered_.size() + allowed_.size() + others_.size(); }
  std::size_t unsent() const { return waiting() - sent_; }
  std::size_t bytes() const { return bytes_; }
  std::uint64_t last_taken() const { return first_ - 1; }
  std::uint64_t acknowledged() const { return acknowledged_; }  // under whatever guard ids
  std::uint64_t lost() const { return lost_events_; }
  std::uint64_t lost_denials() const { return lost_denials_; }

 private:
  struct Item {
    std::uint64_t order = 0;
    std::string event;
  };
  static std::size_t weight(const Item& item);
  bool full(std::size_t more) const;
  bool number_next(std::int64_t seconds);
  void number(Item item);

  SpoolLimits limits_;
  std::deque<Item> numbered_;  // the first has the number first_
  std::size_t sent_ = 0;       // of them, over this connection
  std::uint64_t first_ = 1;
  std::deque<Item> allowed_, others_;
  std::uint64_t order_ = 0;
  std::size_t bytes_ = 0, numbered_bytes_ = 0;
  std::uint64_t acknowledged_ = 0;
  std::uint64_t lost_events_ = 0, lost_denials_ = 0;
  std::uint64_t untold_events_ = 0, untold_denials_ = 0;
};

}  // namespace sallyport::link
