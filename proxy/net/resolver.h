#pragma once
// The guard's own resolver: the only way from a name to an address that is dialled. It asks the host's /etc/hosts and
// the servers of its resolv.conf for exactly the name given; search domains and aliases are never applied.

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "policy-engine/request/address.h"
#include "proxy/net/loop.h"

namespace sallyport::net {

struct ResolveFailure {
  bool timed_out = false;
  std::string text = {};  // for people: NXDOMAIN, no addresses, timeout or no servers, and which servers were asked
};

// Never empty, limits::kAddressesPerNameMax at most, IPv6 and IPv4 alternating and IPv6 first (RFC 8305 section 4),
// each once. Whether an address may be dialled is the caller's to decide: every address of the name is here, public or
// not.
using ResolveResult = std::expected<std::vector<request::IpAddress>, ResolveFailure>;

class Resolver {
 public:
  virtual ~Resolver() = default;

  // `host` is canonical (request::Host::name); an IP literal is answered with itself. Ends by the deadline, and after
  // limits::kResolveTimeout at the latest. Callers who ask for one name at one time share one lookup.
  virtual Task<ResolveResult> resolve(std::string host, Deadline deadline) = 0;
};

struct ResolverOptions {
  // "192.0.2.53", "192.0.2.53:5353,[2001:db8::53]:53": asked instead of the servers of resolv.conf. Empty: those.
  std::string servers = {};
  // Read again when it changes.
  std::string resolv_conf = "/etc/resolv.conf";
};

// A resolver over c-ares on this loop, for use on its thread. Must be destroyed before the loop; lookups that are still
// awaited then end as failures. Fails only if the options are wrong or the machine is out of memory: a machine without
// servers is reported by each lookup.
Result<std::unique_ptr<Resolver>> make_resolver(Loop& loop, ResolverOptions options);

}  // namespace sallyport::net
