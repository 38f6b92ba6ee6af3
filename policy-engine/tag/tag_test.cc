#include "policy-engine/tag/tag.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>
#include <vector>

#include "base/limits.h"
#include "policy-engine/action/json_text.h"
#include "policy-engine/tag/base64url.h"

namespace sallyport::tag {
namespace {

using action::JsonValue;

std::string from_hex(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    out += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return out;
}

template <std::size_t N>
std::array<unsigned char, N> id_of(const std::string& hex) {
  const std::string bytes = from_hex(hex);
  std::array<unsigned char, N> out{};
  EXPECT_EQ(bytes.size(), N);
  std::copy_n(bytes.begin(), std::min(N, bytes.size()), out.begin());
  return out;
}

std::string kind_text(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::malformed:
      return "malformed";
    case ErrorKind::unverified:
      return "unverified";
    case ErrorKind::timeout:
      return "timeout";
    case ErrorKind::invalid:
      return "invalid";
    default:
      return "another";
  }
}

// policy-engine/tag/vectors.json, which vectors.py makes without this code.
class Vectors {
 public:
  Vectors() {
    std::ifstream file(SALLYPORT_SOURCE_DIR "/policy-engine/tag/vectors.json");
    std::ostringstream bytes;
    bytes << file.rdbuf();
    text_ = bytes.str();
    const auto parsed = action::parse_json(text_);
    EXPECT_TRUE(parsed.has_value());
    root_ = *parsed;
    for (const char* name : {"current", "previous", "other"}) {
      const JsonValue key = at(at(*root_, "keys"), name);
      auto made = Key::create(at(key, "application").text(), from_hex(at(key, "key").text()));
      EXPECT_TRUE(made.has_value());
      EXPECT_EQ(made->id(), id_of<4>(at(key, "id").text()));
      const auto answers = made->for_answers();
      EXPECT_TRUE(answers && answers->application() == made->application());
      EXPECT_EQ(answers->id(), id_of<4>(at(key, "answers_id").text()));
      names_[name] = keys.size();
      keys.push_back(std::move(*made));
    }
    now = std::chrono::sys_seconds(std::chrono::seconds(1'800'000'000));
  }

  static JsonValue at(const JsonValue& object, std::string_view name) { return **object.member(name); }
  std::vector<JsonValue> list(std::string_view name) const {
    std::vector<JsonValue> out;
    const JsonValue values = at(*root_, name);
    for (std::size_t i = 0; auto value = values.element(i); ++i) out.push_back(*value);
    return out;
  }
  const Key& key(const std::string& name) const { return keys[names_.at(name)]; }

  std::vector<Key> keys;
  std::chrono::sys_seconds now;

 private:
  std::string text_;
  std::optional<JsonValue> root_;
  std::map<std::string, std::size_t> names_;
};

Tag an_ordinary_tag(const Vectors& vectors) {
  Tag tag{"shop", "resize", {}, {}, vectors.now};
  tag.guard.fill(7);
  tag.request.fill(9);
  return tag;
}

TEST(Tag, EveryGoodVectorIsMadeAndVerifiedAsAnotherImplementationSays) {
  const Vectors vectors;
  const auto good = vectors.list("good");
  EXPECT_GE(good.size(), 8U);
  for (const JsonValue& one : good) {
    const std::string name = Vectors::at(one, "name").text(), text = Vectors::at(one, "text").text();
    const auto tag = verify(text, vectors.keys, vectors.now);
    ASSERT_TRUE(tag) << name << ": " << tag.error().text;
    EXPECT_EQ(tag->application, Vectors::at(one, "application").text()) << name;
    EXPECT_EQ(tag->function, Vectors::at(one, "function").text()) << name;
    EXPECT_EQ(tag->guard, id_of<16>(Vectors::at(one, "guard").text())) << name;
    EXPECT_EQ(tag->request, id_of<16>(Vectors::at(one, "request").text())) << name;
    EXPECT_EQ(make(*tag, vectors.key(Vectors::at(one, "key").text())), text) << name;
  }
}

TEST(Tag, EveryBadVectorIsRefusedForItsReason) {
  const Vectors vectors;
  const auto bad = vectors.list("bad");
  EXPECT_GE(bad.size(), 25U);
  for (const JsonValue& one : bad) {
    const std::string name = Vectors::at(one, "name").text();
    const auto tag = verify(Vectors::at(one, "text").text(), vectors.keys, vectors.now);
    ASSERT_FALSE(tag) << name;
    EXPECT_EQ(kind_text(tag.error().kind), Vectors::at(one, "error").text()) << name << ": " << tag.error().text;
  }
}

TEST(Tag, NoByteOfATagCanBeChanged) {
  const Vectors vectors;
  const auto text = make(an_ordinary_tag(vectors), vectors.key("current"));
  ASSERT_TRUE(text);
  for (std::size_t i = 0; i < text->size(); ++i) {
    for (const char c : std::string_view("AQgw_-.=~\n\0", 11)) {
      std::string changed = *text;
      if (changed[i] == c) continue;
      changed[i] = c;
      EXPECT_FALSE(verify(changed, vectors.keys, vectors.now)) << i;
    }
    EXPECT_FALSE(verify(text->substr(0, i), vectors.keys, vectors.now)) << i;
  }
}

TEST(Tag, ATagHoldsForItsTimeOnly) {
  const Vectors vectors;
  const auto text = make(an_ordinary_tag(vectors), vectors.key("current"));
  ASSERT_TRUE(text);
  EXPECT_TRUE(verify(*text, vectors.keys, vectors.now + limits::kTagLifetime));
  EXPECT_FALSE(verify(*text, vectors.keys, vectors.now + limits::kTagLifetime + std::chrono::seconds(1)));
  EXPECT_TRUE(verify(*text, vectors.keys, vectors.now - limits::kTagSkew));
  EXPECT_FALSE(verify(*text, vectors.keys, vectors.now - limits::kTagSkew - std::chrono::seconds(1)));
}

TEST(Tag, ARotatedKeyIsKnownByItsIdAndADroppedOneIsNot) {
  Vectors vectors;
  const auto text = make(an_ordinary_tag(vectors), vectors.key("previous"));
  ASSERT_TRUE(text);
  EXPECT_TRUE(verify(*text, vectors.keys, vectors.now));
  EXPECT_FALSE(verify(*text, std::span(vectors.keys).first(1), vectors.now));
  EXPECT_FALSE(verify(*text, {}, vectors.now));
}

TEST(Tag, WhatCannotBeATagIsNotMade) {
  const Vectors vectors;
  Tag tag = an_ordinary_tag(vectors);
  tag.application = "bank";
  EXPECT_FALSE(make(tag, vectors.key("current")));
  for (const std::string& function : {std::string(), std::string("A"), std::string("a/b"), std::string(254, 'a')}) {
    tag = an_ordinary_tag(vectors);
    tag.function = function;
    EXPECT_FALSE(make(tag, vectors.key("current"))) << function;
  }
  EXPECT_FALSE(Key::create("shop", std::string(31, 'k')));
  EXPECT_FALSE(Key::create("Shop", std::string(32, 'k')));
  EXPECT_FALSE(Key::create(std::string(64, 'a'), std::string(32, 'k')));
}

TEST(Tag, TheLongestTagFitsItsBound) {
  const Vectors vectors;
  auto key = Key::create(std::string(limits::kTagApplicationBytesMax, 'a'), std::string(kKeyBytes, 'k'));
  ASSERT_TRUE(key);
  Tag tag = an_ordinary_tag(vectors);
  tag.application = key->application();
  tag.function = std::string(limits::kTagFunctionBytesMax, 'f');
  const auto text = make(tag, *key);
  ASSERT_TRUE(text);
  EXPECT_EQ(text->size(), limits::kTagBytesMax);
  EXPECT_EQ(verify(*text, std::span(&*key, 1), vectors.now), tag);
}

TEST(Base64Url, IsThatOfRfc4648WithOneTextForEachValue) {
  EXPECT_EQ(to_base64url(""), "");
  EXPECT_EQ(to_base64url("f"), "Zg");
  EXPECT_EQ(to_base64url("fo"), "Zm8");
  EXPECT_EQ(to_base64url("foo"), "Zm9v");
  EXPECT_EQ(to_base64url("\xFB\xFF"), "-_8");
  for (const std::string_view text : {"Zg", "Zm8", "Zm9v", "-_8", ""})
    EXPECT_EQ(to_base64url(*from_base64url(text)), text);
  for (const std::string_view text : {"Z", "Zg==", "Zh", "Zm9", "+/8", "Zg\n", "Zm9vZ"})
    EXPECT_FALSE(from_base64url(text));
}

}  // namespace
}  // namespace sallyport::tag
