#pragma once
// The tag in a CloudEvent (CloudEvents 1.0.2, HTTP protocol binding 1.0.2), where the policy's `tags` say that it
// travels there, too: in binary mode the field ce-sallyporttag, in structured mode a member of the JSON.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "policy-engine/document/snapshot.h"
#include "policy-engine/request/head.h"

namespace sallyport::guard {

enum class EventForm : std::uint8_t {
  none,        // it is no event
  binary,      // its attributes are fields
  structured,  // they are members of the JSON in the body, which has to be held
  unreadable,  // a batch, another format than JSON or text than UTF-8, compressed, or two media types: no tag can be
               // put in, or taken out
};
EventForm event_form(const request::HeaderList& headers);

// Whether tags travel in the events that the function of this policy sends and gets.
bool tags_travel_in_events(const document::Snapshot& policy);

// Puts the tag into an event, in the place of one that the function has put there: in binary mode into `headers`, in
// structured mode the result is the new body. Nothing: the body stays. Fails closed, with what a person is told, for a
// form that cannot bear one, and for what is no JSON object.
Result<std::optional<std::string>> put_into_event(request::HeaderList& headers, std::string_view body,
                                                  const std::string& tag);

// The tag of one that came is put into `headers` as the field of tags, where a message without events has it.
struct TakenEvent {
  // Without the tag, which the function must not see, whatever it is worth: also where there is an objection. Nothing:
  // the body stays.
  std::optional<std::string> body;
  // Why it proves nothing: a form that cannot be read, a tag that is there twice or in another spelling, or is another
  // than that of the field.
  std::optional<std::string> objection;
};
TakenEvent take_from_event(request::HeaderList& headers, std::string_view body);

}  // namespace sallyport::guard
