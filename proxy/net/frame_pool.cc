#include "proxy/net/frame_pool.h"

#include <new>

namespace sallyport::net::detail {
namespace {

// The address sanitizer has to see each frame come and go.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SALLYPORT_FRAMES_ARE_KEPT false
#endif
#endif
#ifndef SALLYPORT_FRAMES_ARE_KEPT
#define SALLYPORT_FRAMES_ARE_KEPT true
#endif
constexpr bool kKept = SALLYPORT_FRAMES_ARE_KEPT;

struct AtThreadEnd {
  AtThreadEnd() = default;
  AtThreadEnd(const AtThreadEnd&) = delete;
  AtThreadEnd& operator=(const AtThreadEnd&) = delete;
  ~AtThreadEnd() { frame_pool.close(); }
  void noted() const {}
};

}  // namespace

void* FramePool::allocate(std::size_t size) { return ::operator new(size); }

// Also what opens the pool: the object with a destructor is asked for here, where it costs nothing.
void FramePool::release(void* frame) noexcept {
  ::operator delete(frame);
  if (!kKept || std::exchange(opened_, true)) return;
  static thread_local const AtThreadEnd end;
  end.noted();
  limit_ = limits::kPooledFramesMax;
}

void FramePool::close() noexcept {
  limit_ = 0;
  for (Shelf& shelf : shelves_) {
    while (shelf.first != nullptr) ::operator delete(std::exchange(shelf.first, shelf.first->next));
    shelf.count = 0;
  }
}

}  // namespace sallyport::net::detail
