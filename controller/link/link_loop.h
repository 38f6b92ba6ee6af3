#pragma once
// One thread of the LinkServer: its connections, and what other threads want to be sent over them.

#include <list>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <unordered_map>

#include "controller/link/link_server.h"
#include "controller/link/server_identity.h"
#include "proxy/http1/websocket_endpoint.h"
#include "proxy/net/acceptor.h"
#include "proxy/net/concurrent.h"
#include "proxy/net/tls_context.h"

namespace sallyport::controller {

class LinkLoop {
 public:
  struct Parts {
    std::uint64_t index = 0;
    LinkHandler* handler = nullptr;
    Links* way = nullptr;
    LinkCounts* counts = nullptr;
    std::function<void(const std::string&)> on_trouble;
  };
  static Result<std::unique_ptr<LinkLoop>> create(Parts parts, const LinkServerOptions& options);
  ~LinkLoop();  // stop() has been called, or start() has not
  LinkLoop(const LinkLoop&) = delete;
  LinkLoop& operator=(const LinkLoop&) = delete;

  void start(UniqueFd listening);
  // Shown to who connects from now on. On the thread that created it.
  Result<void> show(const std::string& certificates_pem, const std::string& key_pem);
  // Two steps, so that several end at the same time.
  void ask_to_stop();
  void join();

  bool send(LinkId link, const v1alpha1::Envelope& envelope);
  void send(LinkId link, const SharedEnvelope& envelope);
  void close(LinkId link, const v1alpha1::Refused& refused);

  static std::uint64_t index_of(LinkId link) { return static_cast<std::uint64_t>(link) >> kSerialBits; }

 private:
  static constexpr int kSerialBits = 56;
  enum class Stage : std::uint8_t { opening, asked, registered, ending };
  class Connection;
  // From another thread.
  struct Handed {
    LinkId link{};
    std::string frame = {};                          // or
    std::shared_ptr<const std::string> shared = {};  // or
    std::optional<v1alpha1::Refused> refused = {};
    std::optional<std::uint32_t> registered_beat = {};  // the frame is a Registered
  };

  explicit LinkLoop(Parts parts) : parts_(std::move(parts)) {}
  bool here() const { return std::this_thread::get_id() == thread_id_; }
  void accept(UniqueFd fd, net::ConnectionSlot place);
  void make_room();
  static net::Task<void> serve(LinkLoop& self, UniqueFd fd, net::ConnectionSlot place);
  static net::Task<Result<void>> open(LinkLoop& self, Connection& connection, net::ReadBuffer& buffer);
  static net::Task<void> talk(LinkLoop& self, Connection& connection);
  static net::Task<void> write(LinkLoop& self, Connection& connection);
  static net::Task<void> drain(LinkLoop& self);
  void take(Connection& connection, std::string_view message);
  void take_register(Connection& connection, v1alpha1::Envelope& envelope);
  bool hold(Connection& connection);
  void registered(Connection& connection, std::uint32_t beat_ms);
  void refuse(Connection& connection, const v1alpha1::Refused& refused);
  void refuse(Connection& connection, v1alpha1::RefusedReason reason, std::string text);
  bool may_queue(Connection& connection, std::size_t bytes);
  void cut(Connection& connection);
  Connection* find(LinkId link);
  bool hand(Handed handed);
  void take_handed();
  void deliver(Connection& connection, Handed& handed);

  Parts parts_;
  ca::LibCtxPtr lib_;
  std::optional<ServerIdentity> identity_;
  std::unique_ptr<net::ServerTls> tls_;
  net::Loop loop_;
  std::optional<net::Acceptor> acceptor_;
  std::unordered_map<std::uint64_t, Connection*> connections_;
  std::list<Connection*> unregistered_;  // the oldest first
  std::size_t held_ = 0;                 // bytes of messages under way
  bool draining_ = false;

  std::mutex mutex_;
  std::vector<Handed> handed_;
  std::size_t handed_bytes_ = 0;
  std::set<LinkId> to_cut_;  // there was no room for what was to be said to them

  std::atomic<std::thread::id> thread_id_;  // set by the thread itself, which may be asked before `thread_` is there
  std::thread thread_;
};

}  // namespace sallyport::controller
