#include "policy-engine/credentials/binding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>

namespace sallyport::credentials {
namespace {

using request::RequestHead;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

const std::string kOwn = "sallyport-placeholder-0123456789abcdef0123456789abcdef";
const std::string kOther = "sallyport-placeholder-fedcba9876543210fedcba9876543210";
const std::string kGiven = "sk_test_PLACEHOLDER.0~";

Binding binding_of(const std::string& name, const std::string& placeholder, Foreign foreign = Foreign::replace) {
  Binding binding;
  binding.name = name;
  binding.header = "Authorization";
  binding.prefix = "Bearer ";
  binding.foreign = foreign;
  binding.placeholder = placeholder;
  binding.secret = std::move(*Secret::copy_of("real-" + name));
  return binding;
}

std::string base64(std::string_view text) {
  std::string encoded((text.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  encoded.resize(static_cast<std::size_t>(size));
  return encoded;
}

std::string percent(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    encoded += '%';
    encoded += "0123456789ABCDEF"[static_cast<unsigned char>(c) >> 4];
    encoded += "0123456789abcdef"[c & 15];
  }
  return encoded;
}

// A set of three bindings, and what became of one request.
class Bindings : public testing::Test {
 protected:
  using Fields = std::vector<std::pair<std::string, std::string>>;

  Bindings() {
    own_ = *set_.add(binding_of("own", kOwn));
    other_ = *set_.add(binding_of("other", kOther));
    given_ = *set_.add(binding_of("given", kGiven));
    Binding strict = binding_of("strict", "sallyport-placeholder-5555", Foreign::deny);
    strict.header = "X-Api-Key";
    strict.prefix.clear();
    strict_ = *set_.add(std::move(strict));
  }

  Applied apply(const Binding* bound, const Fields& fields, std::string_view target = "/v1/x?q=1", bool tls = true) {
    RequestHead head;
    head.authority = "api.example.com";
    for (const auto& [name, value] : fields) head.headers.add(name, value);
    Applied applied = set_.apply(bound, tls, target, head);
    after_.clear();
    for (const request::Header& header : head.headers) after_.emplace_back(header.name, header.value);
    return applied;
  }

  Reason reason(const Binding* bound, const Fields& fields, std::string_view target = "/v1/x?q=1") {
    return apply(bound, fields, target).reason;
  }

  BindingSet set_;
  const Binding* own_ = nullptr;
  const Binding* other_ = nullptr;
  const Binding* given_ = nullptr;
  const Binding* strict_ = nullptr;
  Fields after_;
};

TEST_F(Bindings, ThePlaceholderGivesWayToTheCredential) {
  for (const std::string& value : {"Bearer " + kOwn, kOwn, "bearer " + kOwn, "token " + kOwn,
                                   "Basic " + base64("user:" + kOwn), "Bearer " + percent(kOwn), std::string()}) {
    const Applied applied = apply(own_, {{"Accept", "*/*"}, {"authorization", value}, {"X-Last", "1"}});
    EXPECT_EQ(applied.reason, Reason::none) << value;
    EXPECT_EQ(applied.binding, own_);
    EXPECT_THAT(after_,
                ElementsAre(Pair("Accept", "*/*"), Pair("authorization", "Bearer real-own"), Pair("X-Last", "1")));
  }
}

TEST_F(Bindings, AFunctionThatSendsNothingGetsTheCredentialToo) {
  EXPECT_EQ(reason(own_, {{"Accept", "*/*"}}), Reason::none);
  EXPECT_THAT(after_, ElementsAre(Pair("Accept", "*/*"), Pair("Authorization", "Bearer real-own")));
}

TEST_F(Bindings, ARequestWithoutABindingIsLeftAsItIs) {
  const Applied applied = apply(nullptr, {{"Authorization", "Bearer mine"}, {"Cookie", "a=b"}}, "/", false);
  EXPECT_EQ(applied.reason, Reason::none);
  EXPECT_EQ(applied.binding, nullptr);
  EXPECT_THAT(after_, ElementsAre(Pair("Authorization", "Bearer mine"), Pair("Cookie", "a=b")));
}

TEST_F(Bindings, APlaceholderAnywhereElseIsRefusedAndThePlaceIsSaid) {
  struct Case {
    Fields fields;
    std::string target;
    std::string place;
  };
  const std::vector<Case> cases = {
      {{}, "/v1/" + kOwn + "/x", "path"},
      {{}, "/v1/" + percent(kOwn), "path"},
      {{}, "/v1?key=" + kOwn, "query"},
      {{}, "/v1?a=b&key=" + percent(kOwn), "query"},
      {{}, "/v1?key=" + percent(percent(kOwn)), "query"},
      {{}, "/v1?key=sallyport%2Dplaceholder" + kOwn.substr(21), "query"},
      {{}, "/v1?" + kGiven, "query"},
      {{{"Cookie", "session=" + kOwn + "; a=b"}}, "/", "header Cookie"},
      {{{"Cookie", "session=" + percent(kOwn)}}, "/", "header Cookie"},
      {{{"X-Note", "Basic " + base64("user:" + kOwn)}}, "/", "header X-Note"},
      {{{"Proxy-Authorization", "basic " + base64(kOwn + ":")}}, "/", "header Proxy-Authorization"},
      {{{"Proxy-Authorization", "Basic " + base64(percent(kOwn) + ":")}}, "/", "header Proxy-Authorization"},
      {{{"X-Api-Key", kOwn}}, "/", "header X-Api-Key"},
      {{{"Accept", "a"}, {"Accept", "b"}, {"Accept", "c, " + kOwn}}, "/", "header Accept"},
      {{{kOwn, "1"}}, "/", "a header's name"},
      {{{"Referer", "https://x.example/?" + kOwn.substr(0, 30) + kOwn}}, "/", "header Referer"},
  };
  for (const Case& c : cases) {
    for (const Binding* bound : {static_cast<const Binding*>(nullptr), own_}) {
      const Applied applied = apply(bound, c.fields, c.target);
      EXPECT_EQ(applied.reason, Reason::placeholder_misuse) << c.target << " " << c.place;
      EXPECT_EQ(applied.binding, c.target.find(kGiven) == std::string::npos ? own_ : given_);
      EXPECT_EQ(applied.place, c.place);
    }
  }
}

TEST_F(Bindings, APlaceholderInTheAuthorityIsRefused) {
  RequestHead head;
  const std::string authority = kOwn + ".example.com";
  head.authority = authority;
  EXPECT_EQ(set_.apply(nullptr, true, "/", head).place, "authority");
}

TEST_F(Bindings, ThePlaceholderOfAnotherBindingIsRefusedAlsoInTheBoundHeader) {
  for (const std::string& value :
       {"Bearer " + kOther, "Bearer " + kGiven, "Bearer " + kOwn + kOther, "Basic " + base64(kOwn + ":" + kOther)}) {
    const Applied applied = apply(own_, {{"Authorization", value}});
    EXPECT_EQ(applied.reason, Reason::placeholder_misuse) << value;
    EXPECT_NE(applied.binding, own_);
  }
  EXPECT_EQ(reason(nullptr, {{"Authorization", "Bearer " + kOwn}}), Reason::placeholder_misuse) << "wrong endpoint";
}

TEST_F(Bindings, TheHeaderOfAnotherBindingIsNoPlaceForTheOwnPlaceholder) {
  EXPECT_EQ(reason(strict_, {{"Authorization", "Bearer " + strict_->placeholder}}), Reason::placeholder_misuse);
}

TEST_F(Bindings, WhatOnlyLooksLikeAPlaceholderPasses) {
  EXPECT_EQ(
      reason(nullptr, {{"X", "sallyport-placeholder-"}, {"Y", kOwn.substr(0, kOwn.size() - 1)}, {"Z", kOwn.substr(1)}},
             "/docs/sallyport-placeholder-ffff"),
      Reason::none);
}

TEST_F(Bindings, AForeignValueIsReplacedOrRefusedAsTheBindingSays) {
  EXPECT_EQ(reason(own_, {{"Authorization", "Bearer mine"}}), Reason::none);
  EXPECT_THAT(after_, ElementsAre(Pair("Authorization", "Bearer real-own")));
  const Applied refused = apply(strict_, {{"x-aPI-key", "mine"}});
  EXPECT_EQ(refused.reason, Reason::foreign_credential);
  EXPECT_EQ(refused.binding, strict_);
  EXPECT_EQ(reason(strict_, {{"x-api-key", strict_->placeholder}}), Reason::none);
  EXPECT_THAT(after_, ElementsAre(Pair("x-api-key", "real-strict")));
}

TEST_F(Bindings, EveryValueOfTheBoundHeaderIsLookedAt) {
  const std::string placeholder = strict_->placeholder;
  EXPECT_EQ(reason(strict_, {{"X-Api-Key", placeholder}, {"A", "b"}, {"x-api-key", "mine"}}),
            Reason::foreign_credential);
  EXPECT_EQ(reason(strict_, {{"X-Api-Key", "mine"}, {"X-Api-Key", placeholder}}), Reason::foreign_credential);
  EXPECT_EQ(reason(strict_, {{"X-Api-Key", placeholder}, {"A", "b"}, {"x-api-key", placeholder}}), Reason::none);
  EXPECT_THAT(after_, ElementsAre(Pair("X-Api-Key", "real-strict"), Pair("A", "b")));
}

TEST_F(Bindings, ANameThatCgiWouldTakeForTheBoundOneCountsAsIt) {
  EXPECT_EQ(reason(strict_, {{"X_Api_Key", "mine"}}), Reason::foreign_credential);
  // A second key, in another field that services take keys from.
  EXPECT_EQ(reason(strict_, {{"Authorization", "Bearer mine"}}), Reason::foreign_credential);
  EXPECT_EQ(reason(strict_, {{"x_auth_token", "mine"}}), Reason::foreign_credential);
  EXPECT_EQ(reason(strict_, {{"Authorization", ""}, {"X-Request-Id", "mine"}}), Reason::none);
  EXPECT_EQ(reason(own_, {{"X-Api-Key", "mine"}}), Reason::none) << "only where the binding denies";
  EXPECT_EQ(reason(strict_, {{"X_Api-Key", strict_->placeholder}}), Reason::none);
  EXPECT_THAT(after_, ElementsAre(Pair("X-Api-Key", "real-strict")));
}

TEST_F(Bindings, TwoAuthorizationFieldsAreRefused) {
  EXPECT_EQ(reason(own_, {{"Authorization", "Bearer " + kOwn}, {"authorization", "Bearer mine"}}),
            Reason::malformed_http);
  EXPECT_EQ(reason(nullptr, {{"Authorization", "a"}, {"Authorization", "b"}}), Reason::none) << "not ours to judge";
}

TEST_F(Bindings, NothingIsInjectedWithoutVerifiedTlsOrWithoutASecret) {
  EXPECT_EQ(apply(own_, {{"Authorization", "Bearer " + kOwn}}, "/", false).reason, Reason::credential_unavailable);
  EXPECT_THAT(after_, ElementsAre(Pair("Authorization", "Bearer " + kOwn)));
  Binding without = binding_of("without", "sallyport-placeholder-6666");
  without.secret = Secret();
  const Binding* bound = *set_.add(std::move(without));
  EXPECT_EQ(apply(bound, {}).reason, Reason::credential_unavailable);
  EXPECT_THAT(after_, ElementsAre());
}

TEST(BindingSet, AnEmptySetTouchesNothing) {
  BindingSet set;
  RequestHead head;
  head.headers.add("Authorization", kOwn);
  const Applied applied = set.apply(nullptr, false, "/" + kOwn, head);
  EXPECT_EQ(applied.reason, Reason::none);
  EXPECT_EQ(head.headers[0].value, kOwn);
}

TEST(BindingSet, PlaceholdersMustBeLongPlainAndApart) {
  BindingSet set;
  for (const char* bad : {"", "short", "fifteen-bytes-1", "has a blank in it", "has%41percent-signs",
                          "unicode-\xc3\xbc-bytes-here", "slash/slash/slash/slash"}) {
    const auto added = set.add(binding_of("bad", bad));
    ASSERT_FALSE(added) << bad;
    EXPECT_THAT(added.error().text, HasSubstr("credential bad: a placeholder has at least 16 characters"));
  }
  ASSERT_TRUE(set.add(binding_of("first", "a-given-placeholder")));
  for (const char* close : {"a-given-placeholder", "a-given-placeholder-2", "given-placeholder"}) {
    const auto added = set.add(binding_of("second", close));
    ASSERT_FALSE(added) << close;
    EXPECT_THAT(added.error().text, HasSubstr("that of first contain one another"));
  }
  EXPECT_EQ(set.all().size(), 1u);
}

TEST(BindingSet, APlaceholderThatHoldsTheSecretIsRefused) {
  BindingSet set;
  Binding binding = binding_of("b", "prefix-hunter2-hunter2-suffix");
  binding.secret = std::move(*Secret::copy_of("hunter2-hunter2"));
  const auto added = set.add(std::move(binding));
  ASSERT_FALSE(added);
  EXPECT_THAT(added.error().text, testing::Not(HasSubstr("hunter2")));
}

TEST(BindingSet, WhatNoHeaderCarriesIsRefused) {
  BindingSet set;
  Binding format = binding_of("format", kOwn);
  format.suffix = "\r\nX-Injected: 1";
  EXPECT_FALSE(set.add(std::move(format)));
  Binding secret = binding_of("secret", kOwn);
  secret.secret = std::move(*Secret::copy_of("a\r\nX-Injected: 1"));
  EXPECT_FALSE(set.add(std::move(secret)));
  EXPECT_TRUE(set.all().empty());
}

}  // namespace
}  // namespace sallyport::credentials
