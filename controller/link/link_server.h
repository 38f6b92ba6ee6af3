#pragma once
// Where guards connect to: TLS with the server's certificate alone, a WebSocket at /v1/link, an Envelope in each of its
// messages. Who a guard is, its Register says; whether that is so, the handler decides.
//
// Each listening socket has a thread. Several on one port (SO_REUSEPORT) have connections spread over them by the
// kernel.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "controller/link/links.h"

namespace sallyport::controller {

struct LinkServerOptions {
  std::string certificates_pem;  // the server's, then what leads to its root
  std::string key_pem;
  // What keeps new connections waiting, in words; once a second at most. May be empty.
  std::function<void(const std::string&)> on_trouble = {};
};

// Since the start, but for those that are open.
struct LinkCounts {
  std::atomic<std::uint64_t> open = 0;        // connections, whatever has become of them so far
  std::atomic<std::uint64_t> guards = 0;      // of them, registered
  std::atomic<std::uint64_t> opened = 0;      // connections
  std::atomic<std::uint64_t> registered = 0;  // of them
  std::atomic<std::uint64_t> refused = 0;     // of them, with words or before words were possible
  std::atomic<std::uint64_t> evicted = 0;     // of them, not registered when others came
  std::atomic<std::uint64_t> cut = 0;         // of them, as they took nothing of what was sent
  std::atomic<std::uint64_t> unknown = 0;     // Envelopes that this version does not know
};

class LinkLoop;

class LinkServer final : public Links {
 public:
  // `listening`: 1 to limits::kLinkLoopsMax sockets (net::listen_on). Neither the handler nor anything that it refers
  // to may go before the server.
  static Result<std::unique_ptr<LinkServer>> start(const LinkServerOptions& options, std::vector<UniqueFd> listening,
                                                   LinkHandler& handler);
  // Closes every link (close code 1001), tells the handler of each, and ends the threads; takes 2 s at most. On
  // the thread that started it, as OpenSSL keeps for each thread what it needs of a context.
  ~LinkServer() override;

  // Another certificate, for connections from now on. Fails, and leaves the one before, as start() does. On the thread
  // that started it.
  Result<void> show(const std::string& certificates_pem, const std::string& key_pem);

  const LinkCounts& counts() const { return *counts_; }

  bool send(LinkId link, const v1alpha1::Envelope& envelope) override;
  void send_all(std::span<const LinkId> links, const SharedEnvelope& envelope) override;
  void close(LinkId link, const v1alpha1::Refused& refused) override;

 private:
  LinkServer();
  LinkLoop* loop_of(LinkId link);

  std::unique_ptr<LinkCounts> counts_;
  std::vector<std::unique_ptr<LinkLoop>> loops_;
};

}  // namespace sallyport::controller
