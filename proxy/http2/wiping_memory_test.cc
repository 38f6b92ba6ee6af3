#include "proxy/http2/wiping_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace sallyport::http2 {
namespace {

TEST(WipingMemory, KeepsWhatIsThereWhenItGrowsAndShrinks) {
  nghttp2_mem* memory = wiping_memory();
  auto* block = static_cast<char*>(memory->malloc(10, nullptr));
  std::memcpy(block, "0123456789", 10);
  block = static_cast<char*>(memory->realloc(block, 100'000, nullptr));
  EXPECT_EQ(std::string(block, 10), "0123456789");
  block = static_cast<char*>(memory->realloc(block, 4, nullptr));
  EXPECT_EQ(std::string(block, 4), "0123");
  memory->free(block, nullptr);
  auto* zeroed = static_cast<char*>(memory->calloc(100, 10, nullptr));
  EXPECT_TRUE(std::all_of(zeroed, zeroed + 1000, [](char c) { return c == 0; }));
  memory->free(zeroed, nullptr);
  memory->free(nullptr, nullptr);
  memory->free(memory->realloc(nullptr, 5, nullptr), nullptr);
}

}  // namespace
}  // namespace sallyport::http2
