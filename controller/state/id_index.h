#pragma once
// From a random identifier to the number of what has it. 8 bytes an entry, and one or two cache lines a question.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "controller/state/pool.h"

namespace sallyport::controller {

// `seed` keeps whoever chooses identifiers from choosing ones that meet.
inline std::uint64_t hash_of(std::span<const unsigned char, 16> id, std::uint64_t seed) {
  std::uint64_t low = 0, high = 0;
  std::memcpy(&low, id.data(), sizeof low);
  std::memcpy(&high, id.data() + sizeof low, sizeof high);
  __extension__ using Wide = unsigned __int128;
  const auto product = static_cast<Wide>(low ^ seed) * (high ^ 0x9E37'79B9'7F4A'7C15U);
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

class IdIndex {
 public:
  // same(value): whether it is the one that is looked for. kNil: there is none.
  template <class Same>
  std::uint32_t find(std::uint64_t hash, Same&& same) const {
    if (entries_.empty()) return kNil;
    const auto mark = mark_of(hash);
    for (std::size_t at = home_of(mark);; at = next(at)) {
      const Entry& entry = entries_[at];
      if (entry.value == kNil) return kNil;
      if (entry.mark == mark && same(entry.value)) return entry.value;
    }
  }

  // It must not be there.
  void insert(std::uint64_t hash, std::uint32_t value) {
    if ((used_ + 1) * 4 > entries_.size() * 3) grow();
    put({mark_of(hash), value});
    ++used_;
  }

  void erase(std::uint64_t hash, std::uint32_t value) {
    std::size_t at = home_of(mark_of(hash));
    while (entries_[at].value != value) at = next(at);
    --used_;
    // What stands behind it, and would have stood here, moves up: no markers of erased entries are left.
    for (std::size_t behind = next(at); entries_[behind].value != kNil; behind = next(behind)) {
      const std::size_t home = home_of(entries_[behind].mark);
      const bool between = at <= behind ? at < home && home <= behind : at < home || home <= behind;
      if (between) continue;
      entries_[at] = entries_[behind];
      at = behind;
    }
    entries_[at] = {};
  }

 private:
  struct Entry {
    std::uint32_t mark = 0;
    std::uint32_t value = kNil;
  };

  static std::uint32_t mark_of(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32); }
  std::size_t home_of(std::uint32_t mark) const { return mark & (entries_.size() - 1); }
  std::size_t next(std::size_t at) const { return (at + 1) & (entries_.size() - 1); }

  void put(Entry entry) {
    std::size_t at = home_of(entry.mark);
    while (entries_[at].value != kNil) at = next(at);
    entries_[at] = entry;
  }

  void grow() {
    std::vector<Entry> old(entries_.empty() ? 64 : entries_.size() * 2);
    old.swap(entries_);
    for (const Entry& entry : old) {
      if (entry.value != kNil) put(entry);
    }
  }

  std::vector<Entry> entries_;  // a power of two
  std::size_t used_ = 0;
};

}  // namespace sallyport::controller
