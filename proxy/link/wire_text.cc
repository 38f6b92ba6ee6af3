#include "proxy/link/wire_text.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/stubs/logging.h>

#include <mutex>
#include <string>
#include <vector>

#include "policy-engine/document/diagnostics.h"

namespace sallyport::link {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::vector<const FieldDescriptor*> fields_of(const Message& message) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  return fields;
}

int count_of(const Message& message, const FieldDescriptor& field) {
  return field.is_repeated() ? message.GetReflection()->FieldSize(message, &field) : 1;
}

const std::string& text_of(const Message& message, const FieldDescriptor& field, int index, std::string& scratch) {
  const Reflection& reflection = *message.GetReflection();
  return field.is_repeated() ? reflection.GetRepeatedStringReference(message, &field, index, &scratch)
                             : reflection.GetStringReference(message, &field, &scratch);
}

bool is_utf8(const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t next = document::utf8_next(text, at);
    if (next == at) return false;
    at = next;
  }
  return true;
}

std::string repaired(const std::string& text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t next = document::utf8_next(text, at);
    if (next == at) {
      out += '?';
      ++at;
    } else {
      out.append(text, at, next - at);
      at = next;
    }
  }
  return out;
}

void repair(Message& message, const FieldDescriptor& field, int index) {
  std::string scratch;
  const std::string& text = text_of(message, field, index, scratch);
  if (is_utf8(text)) return;
  std::string good = repaired(text);
  if (field.is_repeated()) {
    message.GetReflection()->SetRepeatedString(&message, &field, index, std::move(good));
  } else {
    message.GetReflection()->SetString(&message, &field, std::move(good));
  }
}

}  // namespace

bool all_utf8(const Message& message) {
  const Reflection& reflection = *message.GetReflection();
  std::string scratch;
  for (const FieldDescriptor* field : fields_of(message)) {
    const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (!is_message && field->type() != FieldDescriptor::TYPE_STRING) continue;
    for (int i = 0; i < count_of(message, *field); ++i) {
      const bool good = !is_message ? is_utf8(text_of(message, *field, i, scratch))
                                    : all_utf8(field->is_repeated() ? reflection.GetRepeatedMessage(message, field, i)
                                                                    : reflection.GetMessage(message, field));
      if (!good) return false;
    }
  }
  return true;
}

void make_utf8(Message& message) {
  const Reflection& reflection = *message.GetReflection();
  for (const FieldDescriptor* field : fields_of(message)) {
    const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (!is_message && field->type() != FieldDescriptor::TYPE_STRING) continue;
    for (int i = 0; i < count_of(message, *field); ++i) {
      if (!is_message) {
        repair(message, *field, i);
      } else {
        make_utf8(field->is_repeated() ? *reflection.MutableRepeatedMessage(&message, field, i)
                                       : *reflection.MutableMessage(&message, field));
      }
    }
  }
}

void keep_protobuf_quiet() {
  static std::once_flag once;
  std::call_once(once, [] { google::protobuf::SetLogHandler(nullptr); });
}

}  // namespace sallyport::link
