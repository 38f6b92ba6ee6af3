#include "ca/describe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ca/certificate_form.h"
#include "ca/test_support.h"

namespace sallyport::ca {
namespace {

using test::kNoon;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TEST(Describe, ALeafAndItsIssuerAreToldApart) {
  const auto root = Authority::create_root(nullptr, {.name = "Test root"}, kNoon);
  const std::vector<std::string_view> hosts{"a.example", "192.0.2.7", "2001:db8::7"};
  const auto leaf = root->issue_leaf(hosts, make_p256_key(nullptr)->get(), limits::kLeafLifetime, kNoon);
  const auto described = describe({"x.pem", test::pem(leaf->get()) + "some text\n" + root->trust_pem()}, kNoon);
  ASSERT_TRUE(described) << described.error().text;
  ASSERT_THAT(*described, SizeIs(2));
  const Description& first = described->front();
  const Description& second = described->back();
  EXPECT_THAT(first.names, ElementsAre("a.example", "192.0.2.7", "2001:db8::7"));
  EXPECT_EQ(first.subject, "");
  EXPECT_EQ(first.issuer, "CN=Test root");
  EXPECT_FALSE(first.ca);
  EXPECT_EQ(first.authority_key_id, second.subject_key_id);
  EXPECT_EQ(first.not_after, kNoon + limits::kLeafLifetime);
  EXPECT_TRUE(second.ca && second.self_signed);
  EXPECT_EQ(second.key, "EC P-256");
  EXPECT_THAT(first.problems, IsEmpty());
  EXPECT_THAT(second.problems, IsEmpty());
}

TEST(Describe, ALeafThatClientsWouldMindIsTold) {
  const auto root = Authority::create_root(nullptr, {.lifetime = std::chrono::days(2'000)}, kNoon);
  const std::string_view host = "a.example";
  const auto leaf = root->issue_leaf(std::span(&host, 1), make_p256_key(nullptr)->get(), std::chrono::days(900), kNoon);
  const auto late = describe({"x.pem", test::pem(leaf->get())}, kNoon + std::chrono::days(901));
  EXPECT_THAT(late->front().problems, Contains(HasSubstr("825 days")));
  EXPECT_THAT(late->front().problems, Contains("it has expired"));
  const auto early = describe({"x.pem", test::pem(leaf->get())}, kNoon - std::chrono::days(1));
  EXPECT_THAT(early->front().problems, Contains("it is not valid yet"));
}

TEST(Describe, ANameThatATerminalWouldObeyIsEscapedInTheSubject) {
  const X509Ptr certificate = new_certificate(nullptr);
  ASSERT_TRUE(set_common_name(X509_get_subject_name(certificate.get()), "x\x1b[31m,CN=y\n"));
  EXPECT_EQ(subject_text(certificate.get()), "CN=x\\1B[31m\\,CN=y\\0A");
}

TEST(Describe, WhatHoldsNoCertificateIsRefused) {
  EXPECT_FALSE(describe({"x.pem", ""}, kNoon));
  EXPECT_FALSE(describe({"x.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, kNoon));
}

}  // namespace
}  // namespace sallyport::ca
