#pragma once
// HTTP/2 towards a server: requests of many exchanges on one connection.

#include <memory>
#include <vector>

#include "proxy/http2/client_exchange.h"
#include "proxy/http2/connection.h"

namespace sallyport::http2 {

class ClientConnection final : private Connection {
 public:
  // The transport has agreed on h2, and stays longer than this.
  explicit ClientConnection(net::Stream& transport);
  ~ClientConnection() override;

  // Once: until the connection has ended. Exchanges may outlive that; they have been told.
  net::Task<void> run();

  // Whether it takes one more exchange now.
  bool usable() const;

  // Whether the server is one to speak HTTP/2 with.
  enum class Fitness : std::uint8_t {
    good,
    http1_required,  // it has said so (RFC 9113 section 7)
    broken,          // it agreed on HTTP/2, but did not begin it, or broke its rules
  };
  Fitness fitness() const { return fitness_; }
  // Waits for the server's SETTINGS, or the connection's end.
  net::Event::Awaiter settled(net::Deadline deadline) { return settled_.wait(deadline); }
  // Extended CONNECT (RFC 8441): known when it has settled.
  bool takes_websocket() const;
  // No new exchanges; it ends when those under way have.
  void retire();

 private:
  friend class ClientExchange;
  void enter(Stream& stream) { streams_.push_back(&stream); }
  void leave(Stream& stream);

  Stream* on_new_stream(std::int32_t) override { return nullptr; }
  void on_complaint(std::int32_t, std::string_view) override {}
  void after_read() override;
  void on_settings() override;
  void on_http1_required() override;
  void before_write() override {}
  net::Deadline look_again() override;
  void look() override;
  void lose_streams(const Error& error) override;

  net::Deadline ends_at_;     // its lifetime
  net::Deadline idle_since_;  // meaningful without exchanges
  std::vector<Stream*> streams_;
  net::Deadline settings_until_;
  net::Event settled_;
  Fitness fitness_ = Fitness::good;
  bool settings_came_ = false;
  bool retired_ = false;
  bool lost_ = false;
};

}  // namespace sallyport::http2
