#include "policy-engine/document/message_reader.h"

#include <google/protobuf/descriptor.h>

#include <charconv>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy-engine/api/annotations.pb.h"
#include "policy-engine/document/did_you_mean.h"

namespace sallyport::document {

namespace {

namespace api = sallyport::policy::v1alpha1;
using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::null:
      return "nothing";
    case YamlNode::Kind::sequence:
      return "a list";
    case YamlNode::Kind::map:
      return "a mapping";
    case YamlNode::Kind::scalar:
      break;
  }
  if (!node.plain) return "the string " + quoted(node.text);
  switch (plain_type(node.text)) {
    case PlainType::boolean:
      return "the boolean " + node.text;
    case PlainType::number:
      return "the number " + quoted(node.text);
    case PlainType::string:
      break;
  }
  return "the string " + quoted(node.text);
}

std::string joined(const std::vector<std::string_view>& words, std::string_view last_separator) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? last_separator : std::string_view(", ");
    out += words[i];
  }
  return out;
}

const std::string& noun(const Message& message) { return message.GetDescriptor()->options().GetExtension(api::noun); }

// One message and the map that it is read from.
class Reader {
 public:
  Reader(const YamlNode& node, Message& message, Places& places, Diagnostics& diagnostics)
      : node_(node), message_(message), places_(places), diagnostics_(diagnostics) {}

  // False if anything inside was wrong.
  bool read() {
    places_.set(message_, node_.place);
    if (const FieldDescriptor* field = short_form(); field != nullptr && node_.kind == YamlNode::Kind::scalar) {
      choices_.emplace(field->real_containing_oneof() == nullptr ? -1 : field->real_containing_oneof()->index(), field);
      seen_.emplace(field->number(), node_.place);
      read_value(*field, node_, -1);
      check_required();
    } else if (node_.kind != YamlNode::Kind::map) {
      error(node_.place, noun(message_) + " must be a mapping, but this is " + describe(node_), mapping_hint());
    } else {
      for (std::size_t i = 0; i < node_.keys.size(); ++i) read_entry(node_.keys[i], node_.items[i]);
      check_required();
    }
    if (!good_) places_.mark_broken(message_);
    return good_;
  }

 private:
  // The field that a value stands for where it stands in place of the mapping; null: there is none.
  const FieldDescriptor* short_form() const {
    const Descriptor& type = *message_.GetDescriptor();
    const std::string& name = type.options().GetExtension(api::short_form);
    return name.empty() ? nullptr : type.FindFieldByName(name);
  }

  void error(Place place, std::string message, std::string hint = {}) {
    good_ = false;
    diagnostics_.error(place, std::move(message), std::move(hint));
  }

