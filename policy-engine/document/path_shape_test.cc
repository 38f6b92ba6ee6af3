#include "policy-engine/document/path_shape.h"

#include <gtest/gtest.h>

namespace sallyport::document {
namespace {

TEST(PathShape, KnowsIdentifiers) {
  for (const std::string_view segment :
       {"1", "42", "20261121", "2026-11", "2026-11-21", "2026-11-21T22:00:00Z", "550e8400-e29b-41d4-a716-446655440000",
        "550E8400-E29B-41D4-A716-446655440000", "9b74c9897bac770ffc029102a200c5de", "deadbeefdeadbeef", "abc1234",
        "cus_NffrFeUfNV2Hib", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "order-000123", "dGhpcyBpcyBhIHRlc3Q1"}) {
    EXPECT_TRUE(looks_like_identifier(segment)) << segment;
  }
}

TEST(PathShape, LeavesNamesAlone) {
  for (const std::string_view segment :
       {"", "v1", "v2beta1", "users", "oauth2", "s3", "thumbnail-generator-v2", "decade", "facade", "index.html",
        "ec2-instances", "2fa", "api", "README.md", "wp-content", "x509", "_search", "%20"}) {
    EXPECT_FALSE(looks_like_identifier(segment)) << segment;
  }
}

}  // namespace
}  // namespace sallyport::document
