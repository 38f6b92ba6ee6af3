#pragma once
// The API action of a request: the API's own name for what is asked, where method and URL do not tell. Everything here
// is the function's to choose, so what two servers could take for different actions is refused (ErrorKind::malformed,
// with what is wrong and what to send instead), never guessed at.
//
// Two kinds of API need nothing of this, as their operations are paths: gRPC ("/package.Service/Method") and Smithy's
// RPC v2 ("/service/Name/operation/Name").

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "policy-engine/request/head.h"

namespace sallyport::action {

enum class Protocol : std::uint8_t {
  none,       // method and path tell everything
  aws_json,   // AWS JSON 1.0 and 1.1: X-Amz-Target
  aws_query,  // AWS query: the field Action, in the query or in the form that is the body
  graphql,    // operationName, else the name of the only operation of the document, else "anonymous"
  json_rpc,   // method
  soap,       // 1.1: SOAPAction; 1.2: the parameter action of the Content-Type
  header,     // a header field of that name
  form,       // as aws_query, with a field of that name
  json,       // a string in the JSON body, at a pointer (RFC 6901)
};

// Where an endpoint's actions stand.
struct Source {
  Protocol protocol = Protocol::none;
  std::string name;                  // of header and form
  std::vector<std::string> pointer;  // of json: its tokens, unescaped

  bool operator==(const Source&) const = default;
  // Whether the action stands in the body, of a request that has one.
  bool in_body() const;
  // As the policy says it: "aws-json", "{header: X-Action}".
  std::string to_string() const;
};

// RFC 6901. ErrorKind::invalid: no pointer, or one to the whole document.
Result<std::vector<std::string>> parse_pointer(std::string_view text);

// What a policy can name and a request can have: up to limits::kActionBytesMax of printable ASCII without spaces,
// quotes, commas, semicolons and backslashes.
bool is_action(std::string_view text);

struct Request {
  const request::HeaderList& headers;
  std::string_view query;  // canonical, without "?"
  std::string_view body;   // all of it, where the source is in_body()
};

// The action of a request; empty where it has none, which no rule with `actions` allows.
Result<std::string> find_action(const Source& source, const Request& request);

}  // namespace sallyport::action
