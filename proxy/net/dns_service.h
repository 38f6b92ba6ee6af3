#pragma once
// DNS for the function over UDP and TCP (RFC 7766), on sockets that are given.

#include <memory>
#include <vector>

#include "base/unique_fd.h"
#include "proxy/net/dns_responder.h"
#include "proxy/net/loop.h"

namespace sallyport::net {

class DnsService {
 public:
  // `udp` are bound datagram sockets, `tcp` listening ones. Behind a redirect they are best bound to 127.0.0.1 and ::1;
  // on a wildcard address each answer leaves from the address that was asked. A flood of queries is handled in batches,
  // so that other sockets of the loop get their turn; what does not fit into the kernel's buffer meanwhile is lost, as
  // UDP allows. limits::kDnsTcpConnectionsMax connections at one time. The table must outlive the service, the service
  // not the loop.
  DnsService(Loop& loop, DnsTable& table, DnsPolicy policy, std::vector<UniqueFd> udp, std::vector<UniqueFd> tcp);
  DnsService(const DnsService&) = delete;
  DnsService& operator=(const DnsService&) = delete;
  ~DnsService();  // stops

  void stop();

 private:
  friend struct DnsServiceTasks;
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace sallyport::net
