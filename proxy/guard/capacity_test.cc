#include "proxy/guard/capacity.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "base/limits.h"

namespace sallyport::guard {
namespace {

TEST(CapacityTest, LeavesADescriptorForTheUpstreamOfEachPlaceSomeToSayNoWithAndSomeForTheRest) {
  EXPECT_EQ(capacity_per_worker(1'024, 1), (Capacity{360, 48}));
  EXPECT_EQ(capacity_per_worker(256, 1), (Capacity{90, 12}));
  EXPECT_EQ(capacity_per_worker(20'000, 1), (Capacity{(20'000 - 1'024 - 256) / 2, 256}));
  EXPECT_EQ(capacity_per_worker(20'000, 4), (Capacity{((20'000 - 1'024) / 4 - 256) / 2, 256}));
}

TEST(CapacityTest, NeverNeedsMoreDescriptorsThanThereAre) {
  for (std::size_t descriptors = 16; descriptors < 40'000; descriptors += 7) {
    for (const std::size_t workers : {1U, 2U, 3U}) {
      const Capacity capacity = capacity_per_worker(descriptors, workers);
      ASSERT_LE((capacity.places * 2 + capacity.reserve) * workers, descriptors) << descriptors << " of " << workers;
    }
  }
}

TEST(CapacityTest, StaysWithinTheLimitsHoweverManyDescriptorsThereAre) {
  const Capacity most{limits::kPlacesPerWorkerMax, limits::kReservePerWorkerMax};
  EXPECT_EQ(capacity_per_worker(1'048'576, 1), most);
  EXPECT_EQ(capacity_per_worker(RLIM_INFINITY, 2), most);
  EXPECT_EQ(capacity_per_worker(0, 1), (Capacity{1, 1}));
  EXPECT_EQ(capacity_per_worker(100, 256), (Capacity{1, 1}));
}

TEST(CapacityTest, TheLimitIsRaisedToTheHardOne) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit lower{before.rlim_max / 2, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &lower), 0);
  EXPECT_EQ(raise_descriptor_limit(), before.rlim_max);
  rlimit after{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &after), 0);
  EXPECT_EQ(after.rlim_cur, before.rlim_max);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace sallyport::guard
