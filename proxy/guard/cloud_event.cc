#include "proxy/guard/cloud_event.h"

#include <utility>

#include "policy-engine/action/json_text.h"
#include "policy-engine/action/media_type.h"
#include "policy-engine/tag/tag.h"

namespace sallyport::guard {

namespace {

constexpr std::string_view kStructured = "application/cloudevents";

constexpr const char* kUnreadable =
    "the event is one of a batch, compressed, or in another format than JSON in UTF-8, and can bear no tag";

// Also where the rest is no media type, or has spaces in it: some server may take it for one.
bool is_cloud_event(std::string_view type) {
  std::string lower;
  for (const char c : type) {
    if (c != ' ' && c != '\t') lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  }
  return lower.contains(kStructured);
}

// Of bytes that mean something else in another charset nobody knows what they say.
bool is_utf8(const action::MediaType& type) {
  const std::string* const charset = type.parameter("charset");
  return charset == nullptr || request::name_equals(*charset, "utf-8");
}

// The tag in the JSON, and what is left without it.
TakenEvent read_structured(std::string_view body, std::string& tag) {
  const auto event = action::parse_json(body);
  if (!event) return {{}, event.error().text};
  const auto member = event->member(tag::kEventAttribute);
  if (member && !*member) return {};
  auto rest = action::with_member(body, tag::kEventAttribute, std::nullopt);
  if (!rest) return {{}, rest.error().text};
  TakenEvent taken{.body = std::move(*rest), .objection = {}};
  if (!member) {
    taken.objection = member.error().text;
  } else {
    tag = (*member)->text();
    if (tag.empty()) taken.objection = "the event's tag is no text";
  }
  return taken;
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
    const bool json = type && type->type == "application/cloudevents+json" && is_utf8(*type);
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
  return fail(ErrorSource::downstream, ErrorKind::malformed, kUnreadable);
}

TakenEvent take_from_event(request::HeaderList& headers, std::string_view body) {
  TakenEvent taken;
  std::string tag;
  switch (event_form(headers)) {
    case EventForm::none:
      return taken;
    case EventForm::binary:
      // Of the fields none gets to the function, as of all that are the guard's.
      if (headers.count(tag::kEventField) > 1) return {{}, "the event has more than one tag"};
      if (const request::Header* field = headers.find(tag::kEventField)) tag = field->value;
      break;
    case EventForm::structured:
      taken = read_structured(body, tag);
      break;
    case EventForm::unreadable:
      return {{}, kUnreadable};
  }
  if (taken.objection || tag.empty()) return taken;
  const request::Header* const field = headers.find(tag::kField);
  if (field == nullptr) {
    headers.add_owned(tag::kField, tag);
  } else if (field->value != tag) {
    taken.objection = "the event's tag is another than the message's";
  }
  return taken;
}

}  // namespace sallyport::guard
