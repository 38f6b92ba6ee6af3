#pragma once
// HTTP/2 towards the function: each stream is an exchange of its own, served beside the others.

#include <functional>
#include <memory>
#include <vector>

#include "proxy/http2/connection.h"
#include "proxy/http2/server_exchange.h"

namespace sallyport::http2 {

class ServerConnection final : private Connection {
 public:
  struct Handlers {
    // Serves one exchange, or answers its failure(). The exchange lives until the task has ended.
    std::function<net::Task<void>(ServerExchange&)> serve;
    // Whether there is room for one more exchange beside those that are under way. A stream without is refused in a way
    // that lets the client try again.
    std::function<bool()> admit;
    // The first exchange has come, or the last one has gone.
    std::function<void(bool busy)> on_busy;
  };
  ServerConnection(net::Stream& transport, request::Scheme scheme, Handlers handlers);
  ~ServerConnection() override;

  // Once. Until the connection and all of its exchanges have ended. `early` was read from the transport already.
  // Rethrows what an exchange has thrown.
  net::Task<void> run(std::string_view early);
  // No new exchanges: those under way end, and the connection with them.
  void drain() { wind_down(); }

  std::size_t exchanges() const { return served_.size(); }
  // Whether the client closed the connection before it had asked for anything.
  bool left_unasked() const { return peer_left() && !asked_; }
  // What the client did wrong as far as the connection goes; empty: nothing.
  const std::string& complaint() const { return Connection::complaint(); }

 private:
  friend class ServerExchange;
  struct Served;

  Stream* on_new_stream(std::int32_t id) override;
  void on_complaint(std::int32_t id, std::string_view why) override;
  void on_settings() override {}
  void on_http1_required() override {}  // of a client it means nothing
  void after_read() override;
  void before_write() override { reap(); }
  net::Deadline look_again() override;
  void look() override;
  void lose_streams(const Error& error) override;
  void begin(ServerExchange& exchange);
  net::Task<void> serve(Served& served);
  void reap();

  request::Scheme scheme_;
  Handlers handlers_;
  std::vector<Served*> beginning_;  // read, but not served yet
  bool busy_ = false;
  net::Deadline idle_since_;
  std::size_t finished_ = 0;
  bool asked_ = false;
  std::exception_ptr thrown_;
  std::vector<std::unique_ptr<Served>> served_;  // last: what it holds goes first
};

}  // namespace sallyport::http2
