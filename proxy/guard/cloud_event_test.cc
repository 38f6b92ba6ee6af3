#include "proxy/guard/cloud_event.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace sallyport::guard {
namespace {

using testing::HasSubstr;

constexpr std::string_view kJson = "application/cloudevents+json; charset=utf-8";
const std::string kTag = "v1.abc.def";

using Fields = std::vector<std::pair<std::string_view, std::string_view>>;

void fill(request::HeaderList& headers, const Fields& fields) {
  headers.clear();
  for (const auto& [name, value] : fields) headers.add(name, value);
}

EventForm form_of(const Fields& fields) {
  request::HeaderList headers;
  fill(headers, fields);
  return event_form(headers);
}

TEST(CloudEvent, ItsFormIsKnownByItsFields) {
  EXPECT_EQ(form_of({{"Content-Type", "application/json"}}), EventForm::none);
  EXPECT_EQ(form_of({}), EventForm::none);
  EXPECT_EQ(form_of({{"ce-specversion", "1.0"}, {"Content-Type", "application/json"}}), EventForm::binary);
  EXPECT_EQ(form_of({{"Ce-SallyportTag", "x"}}), EventForm::binary);
  EXPECT_EQ(form_of({{"Content-Type", kJson}}), EventForm::structured);
  EXPECT_EQ(form_of({{"content-type", "Application/CloudEvents+JSON"}}), EventForm::structured);
  for (const auto& fields :
       std::vector<Fields>{{{"Content-Type", "application/cloudevents-batch+json"}},
                           {{"Content-Type", "application/cloudevents+protobuf"}},
                           {{"Content-Type", "application/cloudevents+json; a=1; a=2"}},
                           {{"Content-Type", "text/plain, application/cloudevents+json"}},
                           {{"Content-Type", "application/ cloudevents+json"}},
                           {{"Content-Type", "application/cloudevents+json; charset=utf-7"}},
                           {{"Content-Type", "application/cloudevents+json; charset=UTF-16LE"}},
                           {{"Content-Type", "multipart/related; type=\"application/cloudevents+json\""}},
                           {{"Content-Type", kJson}, {"Content-Encoding", "gzip"}},
                           {{"Content-Type", kJson}, {"Content-Type", "text/plain"}},
                           {{"Content-Type", "text/plain"}, {"Content-Type", kJson}}}) {
    EXPECT_EQ(form_of(fields), EventForm::unreadable);
  }
}

TEST(CloudEvent, ATagIsPutInTheFieldOrTheBody) {
  request::HeaderList headers;
  fill(headers, {{"ce-specversion", "1.0"}, {"CE-SallyportTag", "its own"}});
  auto body = put_into_event(headers, "whatever", kTag);
  ASSERT_TRUE(body && !*body);
  EXPECT_EQ(headers.count("ce-sallyporttag"), 1U);
  EXPECT_EQ(headers.find("ce-sallyporttag")->value, kTag);

  fill(headers, {{"Content-Type", kJson}});
  body = put_into_event(headers, R"({"id": "1", "sallyport\u0074ag": "its own", "data": {"a": [1, 2]}})", kTag);
  ASSERT_TRUE(body && *body);
  EXPECT_EQ(**body, R"({"id": "1","data": {"a": [1, 2]},"sallyporttag":"v1.abc.def"})");
  EXPECT_EQ(**put_into_event(headers, " { } ", kTag), R"({"sallyporttag":"v1.abc.def"})");
  // Whatever some reader takes for it is taken out.
  EXPECT_EQ(**put_into_event(headers, R"({"SallyportTag":1,"sallyporttag":2,"sallyporttag":3,"x":4})", kTag),
            R"({"x":4,"sallyporttag":"v1.abc.def"})");

  for (const char* bad : {"", "[]", "null", "{", "{\"a\":1,}", "[{\"id\":\"1\"}]", "{\"a\":\"\xff\"}"}) {
    EXPECT_FALSE(put_into_event(headers, bad, kTag)) << bad;
  }
  fill(headers, {{"Content-Type", "application/cloudevents-batch+json"}});
  EXPECT_THAT(put_into_event(headers, "[]", kTag).error().text, HasSubstr("can bear no tag"));
  fill(headers, {{"Content-Type", "text/plain"}});
  EXPECT_FALSE(*put_into_event(headers, "", kTag));
  EXPECT_EQ(headers.count("ce-sallyporttag"), 0U) << "it is no event";
}

TEST(CloudEvent, WhatReadersCouldTakeForOtherThingsBearsNoTag) {
  request::HeaderList headers;
  fill(headers, {{"Content-Type", kJson}});
  const std::string deep = std::string(1'000, '[') + std::string(1'000, ']');
  for (const std::string& bad :
       {std::string("\xEF\xBB\xBF{}"), std::string("\xFF\xFE{\0}\0", 6), std::string("{\0}\0", 4), std::string("{}{}"),
        std::string("{}\0", 3), R"({"data":)" + deep + "}", std::string(R"({"a":1//})") + "\n}",
        std::string(R"({'sallyporttag':1})"), std::string(R"({"\ud800":1})"), std::string(R"({"a":NaN})")}) {
    EXPECT_FALSE(put_into_event(headers, bad, kTag)) << bad;
    EXPECT_TRUE(take_from_event(headers, bad).objection) << bad;
  }
  // Of the data nothing is a tag, and nothing is touched.
  const std::string data = R"({"data":{"sallyporttag":"its own","a":"\"sallyporttag\":1"}})";
  EXPECT_THAT(**put_into_event(headers, data, kTag), testing::StartsWith(data.substr(0, data.size() - 1)));
  const TakenEvent taken = take_from_event(headers, data);
  EXPECT_FALSE(taken.body || taken.objection);
  EXPECT_EQ(headers.find(tag::kField), nullptr);
  // The Kelvin sign, and the long s that some readers take for an s; what C takes for the end.
  EXPECT_EQ(**put_into_event(headers,
                             "{\"\xC5\xBF"
                             R"(allyporttag":1,"sallyporttag\u0000x":2,"x":3})",
                             kTag),
            R"({"x":3,"sallyporttag":"v1.abc.def"})");
}

