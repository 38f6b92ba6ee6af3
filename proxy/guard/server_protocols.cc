#include "proxy/guard/server_protocols.h"

#include <algorithm>

namespace sallyport::guard {

const ServerProtocols::Known* ServerProtocols::find(const std::string& server, net::Deadline now) const {
  const auto found = known_.find(server);
  return found == known_.end() || found->second.until <= now ? nullptr : &found->second;
}

Spoken ServerProtocols::agreed_on(const std::string& server, net::Deadline now) const {
  const Known* known = find(server, now);
  return known == nullptr ? Spoken::unknown : known->agreed;
}

bool ServerProtocols::wants_http1(const std::string& server, net::Deadline now) const {
  const Known* known = find(server, now);
  return known != nullptr && now < known->http1_until;
}

bool ServerProtocols::refuses_websocket(const std::string& server, net::Deadline now) const {
  const Known* known = find(server, now);
  return known != nullptr && known->refuses_websocket;
}

ServerProtocols::Known& ServerProtocols::learn(const std::string& server, net::Deadline now) {
  auto found = known_.find(server);
  if (found == known_.end()) {
    if (known_.size() >= limits::kServerProtocolsMax) {
      known_.erase(std::ranges::min_element(known_, {}, [](const auto& entry) { return entry.second.until; }));
    }
    found = known_.emplace(server, Known()).first;
  } else if (found->second.until <= now) {
    found->second = Known();
  }
  found->second.until = now + limits::kServerProtocolTime;
  return found->second;
}

void ServerProtocols::note_agreed(const std::string& server, Spoken spoken, net::Deadline now) {
  Known& known = learn(server, now);
  if (known.agreed != spoken) known.refuses_websocket = false;  // another server, or a new version of it
  known.agreed = spoken;
}

void ServerProtocols::note_refuses_websocket(const std::string& server, net::Deadline now) {
  learn(server, now).refuses_websocket = true;
}

void ServerProtocols::note_wants_http1(const std::string& server, net::Clock::duration how_long, net::Deadline now) {
  learn(server, now).http1_until = now + how_long;
}

}  // namespace sallyport::guard
