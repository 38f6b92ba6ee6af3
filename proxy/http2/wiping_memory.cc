#include "proxy/http2/wiping_memory.h"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace sallyport::http2 {
namespace {

// The allocator knows how large a block is, so none has to remember it.
void give_back(void* block, void*) {
  if (block == nullptr) return;
  wipe(block, ::malloc_usable_size(block));
  std::free(block);
}

void* take(std::size_t size, void*) { return std::malloc(size); }

void* take_zeroed(std::size_t count, std::size_t size, void*) { return std::calloc(count, size); }

// Not in place: what the allocator would move it would leave behind.
void* resize(void* block, std::size_t size, void*) {
  void* const fresh = std::malloc(size);
  if (fresh == nullptr || block == nullptr) return fresh;
  std::memcpy(fresh, block, std::min(size, ::malloc_usable_size(block)));
  give_back(block, nullptr);
  return fresh;
}

}  // namespace

nghttp2_mem* wiping_memory() {
  static nghttp2_mem memory{nullptr, take, give_back, take_zeroed, resize};
  return &memory;
}

}  // namespace sallyport::http2
