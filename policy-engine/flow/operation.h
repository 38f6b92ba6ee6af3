#pragma once
// The label of an exchange in a flow graph (SecLambda S37: ⟨URL, HTTP operation⟩, and the API's action beside it).

#include <string>
#include <string_view>

namespace sallyport::flow {

// Views of an exchange that is being decided. All of it is canonical, in the form of api/flow.proto's Operation.
struct Operation {
  std::string_view method;
  std::string_view host;   // "api.example.com", "api.example.com:8443", "http://api.example.com"
  std::string_view path;   // begins with "/"
  std::string_view query;  // without "?"; empty: none, or dropped by the endpoint's rule
  std::string_view action;
};

// "PUT s3.us-east-1.amazonaws.com/thumbnails/1", with "?query" and " (action)" where there are any.
std::string to_string(const Operation& operation);

}  // namespace sallyport::flow
