// The decision of an allowed request must not allocate: it runs once per request on the data path. A program of its
// own, as it counts what operator new is asked for.

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <string>

#include "policy-engine/document/test_support.h"

namespace {
std::size_t allocations = 0;
}

void* operator new(std::size_t size) {
  ++allocations;
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace sallyport::document {
namespace {

TEST(Allocation, DecisionsMakeNone) {
  const auto snapshot = load_clean(
      kHead +
      "  - {name: a, host: a.example.com, rules: [{methods: [GET, LOCK], path: {prefix: /photos}}, {methods: [PUT],"
      " path: {exact: /long/enough/to/need/memory/of/its/own}}]}\n"
      "  - {name: w, host: '*.wild.example.com', rules: [{methods: [any], path: {prefix: /}}]}\n"
      "  - {name: none, host: none.example.com, inspection: none}\n"
      "  - {name: any, host: any, rules: [{methods: [GET], path: {prefix: /}}]}\n");
  ASSERT_NE(snapshot, nullptr);
  const std::size_t before = allocations;
  bool good = true;
  for (const std::string_view host : {"a.example.com", "x.y.wild.example.com", "none.example.com", "other.example"}) {
    const Destination to{request::Scheme::https, host, 443};
    good &= snapshot->resolves(host);
    good &= snapshot->decide_connection(to).action != ConnectionAction::deny;
    good &= !snapshot->target_options(to).merge_slashes;
    good &=
        snapshot->decide_request(to, "GET", "/photos/of/a/long/path/that/would/not/fit/into/a/short/string").allowed;
  }
  EXPECT_EQ(allocations, before);
  EXPECT_TRUE(good);
}

}  // namespace
}  // namespace sallyport::document
