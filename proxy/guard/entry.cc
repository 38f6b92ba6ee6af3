#include "proxy/guard/entry.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "base/random.h"
#include "policy-engine/document/diagnostics.h"
#include "proxy/guard/event.h"

namespace sallyport::guard {
namespace {

bool must_ask(const Terms& terms, const Message& message) {
  switch (terms.entry_check) {
    case EntryCheck::none:
      return false;
    case EntryCheck::untagged:
      return !message.tag;
    case EntryCheck::always:
      return true;
  }
  return true;
}

link_api::EntryAsk ask_of(const ExecutionId& execution, const Message& message) {
  link_api::EntryAsk ask;
  ask.set_execution(bytes_of(execution));
  *ask.mutable_time() = event_now().time();
  if (message.inbound) *ask.mutable_inbound() = *message.inbound;
  if (message.tag) *ask.mutable_sender() = sender_of(*message.tag);
  return ask;
}

Verdict refuse(document::Mode mode, Reason reason, std::string text) {
  return {mode == document::Mode::enforce ? Outcome::deny : Outcome::would_deny, reason, std::move(text)};
}

// The controller has not answered. Fails as the function's onControllerLoss says, which denies unless it says
// otherwise.
void take_silence(const Terms& terms, document::Mode mode, const std::string& why, Entry& entry) {
  if (terms.on_loss == OnControllerLoss::allow_and_record) {
    entry.note = "let through without the controller's word, as onControllerLoss says: " + why;
  } else {
    entry.refused = refuse(mode, Reason::controller_lost, "No execution may begin unasked, and " + why + ".");
  }
}

AskEnd end_of(const Entry& entry, bool answered) {
  if (answered) return entry.asked ? AskEnd::allowed : AskEnd::refused;
  const bool denied = entry.refused && entry.refused->outcome == Outcome::deny;
  return denied ? AskEnd::unanswered_denied : AskEnd::unanswered_allowed;
}

}  // namespace

net::Task<std::optional<Entry>> enter(net::Loop& loop, Membership& membership, std::shared_ptr<const Terms> terms,
                                      document::Mode mode, Message message) {
  Entry entry;
  if (!random_bytes(entry.execution)) co_return std::nullopt;
  entry.request = message.tag ? message.tag->request : entry.execution;
  if (!must_ask(*terms, message)) co_return entry;
  const net::Deadline began = net::Clock::now(), deadline = loop.in(limits::kEntryAskTimeout);
  const Result<link_api::EntryAnswer> answer =
      co_await membership.link().ask(loop, ask_of(entry.execution, message), deadline);
  bool answered = false;
  if (!answer) {
    take_silence(*terms, mode, answer.error().text, entry);
  } else if (!answer->allowed()) {
    answered = true;
    entry.refused =
        refuse(mode, Reason::entry_refused, "The controller refuses it: " + document::printable(answer->refusal()));
  } else if (answer->request_id().size() != entry.request.size()) {
    take_silence(*terms, mode, "the controller's answer names no request", entry);
  } else {
    std::copy_n(answer->request_id().begin(), entry.request.size(), entry.request.begin());
    answered = entry.asked = true;
  }
  entry.came_of_it = {end_of(entry, answered),
                      std::chrono::duration_cast<std::chrono::microseconds>(net::Clock::now() - began)};
  co_return entry;
}

}  // namespace sallyport::guard
