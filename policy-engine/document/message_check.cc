#include "policy-engine/document/message_check.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/unknown_field_set.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "policy-engine/api/annotations.pb.h"

namespace sallyport::document {

namespace {

namespace api = sallyport::policy::v1alpha1;
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

constexpr std::string_view kUpdate = "update sallyport: a newer version wrote this";

bool has_control_characters(std::string_view text) {
  return std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

// One message, at its place in the whole: "spec.endpoints[2].".
class Checker {
 public:
  Checker(const Message& message, std::string where, bool whole, Diagnostics& diagnostics)
      : message_(message),
        reflection_(*message.GetReflection()),
        where_(std::move(where)),
        whole_(whole),
        diagnostics_(diagnostics) {}

  void check() {
    if (!reflection_.GetUnknownFields(message_).empty()) {
      error(noun() + " has fields that this version does not know", kUpdate);
    }
    if (whole_) check_required();
    std::vector<const FieldDescriptor*> fields;
    reflection_.ListFields(message_, &fields);
    for (const FieldDescriptor* field : fields) {
      const int size = field->is_repeated() ? reflection_.FieldSize(message_, field) : 1;
      for (int i = 0; i < size; ++i) check_value(*field, field->is_repeated() ? i : -1);
    }
  }

 private:
  std::string noun() const { return message_.GetDescriptor()->options().GetExtension(api::noun); }

  void error(const std::string& what, std::string_view hint) {
    diagnostics_.error({}, where_.empty() ? what : where_.substr(0, where_.size() - 1) + ": " + what, hint);
  }

  bool is_there(const FieldDescriptor& field) const {
    return field.is_repeated() ? reflection_.FieldSize(message_, &field) > 0 : reflection_.HasField(message_, &field);
  }

  void check_required() {
    const Descriptor& type = *message_.GetDescriptor();
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      if (!field.options().GetExtension(api::required) || is_there(field)) continue;
      error(noun() + " has no " + quoted(field.json_name()), "it is required");
    }
    for (int i = 0; i < type.real_oneof_decl_count(); ++i) {
      const OneofDescriptor& choice = *type.oneof_decl(i);
      if (!choice.options().GetExtension(api::one_required) || reflection_.HasOneof(message_, &choice)) continue;
      error(noun() + " has none of " + quoted(choice.name()), "one of them is required");
    }
  }

  void check_value(const FieldDescriptor& field, int index) {
    const std::string name = field.json_name() + (index < 0 ? "" : "[" + std::to_string(index) + "]");
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE: {
        const Message& inner = index < 0 ? reflection_.GetMessage(message_, &field)
                                         : reflection_.GetRepeatedMessage(message_, &field, index);
        return Checker(inner, where_ + name + ".", whole_, diagnostics_).check();
      }
      case FieldDescriptor::CPPTYPE_ENUM: {
        const int value = index < 0 ? reflection_.GetEnumValue(message_, &field)
                                    : reflection_.GetRepeatedEnumValue(message_, &field, index);
        if (field.enum_type()->FindValueByNumber(value) == nullptr) {
          error(quoted(field.json_name()) + " has a value that this version does not know", kUpdate);
        }
        return;
      }
      case FieldDescriptor::CPPTYPE_STRING: {
        std::string scratch;
        const std::string& text = index < 0 ? reflection_.GetStringReference(message_, &field, &scratch)
                                            : reflection_.GetRepeatedStringReference(message_, &field, index, &scratch);
        const bool readable = field.type() != FieldDescriptor::TYPE_STRING || !has_control_characters(text);
        if (whole_ && !readable) error("a control character stands in " + quoted(name), "remove it");
        return;
      }
      default:
        return;
    }
  }

  const Message& message_;
  const Reflection& reflection_;
  const std::string where_;
  const bool whole_;
  Diagnostics& diagnostics_;
};

}  // namespace

void check_message(const Message& message, Diagnostics& diagnostics) {
  Checker(message, {}, true, diagnostics).check();
}

void refuse_unknown(const Message& message, Diagnostics& diagnostics) {
  Checker(message, {}, false, diagnostics).check();
}

}  // namespace sallyport::document
