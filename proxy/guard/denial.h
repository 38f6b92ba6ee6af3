#pragma once
// The answer that the function gets instead of the upstream's: DESIGN section 8.

#include <string>

#include "policy-engine/request/head.h"
#include "proxy/guard/record.h"

namespace sallyport::guard {

// Status, headers and JSON body for a record that says no. The body names reason, endpoint and the record's id, never a
// secret. Who has sent the function a message is told the reason and the id.
struct Denial {
  request::ResponseHead head;
  std::string body;
};
void make_denial(const Record& record, Denial& denial);

}  // namespace sallyport::guard
