#pragma once
// Memory that is overwritten when it is given back. nghttp2 copies the fields of requests into it, and some are
// credentials.

#include <nghttp2/nghttp2.h>
#include <string.h>

#include <cstddef>
#include <memory>
#include <string>

namespace sallyport::http2 {

// Lives as long as the program.
nghttp2_mem* wiping_memory();

// The compiler does not take it away. The C library's is some times faster than OpenSSL's.
inline void wipe(void* at, std::size_t bytes) { ::explicit_bzero(at, bytes); }

template <class T>
struct WipingAllocator {
  using value_type = T;
  WipingAllocator() = default;
  template <class U>
  explicit WipingAllocator(const WipingAllocator<U>&) {}
  T* allocate(std::size_t count) { return std::allocator<T>().allocate(count); }
  void deallocate(T* at, std::size_t count) noexcept {
    wipe(at, count * sizeof(T));
    std::allocator<T>().deallocate(at, count);
  }
  bool operator==(const WipingAllocator&) const = default;
};

using WipedString = std::basic_string<char, std::char_traits<char>, WipingAllocator<char>>;

}  // namespace sallyport::http2
