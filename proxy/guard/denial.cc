#include "proxy/guard/denial.h"

#include "proxy/guard/json.h"

namespace sallyport::guard {
namespace {

bool without_controller(Reason reason) { return reason == Reason::controller_lost || reason == Reason::policy_expired; }

// Of a message to the function.
std::string_view inbound_headline(Reason reason, Outcome outcome, int status) {
  if (without_controller(reason)) return "not served: the controller of this function's application can't be reached";
  if (outcome == Outcome::deny && status == 403) return "refused by the guard of this function";
  if (outcome == Outcome::deny) return "refused: not an acceptable request";
  return "the function could not be reached, or did not answer";
}

std::string_view headline(Reason reason, Outcome outcome, int status) {
  if (reason == Reason::overloaded) return "not served: the guard has no place for it now";
  if (without_controller(reason)) return "refused until the guard's controller can be reached again";
  if (outcome == Outcome::deny && status == 403) return "refused by the egress policy of this function";
  if (reason == Reason::rate_limited) {
    return "refused until Retry-After: a limit on how often this function may send it is used up";
  }
  if (outcome == Outcome::deny) return "refused: not an acceptable request";
  return "allowed, but it failed on the way";
}

// RFC 9110 section 15, for the statuses of http_status().
std::string_view phrase_of(int status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 403:
      return "Forbidden";
    case 408:
      return "Request Timeout";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "";
  }
}

}  // namespace

void make_denial(const Record& record, Denial& denial) {
  const int status = http_status(record.reason);
  std::string& body = denial.body;
  body = "{\"error\":";
  const bool inbound = record.kind == RecordKind::inbound;
  append_json_string(body, inbound && record.reason != Reason::overloaded
                               ? inbound_headline(record.reason, record.outcome, status)
                               : headline(record.reason, record.outcome, status));
  body += ",\"reason\":";
  append_json_string(body, to_string(record.reason));
  if (!record.endpoint.empty()) {
    body += ",\"endpoint\":";
    append_json_string(body, record.endpoint);
  }
  if (!record.text.empty() && !inbound) {  // how it is inside is nothing for those outside
    body += ",\"text\":";
    append_json_string(body, record.text);
  }
  body += ",\"id\":\"" + id_text(record.id) + "\"}\n";
  denial.head.status = status;
  denial.head.reason = phrase_of(status);
  denial.head.headers.clear();
  denial.head.headers.add("content-type", "application/json");
  denial.head.headers.add("cache-control", "no-store");
  denial.head.headers.add("sallyport-denied", to_string(record.reason));
  if (status == 503) denial.head.headers.add("retry-after", "1");
  if (record.retry_after.count() > 0) {
    // Whole seconds, and not too few of them (RFC 9110 section 10.2.3).
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(record.retry_after).count();
    denial.head.headers.add_owned("retry-after", std::to_string(seconds));
  }
}

}  // namespace sallyport::guard
