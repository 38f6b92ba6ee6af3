#include "proxy/guard/cloud_event.h"

#include <algorithm>
#include <utility>

#include "policy-engine/action/json_text.h"
#include "policy-engine/action/media_type.h"
#include "policy-engine/tag/tag.h"

namespace sallyport::guard {

namespace {

constexpr std::string_view kStructured = "application/cloudevents";

std::unexpected<Error> unreadable() {
  return fail(ErrorSource::downstream, ErrorKind::malformed,
              "the event is one of a batch, compressed, or in another format than JSON, and can bear no tag");
}

// Also where the rest is no media type: some server may take it for one.
bool is_cloud_event(std::string_view type) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
  return !std::ranges::search(type, kStructured, {}, lower).empty();
}

Result<std::string> tag_of(std::string_view body) {
  const auto event = action::parse_json(body);
  if (!event) return std::unexpected(event.error());
  const auto member = event->member(tag::kEventAttribute);
  if (!member) return std::unexpected(member.error());
  if (!*member) return std::string();
  const std::string text = (*member)->kind() == action::JsonValue::Kind::string ? (*member)->text() : "";
  if (!text.empty()) return text;
  return fail(ErrorSource::downstream, ErrorKind::malformed, "the event's tag is no text");
}

}  // namespace

EventForm event_form(const request::HeaderList& headers) {
  bool structured = false;
  for (const request::Header& field : headers) {
    structured = structured || (request::name_equals(field.name, "content-type") && is_cloud_event(field.value));
  }
  if (structured) {
    const bool plain = headers.count("content-type") == 1 && headers.find("content-encoding") == nullptr;
    const auto type = action::parse_media_type(headers.find("content-type")->value);
    const bool json = type && type->type == "application/cloudevents+json";
    return plain && json ? EventForm::structured : EventForm::unreadable;
  }
  const bool binary = headers.find("ce-specversion") != nullptr || headers.find(tag::kEventField) != nullptr;
  return binary ? EventForm::binary : EventForm::none;
}

bool tags_travel_in_events(const document::Snapshot& policy) {
  return policy.tags() != nullptr && policy.tags()->cloud_events;
}

Result<std::optional<std::string>> put_into_event(request::HeaderList& headers, std::string_view body,
                                                  const std::string& tag) {
  switch (event_form(headers)) {
    case EventForm::none:
      return std::nullopt;
    case EventForm::binary:
      headers.erase(tag::kEventField);
      headers.add_owned(tag::kEventField, tag);
      return std::nullopt;
    case EventForm::structured:
      return action::with_member(body, tag::kEventAttribute, tag);
    case EventForm::unreadable:
      break;
  }
  return unreadable();
}

Result<std::optional<std::string>> take_from_event(request::HeaderList& headers, std::string_view body) {
  std::string tag;
  std::optional<std::string> without;
  switch (event_form(headers)) {
    case EventForm::none:
      return std::nullopt;
    case EventForm::binary:
      if (headers.count(tag::kEventField) > 1) {
        return fail(ErrorSource::downstream, ErrorKind::malformed, "the event has more than one tag");
      }
      if (const request::Header* field = headers.find(tag::kEventField)) tag = field->value;
      break;
    case EventForm::structured: {
      auto found = tag_of(body);
      if (!found) return std::unexpected(found.error());
      tag = std::move(*found);
      if (tag.empty()) return std::nullopt;
      auto rest = action::with_member(body, tag::kEventAttribute, std::nullopt);
      if (!rest) return std::unexpected(rest.error());
      without = std::move(*rest);
      break;
    }
    case EventForm::unreadable:
      return unreadable();
  }
  if (tag.empty()) return std::nullopt;
  const request::Header* const field = headers.find(tag::kField);
  if (field != nullptr && field->value != tag) {
    return fail(ErrorSource::downstream, ErrorKind::malformed, "the event's tag is another than the message's");
  }
  if (field == nullptr) headers.add_owned(tag::kField, tag);
  return without;
}

}  // namespace sallyport::guard
