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
  // No new exchanges; it ends when those under way have.
  void retire();

 private:
  friend class ClientExchange;
  void enter(Stream& stream) { streams_.push_back(&stream); }
  void leave(Stream& stream);

  Stream* on_new_stream(std::int32_t) override { return nullptr; }
  void on_complaint(std::int32_t, std::string_view) override {}
  void after_read() override {}
  void before_write() override {}
  net::Deadline look_again() override;
  void look() override;
  void lose_streams(const Error& error) override;

  net::Deadline ends_at_;     // its lifetime
  net::Deadline idle_since_;  // meaningful without exchanges
  std::vector<Stream*> streams_;
  bool retired_ = false;
  bool lost_ = false;
};

}  // namespace sallyport::http2
