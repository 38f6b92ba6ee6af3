#pragma once
// 16 KiB blocks of memory, recycled per thread: a connection holds one only while it has something to read.

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"

namespace sallyport::net {

namespace detail {
inline constexpr std::size_t kSpareBlocksMax = 64;  // 1 MiB per worker; more goes back to the heap
inline std::vector<std::unique_ptr<char[]>>& spare_blocks() {
  thread_local std::vector<std::unique_ptr<char[]>> spare;
  return spare;
}
inline std::size_t& bulk_buffers() {
  thread_local std::size_t count = 0;
  return count;
}
}  // namespace detail

// A buffer that is filled at its end and consumed at its start. Holds no memory while empty and released.
class ReadBuffer {
 public:
  ReadBuffer() = default;
  ReadBuffer(const ReadBuffer&) = delete;
  ReadBuffer& operator=(const ReadBuffer&) = delete;
  ~ReadBuffer() { release(); }

  std::string_view unread() const { return {memory_.get() + begin_, end_ - begin_}; }
  bool empty() const { return begin_ == end_; }
  // Views of what was consumed stay valid until the next space(), compact(), grow() or release().
  void consume(std::size_t count) { begin_ += count; }
  void filled(std::size_t count) { end_ += count; }

  // Free space at the end, taking a block if there is none. Never moves what is unread: empty when the buffer is full.
  std::span<char> space() {
    if (!memory_) take();
    if (begin_ == end_) begin_ = end_ = 0;
    return {memory_.get() + end_, capacity_ - end_};
  }
  // Moves what is unread to the front. Invalidates views.
  void compact() {
    if (begin_ == 0) return;
    std::memmove(memory_.get(), memory_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  // Doubles the capacity; false at `bytes_max`. Invalidates views.
  bool grow(std::size_t bytes_max) {
    if (capacity_ >= bytes_max) return false;
    std::size_t capacity = std::min(capacity_ * 2, bytes_max);
    auto bigger = std::make_unique_for_overwrite<char[]>(capacity);
    std::memcpy(bigger.get(), memory_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    give_back();
    memory_ = std::move(bigger);
    capacity_ = capacity;
    return true;
  }
  // Makes an empty buffer one of kBulkBufferBytes, unless this thread has enough of them. Invalidates views.
  void grow_for_bulk() {
    if (!empty() || capacity_ != limits::kBufferBytes || detail::bulk_buffers() == limits::kBulkBuffersPerWorkerMax)
      return;
    auto bigger = std::make_unique_for_overwrite<char[]>(limits::kBulkBufferBytes);
    release();
    memory_ = std::move(bigger);
    capacity_ = limits::kBulkBufferBytes;
    bulk_ = true;
    ++detail::bulk_buffers();
  }
  // Gives the memory back; what is unread is lost.
  void release() {
    begin_ = end_ = 0;
    if (memory_) give_back();
    capacity_ = 0;
  }

 private:
  void take() {
    auto& spare = detail::spare_blocks();
    capacity_ = limits::kBufferBytes;
    if (spare.empty()) {
      memory_ = std::make_unique_for_overwrite<char[]>(capacity_);
    } else {
      memory_ = std::move(spare.back());
      spare.pop_back();
    }
  }
  void give_back() {
    auto& spare = detail::spare_blocks();
    if (capacity_ == limits::kBufferBytes && spare.size() < detail::kSpareBlocksMax)
      spare.push_back(std::move(memory_));
    memory_.reset();
    if (std::exchange(bulk_, false)) --detail::bulk_buffers();
  }

  std::unique_ptr<char[]> memory_;
  std::size_t capacity_ = 0, begin_ = 0, end_ = 0;
  bool bulk_ = false;
};

}  // namespace sallyport::net
