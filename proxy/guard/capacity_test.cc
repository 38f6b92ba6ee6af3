#include "proxy/guard/capacity.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "base/limits.h"

namespace sallyport::guard {
namespace {

TEST(CapacityTest, LeavesADescriptorForTheUpstreamOfEachConnectionAndSomeForTheRest) {
  EXPECT_EQ(connections_per_worker(1'024, 1), 384U);
  EXPECT_EQ(connections_per_worker(20'000, 1), (20'000U - limits::kDescriptorsReservedMax) / 2);
  EXPECT_EQ(connections_per_worker(20'000, 4), (20'000U - limits::kDescriptorsReservedMax) / 8);
}

TEST(CapacityTest, StaysWithinTheLimitsHoweverManyDescriptorsThereAre) {
  EXPECT_EQ(connections_per_worker(1'048'576, 1), limits::kConnectionsPerWorkerMax);
  EXPECT_EQ(connections_per_worker(RLIM_INFINITY, 2), limits::kConnectionsPerWorkerMax);
  EXPECT_EQ(connections_per_worker(0, 1), 1U);
  EXPECT_EQ(connections_per_worker(100, 256), 1U);
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
