#include "policy-engine/flow/operation_hash.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace sallyport::flow {
namespace {

OperationHash chosen() {
  OperationHash hash;
  EXPECT_TRUE(hash.choose_point());
  return hash;
}

TEST(OperationHash, IsTheSameForTheSameTextsOnly) {
  const OperationHash hash = chosen();
  const std::string host = "images.example.com", path = "/photos/of/a/long/path", query = "size=large";
  const std::uint64_t of_it = hash({"GET", host, path, query, ""});
  EXPECT_EQ(hash({"GET", host, std::string(path), query, ""}), of_it);
  for (std::size_t i = 0; i < path.size(); ++i) {
    std::string other = path;
    other[i] = static_cast<char>(other[i] ^ 1);
    EXPECT_NE(hash({"GET", host, other, query, ""}), of_it) << other;
  }
}

TEST(OperationHash, KnowsWhereEachTextEnds) {
  const OperationHash hash = chosen();
  const std::string text = "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
  const std::string zeros("/a\0\0\0\0\0\0\0\0\0\0\0\0", 14);
  std::set<std::uint64_t> seen;
  std::size_t asked = 0;
  for (std::size_t host = 0; host <= text.size(); ++host) {
    for (std::size_t path = host; path <= text.size(); ++path, ++asked) {
      seen.insert(hash({"GET", std::string_view(text).substr(0, host), std::string_view(text).substr(host, path - host),
                        std::string_view(text).substr(path), ""}));
    }
  }
  for (std::size_t size = 2; size <= zeros.size(); ++size, ++asked) {
    seen.insert(hash({"GET", "a.com", std::string_view(zeros).substr(0, size), "", ""}));
  }
  EXPECT_EQ(seen.size(), asked);
}

// What a function learns of one graph's hash does not help it with another's.
TEST(OperationHash, IsAnotherWithEachPoint) {
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 100; ++i) seen.insert(chosen()({"GET", "a.com", "/a", "", ""}));
  EXPECT_EQ(seen.size(), 100U);
}

}  // namespace
}  // namespace sallyport::flow
