#pragma once
// Learns a policy: takes what a function did and writes a document that allows it, for a person to read and cut down.

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "policy-engine/document/address_set.h"
#include "policy-engine/document/path_tree.h"
#include "policy-engine/request/address.h"
#include "policy-engine/request/head.h"

namespace sallyport::document {

struct Observation {
  request::Scheme scheme = request::Scheme::https;
  std::string host;  // canonical
  std::uint16_t port = 0;
  std::string method;                          // of an inspected exchange
  std::string path;                            // canonical, without the query
  std::optional<request::IpAddress> upstream;  // that the guard connected to
  bool inspected = true;                       // false: bytes were passed through, and all but the host is unknown
  bool tcp = false;                            // not inspected, and neither TLS nor HTTP
  std::uint64_t count = 1;
};

// Memory is bounded by limits::kPolicyEndpointsMax and the limits::kDraft…Max: past them paths are generalised, and new
// hosts are left out and counted. One thread.
class Draft {
 public:
  // What no policy can say (a host that is not canonical, a path such as "*") is left out and counted. So is what is no
  // HTTP on the ports of HTTP: allowed unread it would open those ports for every request.
  void add(const Observation& observation);

  // A document that load_policy accepts without a diagnostic and that allows every observation that was not left out.
  // At most limits::kPolicyBytesMax: paths are generalised further to fit, then the least seen hosts are left out.
  // Comments say how often each was seen and what was generalised. `created` is a date for the comment at the top.
  std::string to_yaml(std::string_view function, std::string_view created) const;

 private:
  struct Spoken {  // with one scheme
    PathTree paths;
    std::uint64_t count = 0;
    bool encoded_slashes = false;
  };
  struct Place {                      // one host and port
    std::array<Spoken, 2> by_scheme;  // index: request::Scheme; a count of 0 for a scheme that was not seen
    std::uint64_t uninspected = 0;
    std::uint64_t tcp = 0;  // of those
    AddressSet addresses;
  };

  friend class DraftWriter;
  void add_request(Spoken& spoken, const Observation& observation);
  void bound_paths();

  std::map<std::pair<std::string, std::uint16_t>, Place> places_;
  std::size_t endpoints_ = 0;  // that the document would have at most
  std::size_t paths_ = 0;
  std::uint64_t left_out_ = 0;
};

}  // namespace sallyport::document
