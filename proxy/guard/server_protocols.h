#pragma once
// What the servers that a worker has met speak: how a connection to one of them is best begun. Nothing is decided by
// it, so that what is forgotten or out of date costs time and nothing else.

#include <cstdint>
#include <string>
#include <unordered_map>

#include "base/limits.h"
#include "proxy/net/waiter.h"

namespace sallyport::guard {

enum class Spoken : std::uint8_t { unknown, http1, http2 };

// Of one worker, on its thread. By host and port.
class ServerProtocols {
 public:
  static std::string key(const std::string& host, std::uint16_t port) { return host + ":" + std::to_string(port); }

  // What ALPN came to last.
  Spoken agreed_on(const std::string& server, net::Deadline now) const;
  // It agrees on HTTP/2, and then wants HTTP/1.
  bool wants_http1(const std::string& server, net::Deadline now) const;
  // Over HTTP/2 it takes no WebSocket (RFC 8441 section 3).
  bool refuses_websocket(const std::string& server, net::Deadline now) const;

  // All of them hold for limits::kServerProtocolTime. Past limits::kServerProtocolsMax the one that is oldest goes.
  void note_agreed(const std::string& server, Spoken spoken, net::Deadline now);
  void note_refuses_websocket(const std::string& server, net::Deadline now);
  // It has said so (HTTP_1_1_REQUIRED), or its HTTP/2 is none, which is believed for a shorter time.
  void note_wants_http1(const std::string& server, net::Clock::duration how_long, net::Deadline now);
  // HTTP/1 does not work either.
  void forget(const std::string& server) { known_.erase(server); }

  std::size_t size() const { return known_.size(); }

 private:
  struct Known {
    net::Deadline until;  // then it counts for nothing
    Spoken agreed = Spoken::unknown;
    bool refuses_websocket = false;
    net::Deadline http1_until = net::Deadline::min();
  };
  const Known* find(const std::string& server, net::Deadline now) const;
  Known& learn(const std::string& server, net::Deadline now);

  std::unordered_map<std::string, Known> known_;
};

}  // namespace sallyport::guard