TEST(CloudEvent, ATagIsTakenOutAndBecomesTheMessages) {
  request::HeaderList headers;
  fill(headers, {{"ce-specversion", "1.0"}, {"ce-sallyporttag", kTag}});
  TakenEvent taken = take_from_event(headers, "");
  ASSERT_FALSE(taken.body || taken.objection);
  EXPECT_EQ(headers.find(tag::kField)->value, kTag);

  fill(headers, {{"Content-Type", kJson}});
  taken = take_from_event(headers, R"({"sallyporttag":"v1.abc.def","id":"1"})");
  ASSERT_FALSE(taken.objection);
  EXPECT_EQ(taken.body, R"({"id":"1"})");
  EXPECT_EQ(headers.find(tag::kField)->value, kTag);

  // A broker that passes on both: they must be the same.
  fill(headers, {{"Content-Type", kJson}, {"Sallyport-Tag", kTag}});
  EXPECT_FALSE(take_from_event(headers, R"({"sallyporttag":"v1.abc.def"})").objection);
  EXPECT_EQ(headers.count(tag::kField), 1U);
  EXPECT_FALSE(take_from_event(headers, R"({"id":"1"})").body);
}

TEST(CloudEvent, ATagThatProvesNothingIsTakenOutToo) {
  request::HeaderList headers;
  fill(headers, {{"Content-Type", kJson}, {"Sallyport-Tag", kTag}});
  TakenEvent taken = take_from_event(headers, R"({"sallyporttag":"v1.other.def"})");
  EXPECT_THAT(*taken.objection, HasSubstr("another than"));
  EXPECT_EQ(taken.body, "{}");

  fill(headers, {{"Content-Type", kJson}});
  for (const char* bad : {R"({"sallyporttag":"a","id":"1","sallyporttag":"a"})", R"({"id":"1","SALLYPORTTAG":"a"})",
                          R"({"sallyporttag":1,"id":"1"})", R"({"sallyporttag":"","id":"1"})",
                          R"({"id":"1","sallyporttag":{"sallyporttag":"a"}})"}) {
    taken = take_from_event(headers, bad);
    EXPECT_TRUE(taken.objection) << bad;
    EXPECT_EQ(taken.body, R"({"id":"1"})") << bad;
    EXPECT_EQ(headers.find(tag::kField), nullptr);
  }
  for (const char* bad : {"[]x", ""}) {
    taken = take_from_event(headers, bad);
    EXPECT_TRUE(taken.objection && !taken.body) << bad;
  }
  fill(headers, {{"ce-specversion", "1.0"}, {"ce-sallyporttag", "a"}, {"ce-sallyporttag", "a"}});
  EXPECT_TRUE(take_from_event(headers, "").objection);
  fill(headers, {{"Content-Type", "application/cloudevents-batch+json"}});
  EXPECT_TRUE(take_from_event(headers, "[]").objection);
}

}  // namespace
}  // namespace sallyport::guard
