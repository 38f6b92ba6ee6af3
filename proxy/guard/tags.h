#pragma once
// Tags between the guards of one application (policy-engine/tag): on requests to its other functions and their answers,
// and on messages from them and the answers to those.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "policy-engine/document/snapshot.h"
#include "policy-engine/request/head.h"
#include "policy-engine/tag/tag.h"
#include "proxy/guard/chain.h"

namespace sallyport::guard {

// Who this process is among the guards of the application, where no controller says it: drawn once, at its first use.
// Nothing when the machine has no randomness: then no tags are made.
std::optional<tag::GuardId> own_guard_id();

// What bears a tag: no tag of the one is good for the other.
enum class TagUse : std::uint8_t { request, answer };

// The text of a tag of the policy's own function, from `guard`. Nothing: none can be made, and what needs one is
// refused.
std::optional<std::string> make_tag(const document::Snapshot& policy, const std::optional<tag::GuardId>& guard,
                                    TagUse use, const tag::RequestId& request, std::chrono::sys_seconds now);

// Whether a message to the function may be handed to it, as far as its tag goes. With a verdict in `refused` it may
// not, which in learn and audit is a would_deny. `tag` is the message's, if it proves something and the message
// is not refused.
struct CallerDecision {
  std::optional<tag::Tag> tag;
  std::optional<Verdict> refused;
};
CallerDecision decide_caller(const document::Snapshot& policy, const request::HeaderList& headers,
                             std::chrono::sys_seconds now);

// Why the answer of `function` to a request that bore a tag with `request` is not to be believed; nothing: it is, or it
// has no tag, as that of any server in between.
std::optional<std::string> objection_to_answer(const document::Snapshot& policy, const request::HeaderList& headers,
                                               std::string_view function, const tag::RequestId& request,
                                               std::chrono::sys_seconds now);

}  // namespace sallyport::guard