  std::string mapping_hint() const {
    const Descriptor& type = *message_.GetDescriptor();
    std::vector<std::string_view> names;
    for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->json_name());
    return "it has the fields " + joined(names, " and ");
  }

  void read_entry(const YamlNode& key, const YamlNode& value) {
    const FieldDescriptor* field = find_field(key);
    if (field == nullptr) return unknown_field(key);
    const auto [first, is_first] = seen_.emplace(field->number(), key.place);
    if (!is_first) {
      return error(key.place, quoted(key.text) + " is given twice in " + noun(message_),
                   "the first one is in line " + std::to_string(first->second.line));
    }
    places_.set(message_, field->number(), -1, key.place);
    if (const OneofDescriptor* choice = field->real_containing_oneof(); choice != nullptr) {
      const auto [taken, is_only] = choices_.emplace(choice->index(), field);
      if (!is_only) {
        return error(key.place, noun(message_) + " has either " + quoted(taken->second->json_name()) + " or " +
                                    quoted(field->json_name()) + ", not both");
      }
    }
    read_field(*field, key, value);
  }

  const FieldDescriptor* find_field(const YamlNode& key) const {
    const Descriptor& type = *message_.GetDescriptor();
    for (int i = 0; i < type.field_count(); ++i) {
      if (type.field(i)->json_name() == key.text) return type.field(i);
    }
    return nullptr;
  }

  void unknown_field(const YamlNode& key) {
    const Descriptor& type = *message_.GetDescriptor();
    std::vector<std::string_view> names;
    for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->json_name());
    const std::string_view meant = did_you_mean(key.text, names);
    if (!meant.empty()) meant_.emplace(meant);
    error(key.place, "unknown field " + quoted(key.text) + " in " + noun(message_),
          meant.empty() ? mapping_hint() : "did you mean " + quoted(meant) + "?");
  }

  void read_field(const FieldDescriptor& field, const YamlNode& key, const YamlNode& value) {
    if (value.kind == YamlNode::Kind::null) {
      return error(key.place, quoted(key.text) + " has no value", "give it one, or remove the field");
    }
    if (!field.is_repeated()) return read_value(field, value, -1);
    if (value.kind != YamlNode::Kind::sequence) {
      const bool scalar = value.kind == YamlNode::Kind::scalar;
      return error(value.place, quoted(key.text) + " must be a list, but this is " + describe(value),
                   scalar ? "write [" + value.text.substr(0, 64) + "]" : "start each element with '- '");
    }
    if (value.items.empty() && field.options().GetExtension(api::non_empty)) {
      return error(key.place, quoted(key.text) + " is empty", empty_list_hint(field));
    }
    for (std::size_t i = 0; i < value.items.size(); ++i) read_value(field, value.items[i], static_cast<int>(i));
  }

  static std::string empty_list_hint(const FieldDescriptor& field) {
    if (const std::string& hint = field.options().GetExtension(api::empty_hint); !hint.empty()) return hint;
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) return "an empty list is nothing; everything is [any]";
    return "an empty list is nothing; remove the field or add an element";
  }

  // Element `index` of a list, or the only value with -1.
  void read_value(const FieldDescriptor& field, const YamlNode& value, int index) {
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) return read_submessage(field, value);
    const std::string* text = scalar_text(field, value);
    if (text == nullptr) return;
    // Only what was read counts in the list, so that an element's index is the same here and in the message.
    const Reflection& reflection = *message_.GetReflection();
    const int place_index = index < 0 ? -1 : reflection.FieldSize(message_, &field);
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        read_string(field, *text);
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        read_bool(field, value);
        break;
      case FieldDescriptor::CPPTYPE_ENUM:
        read_enum(field, value);
        break;
      case FieldDescriptor::CPPTYPE_UINT32:
      case FieldDescriptor::CPPTYPE_UINT64:
        read_number(field, value);
        break;
      default:
        // A type that the schema has no use for yet: the document is refused rather than read half.
        error(value.place, quoted(field.json_name()) + " has a type that this version cannot read");
        return;
    }
    places_.set(message_, field.number(), place_index, value.place);
  }

  void read_submessage(const FieldDescriptor& field, const YamlNode& value) {
    const Reflection& reflection = *message_.GetReflection();
    Message* inner =
        field.is_repeated() ? reflection.AddMessage(&message_, &field) : reflection.MutableMessage(&message_, &field);
    good_ = Reader(value, *inner, places_, diagnostics_).read() && good_;
  }

  // The text of a scalar that can stand for a value of this field, or null after an error.
  const std::string* scalar_text(const FieldDescriptor& field, const YamlNode& value) {
    if (value.kind != YamlNode::Kind::scalar) {
      error(value.place,
            quoted(field.json_name()) + " must be " + expected(field) + ", but this is " + describe(value));
      return nullptr;
    }
    if (value.text.find_first_of(kControlCharacters) != std::string::npos) {
      error(value.place, "a control character stands in " + quoted(field.json_name()), "remove it");
      return nullptr;
    }
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_STRING || !value.plain) return &value.text;
    const PlainType type = plain_type(value.text);
    const bool number_allowed = type == PlainType::number && field.options().GetExtension(api::int_or_string);
    if (type == PlainType::string || number_allowed) return &value.text;
    error(value.place, quoted(field.json_name()) + " must be " + expected(field) + ", but this is " + describe(value),
          "put it in quotes if it is meant as text");
    return nullptr;
  }

  static std::string expected(const FieldDescriptor& field) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_BOOL:
        return "true or false";
      case FieldDescriptor::CPPTYPE_ENUM:
        return words_of(*field.enum_type());
      case FieldDescriptor::CPPTYPE_UINT32:
        return "a whole number up to 4294967295";
      case FieldDescriptor::CPPTYPE_UINT64:
        return "a whole number up to 18446744073709551615";
      default:
        break;
    }
    return field.options().GetExtension(api::int_or_string) ? "a number or a word" : "a string";
  }

  static std::string words_of(const EnumDescriptor& type) {
    std::vector<std::string> words;
    for (int i = 1; i < type.value_count(); ++i) words.push_back(enum_word(*type.value(i)));
    return joined({words.begin(), words.end()}, " or ");
  }

  void read_string(const FieldDescriptor& field, const std::string& text) {
    const Reflection& reflection = *message_.GetReflection();
    if (field.is_repeated()) {
      reflection.AddString(&message_, &field, text);
    } else {
      reflection.SetString(&message_, &field, text);
    }
  }

  void read_bool(const FieldDescriptor& field, const YamlNode& value) {
    if (!value.plain || (value.text != "true" && value.text != "false")) {
      return error(value.place, quoted(field.json_name()) + " must be true or false, but this is " + describe(value));
    }
    message_.GetReflection()->SetBool(&message_, &field, value.text == "true");
  }

  // In decimal digits alone: readers of YAML differ on what else is a number ("010", "1_000", "1e3").
  void read_number(const FieldDescriptor& field, const YamlNode& value) {
    std::uint64_t number = 0;
    const char* const end = value.text.data() + value.text.size();
    const auto [last, failed] = std::from_chars(value.text.data(), end, number);
    const bool wide = field.cpp_type() == FieldDescriptor::CPPTYPE_UINT64;
    const bool zeros = value.text.size() > 1 && value.text.front() == '0';
    const bool fits = wide || number <= std::numeric_limits<std::uint32_t>::max();
    // Protobuf's JSON, which is YAML, has quotes around 64 bits, as JavaScript's numbers have fewer.
    if ((!value.plain && !wide) || zeros || failed != std::errc() || last != end || !fits) {
      return error(value.place,
                   quoted(field.json_name()) + " must be " + expected(field) + ", but this is " + describe(value));
    }
    const Reflection& reflection = *message_.GetReflection();
    if (wide) return reflection.SetUInt64(&message_, &field, number);
    reflection.SetUInt32(&message_, &field, static_cast<std::uint32_t>(number));
  }

  void read_enum(const FieldDescriptor& field, const YamlNode& value) {
    const EnumDescriptor& type = *field.enum_type();
    std::vector<std::string> words;
    for (int i = 1; i < type.value_count(); ++i) {
      words.push_back(enum_word(*type.value(i)));
      if (words.back() == value.text) return message_.GetReflection()->SetEnum(&message_, &field, type.value(i));
    }
    const std::vector<std::string_view> candidates(words.begin(), words.end());
    const std::string_view meant = did_you_mean(value.text, candidates);
    error(value.place, quoted(field.json_name()) + " must be " + words_of(type) + ", but this is " + describe(value),
          meant.empty() ? "" : "did you mean " + quoted(meant) + "?");
  }

  void check_required() {
    const Descriptor& type = *message_.GetDescriptor();
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      if (!field.options().GetExtension(api::required) || seen_.contains(field.number())) continue;
      // It is there, misspelled: one mistake is reported once.
      if (meant_.contains(field.json_name())) continue;
      error(node_.place, noun(message_) + " has no " + quoted(field.json_name()), "it is required");
    }
    for (int i = 0; i < type.real_oneof_decl_count(); ++i) {
      const OneofDescriptor& choice = *type.oneof_decl(i);
      if (!choice.options().GetExtension(api::one_required) || choices_.contains(choice.index())) continue;
      std::vector<std::string_view> names;
      for (int j = 0; j < choice.field_count(); ++j) names.push_back(choice.field(j)->json_name());
      error(node_.place, noun(message_) + " has none of " + joined(names, " and "), "one of them is required");
    }
  }

  // Of the C0 set with NUL, and DEL. Quoted YAML can spell them ("\0"), and no field has a use for them.
  static constexpr std::string_view kControlCharacters{
      "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b"
      "\x1c\x1d\x1e\x1f\x7f",
      33};

  const YamlNode& node_;
  Message& message_;
  Places& places_;
  Diagnostics& diagnostics_;
  std::set<std::string_view> meant_;               // fields that unknown ones were probably meant to be
  std::map<int, Place> seen_;                      // by field number: the first key
  std::map<int, const FieldDescriptor*> choices_;  // by oneof: the field that was given first
  bool good_ = true;
};

}  // namespace

std::string enum_word(const EnumValueDescriptor& value) {
  if (value.number() == 0) return {};
  // The prefix is the enum's own name: all values of one enum share it, so it is what the zero value has before
  // "UNSPECIFIED".
  const std::string& zero = value.type()->value(0)->name();
  const std::size_t prefix = zero.size() - std::string_view("UNSPECIFIED").size();
  std::string word = value.name().substr(prefix);
  for (char& c : word) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c == '_') c = '-';
  }
  return word;
}

void read_message(const YamlNode& node, Message& message, Places& places, Diagnostics& diagnostics) {
  Reader(node, message, places, diagnostics).read();
}

}  // namespace sallyport::document
