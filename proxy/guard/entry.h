#pragma once
// m_in, where the function is of an application: whether an execution may begin with a message, and as part of which
// request to the application.

#include <optional>
#include <string>

#include "policy-engine/tag/tag.h"
#include "proxy/guard/chain.h"
#include "proxy/guard/execution_table.h"
#include "proxy/guard/membership.h"
#include "proxy/guard/record.h"

namespace sallyport::guard {

struct Message {
  std::optional<flow::v1alpha1::Operation> inbound;
  std::optional<tag::Tag> tag;  // that it bears, verified
};

struct Entry {
  ExecutionId execution{};               // that is to begin
  ExecutionId request{};                 // to the application
  bool asked = false;                    // the controller was, and has allowed it: it has counted it already
  std::optional<EntryAsked> came_of_it;  // nothing: the controller did not have to be asked
  std::string note;                      // it could not be asked, and the message is let through; else empty
  // The message may not begin an execution: with the outcome deny the function must not see it.
  std::optional<Verdict> refused;
};

// Waits for the controller for limits::kEntryAskTimeout at most, if it has to be asked. Nothing: the machine has no
// randomness, and no execution may begin.
net::Task<std::optional<Entry>> enter(net::Loop& loop, Membership& membership, std::shared_ptr<const Terms> terms,
                                      document::Mode mode, Message message);

}  // namespace sallyport::guard
