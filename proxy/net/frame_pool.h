#pragma once
// Memory for coroutine frames. An exchange makes and drops about twenty of them, always of the same few sizes: each
// thread keeps what it dropped and takes it again, which costs a tenth of the allocator's way.

#include <array>
#include <cstddef>
#include <new>
#include <utility>

#include "base/limits.h"

namespace sallyport::net {

namespace detail {

class FramePool {
 public:
  constexpr FramePool() = default;

  void* take(std::size_t size) {
    if (size > limits::kPooledFrameBytesMax) return allocate(size);
    Shelf& shelf = shelves_[(size - 1) / kStep];
    if (shelf.first == nullptr) return allocate((size + kStep - 1) / kStep * kStep);
    --shelf.count;
    return std::exchange(shelf.first, shelf.first->next);
  }

  void give(void* frame, std::size_t size) noexcept {
    if (size > limits::kPooledFrameBytesMax) return release(frame);
    Shelf& shelf = shelves_[(size - 1) / kStep];
    if (shelf.count >= limit_) return release(frame);
    ++shelf.count;
    shelf.first = new (frame) Spare{shelf.first};
  }

  // Keeps nothing any more.
  void close() noexcept;

 private:
  static constexpr std::size_t kStep = 64;
  struct Spare {
    Spare* next;
  };
  struct Shelf {
    Spare* first = nullptr;
    std::size_t count = 0;
  };
  static void* allocate(std::size_t size);
  void release(void* frame) noexcept;

  std::size_t limit_ = 0;  // nothing is kept before the thread has made sure of its end
  bool opened_ = false;
  std::array<Shelf, limits::kPooledFrameBytesMax / kStep> shelves_{};
};

inline constinit thread_local FramePool frame_pool;

}  // namespace detail

// What a promise inherits to have its frames from here. Throws std::bad_alloc, as coroutines must.
struct PooledFrame {
  static void* operator new(std::size_t size) { return detail::frame_pool.take(size); }
  static void operator delete(void* frame, std::size_t size) noexcept { detail::frame_pool.give(frame, size); }
};

}  // namespace sallyport::net
