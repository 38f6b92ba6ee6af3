#include "proxy/guard/tags.h"

#include <algorithm>
#include <span>

#include "base/random.h"

namespace sallyport::guard {
namespace {

// Empty: none could be read, or the function is of no application.
std::span<const tag::Key> keys_for(const document::Snapshot& policy, TagUse use) {
  if (policy.tags() == nullptr) return {};
  return use == TagUse::request ? policy.tags()->requests : policy.tags()->answers;
}

// The field's value, if it is there exactly once.
Result<tag::Tag> read_tag(const document::Snapshot& policy, TagUse use, const request::HeaderList& headers,
                          std::chrono::sys_seconds now) {
  if (headers.count(tag::kField) != 1) {
    return fail(ErrorSource::downstream, ErrorKind::malformed, "the field Sallyport-Tag is there more than once");
  }
  const std::span<const tag::Key> keys = keys_for(policy, use);
  if (keys.empty()) {  // fails closed: nothing can be verified
    return fail(ErrorSource::downstream, ErrorKind::unverified, "the key of the application could not be read");
  }
  return tag::verify(headers.find(tag::kField)->value, keys, now);
}

Verdict refused(const document::Snapshot& policy, Reason reason, std::string text) {
  const bool enforce = policy.mode() == document::Mode::enforce;
  return {enforce ? Outcome::deny : Outcome::would_deny, reason, std::move(text)};
}

}  // namespace

std::optional<tag::GuardId> own_guard_id() {
  static const std::optional<tag::GuardId> kOwn = []() -> std::optional<tag::GuardId> {
    tag::GuardId id{};
    if (!random_bytes(id)) return std::nullopt;
    return id;
  }();
  return kOwn;
}

std::optional<std::string> make_tag(const document::Snapshot& policy, const std::optional<tag::GuardId>& guard,
                                    TagUse use, const tag::RequestId& request, std::chrono::sys_seconds now) {
  const std::span<const tag::Key> keys = keys_for(policy, use);
  if (keys.empty() || !guard) return std::nullopt;
  tag::Tag tag{policy.tags()->application, policy.function(), *guard, request, now};
  Result<std::string> text = tag::make(tag, keys.front());
  if (!text) return std::nullopt;
  return std::move(*text);
}

CallerDecision decide_caller(const document::Snapshot& policy, const request::HeaderList& headers,
                             std::chrono::sys_seconds now) {
  CallerDecision decision;
  if (policy.tags() == nullptr) return decision;  // of no application: a tag means nothing, and is taken out
  const document::Inbound& inbound = policy.inbound();
  if (headers.find(tag::kField) != nullptr) {
    Result<tag::Tag> tag = read_tag(policy, TagUse::request, headers, now);
    if (!tag) {
      decision.refused = refused(policy, Reason::tag_invalid, tag.error().text);
      return decision;
    }
    const bool named =
        inbound.callers.empty() || std::ranges::find(inbound.callers, tag->function) != inbound.callers.end();
    if (!named) {
      decision.refused = refused(policy, Reason::caller_not_allowed,
                                 "the function " + tag->function + " is none of the callers that 'inbound' names");
      return decision;
    }
    decision.tag = std::move(*tag);
  } else if (!inbound.callers.empty() && !inbound.external) {
    decision.refused = refused(policy, Reason::caller_not_allowed,
                               "the message bears no tag, and 'inbound' names the callers that may send messages");
  }
  return decision;
}

std::optional<std::string> objection_to_answer(const document::Snapshot& policy, const request::HeaderList& headers,
                                               std::string_view function, const tag::RequestId& request,
                                               std::chrono::sys_seconds now) {
  if (headers.find(tag::kField) == nullptr) return std::nullopt;
  Result<tag::Tag> tag = read_tag(policy, TagUse::answer, headers, now);
  if (!tag) return tag.error().text;
  if (tag->request != request) return "its tag is for another request to the application";
  if (tag->function != function) return "its tag is of the function " + tag->function;
  return std::nullopt;
}

}  // namespace sallyport::guard
