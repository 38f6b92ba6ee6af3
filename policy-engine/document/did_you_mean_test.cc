#include "policy-engine/document/did_you_mean.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace sallyport::document {
namespace {

constexpr std::array<std::string_view, 6> kFields = {"methods", "path", "caBundle", "credential", "host", "ports"};

TEST(DidYouMean, FindsSlipsOfTheHand) {
  EXPECT_EQ(did_you_mean("method", kFields), "methods");
  EXPECT_EQ(did_you_mean("ca_bundle", kFields), "caBundle");
  EXPECT_EQ(did_you_mean("cabundle", kFields), "caBundle");
  EXPECT_EQ(did_you_mean("credentails", kFields), "credential");
  EXPECT_EQ(did_you_mean("hsot", kFields), "host");
  EXPECT_EQ(did_you_mean("port", kFields), "ports");
}

TEST(DidYouMean, StaysSilentAboutOtherWords) {
  EXPECT_EQ(did_you_mean("timeout", kFields), "");
  EXPECT_EQ(did_you_mean("", kFields), "");
  EXPECT_EQ(did_you_mean("x", kFields), "");
  EXPECT_EQ(did_you_mean(std::string(10'000, 'h'), kFields), "");
}

}  // namespace
}  // namespace sallyport::document
