#pragma once
// Numbers for texts, in the order in which they come: millions of them, without an allocation for each.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

namespace sallyport::flow::learning {

class TextNumbers {
 public:
  std::size_t size() const { return texts_.size(); }
  std::string_view operator[](std::uint32_t number) const { return texts_[number]; }

  // The number of `text`; of one that is new, the next. `keep` then returns the same text where it stays as long as
  // this object is used.
  template <class Keep>
  std::uint32_t number_of(std::string_view text, Keep keep) {
    if (texts_.size() * 4 >= slots_.size() * 3) grow();
    const auto hash = static_cast<std::uint32_t>(std::hash<std::string_view>{}(text));
    std::size_t at = hash & (slots_.size() - 1);
    for (; slots_[at].number != 0; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].hash == hash && texts_[slots_[at].number - 1] == text) return slots_[at].number - 1;
    }
    texts_.push_back(keep(text));
    slots_[at] = {hash, static_cast<std::uint32_t>(texts_.size())};
    return slots_[at].number - 1;
  }
  std::uint32_t number_of(std::string_view text) {
    return number_of(text, [](std::string_view same) { return same; });
  }

 private:
  struct Slot {
    std::uint32_t hash = 0;
    std::uint32_t number = 0;  // from 1; 0: free
  };

  void grow() {
    std::vector<Slot> slots(slots_.empty() ? kFewest : 2 * slots_.size());
    for (const Slot& slot : slots_) {
      if (slot.number == 0) continue;
      std::size_t at = slot.hash & (slots.size() - 1);
      while (slots[at].number != 0) at = (at + 1) & (slots.size() - 1);
      slots[at] = slot;
    }
    slots_ = std::move(slots);
  }

  static constexpr std::size_t kFewest = 16;
  std::vector<Slot> slots_;  // as many as a power of two has
  std::vector<std::string_view> texts_;
};

}  // namespace sallyport::flow::learning
