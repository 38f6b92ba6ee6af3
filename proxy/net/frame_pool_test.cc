#include "proxy/net/frame_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

namespace sallyport::net {
namespace {

struct Held {
  void* frame;
  std::size_t size;
  unsigned char mark;
};

bool is_marked(const Held& held) {
  const auto* bytes = static_cast<const unsigned char*>(held.frame);
  for (std::size_t i = 0; i < held.size; ++i) {
    if (bytes[i] != held.mark) return false;
  }
  return true;
}

void take_and_give_all_sizes() {
  std::vector<Held> held;
  for (int round = 0; round < 3; ++round) {
    for (std::size_t size = 1; size <= limits::kPooledFrameBytesMax + 130; size += 13) {
      const auto mark = static_cast<unsigned char>(size + static_cast<std::size_t>(round));
      held.push_back({PooledFrame::operator new(size), size, mark});
      std::memset(held.back().frame, mark, size);
    }
    for (const Held& one : held) {
      EXPECT_TRUE(is_marked(one)) << "of " << one.size << " bytes: another frame lies on it";
      PooledFrame::operator delete(one.frame, one.size);
    }
    held.clear();
  }
}

TEST(FramePool, FramesOfAllSizesDoNotOverlapAndEndWithTheirThread) {
  take_and_give_all_sizes();
  std::thread(take_and_give_all_sizes).join();  // the leak sanitizer looks at what stays behind
}

TEST(FramePool, AFrameMayEndOnAnotherThread) {
  std::vector<void*> frames(2 * limits::kPooledFramesMax);
  std::thread([&] {
    for (void*& frame : frames) frame = PooledFrame::operator new(200);
  }).join();
  for (void* frame : frames) PooledFrame::operator delete(frame, 200);
}

}  // namespace
}  // namespace sallyport::net
