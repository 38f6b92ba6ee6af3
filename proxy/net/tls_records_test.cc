#include "proxy/net/tls_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <functional>
#include <future>
#include <random>
#include <thread>

#include "proxy/net/stream.h"
#include "proxy/net/test_peer.h"

namespace sallyport::net {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using testing::Peer;

Deadline soon() { return Clock::now() + 20s; }

const testing::Identity& identity() {
  static const auto made = testing::make_identity({.common_name = "localhost", .alternative_names = "DNS:localhost"});
  return made;
}

// A connection whose records are ours already at our end; OpenSSL has the other one.
class TlsRecordsTest : public ::testing::Test {
 protected:
  void connect(bool we_serve, const std::function<void(SSL_CTX*)>& configure = nullptr) {
    server_ = testing::server_context(identity());
    client_ = testing::client_context(nullptr);
    ASSERT_TRUE(enable_own_records((we_serve ? server_ : client_).get(), nullptr));
    for (SSL_CTX* context : {server_.get(), client_.get()}) {
      if (configure) configure(context);
    }
    auto [ours, theirs] = testing::tcp_pair();
    stream_ = std::make_unique<Stream>(loop_, std::move(ours), ErrorSource::upstream);
    peer_ = std::make_unique<Peer>((we_serve ? client_ : server_).get(), std::move(theirs), !we_serve);
    auto shaken = std::async(std::launch::async, [this] { return peer_->handshake() && peer_->write("!"); });
    SslPtr ssl(SSL_new((we_serve ? server_ : client_).get()));
    we_serve ? SSL_set_accept_state(ssl.get()) : SSL_set_connect_state(ssl.get());
    const auto done = run(stream_->handshake(std::move(ssl), {}, soon()));
    ASSERT_TRUE(done) << done.error().text;
    ASSERT_TRUE(shaken.get());
    ASSERT_EQ(read(1).value_or("nothing"), "!");
    stream_->take_over();
  }
  template <class T>
  T run(Task<T> task) {
    return testing::run(loop_, std::move(task));
  }
  Result<std::string> read(std::size_t size = 1 << 16) {
    std::string buffer(size, '\0');
    const auto count = run(stream_->read_some(buffer, soon()));
    if (!count) return std::unexpected(count.error());
    buffer.resize(*count);
    return buffer;
  }
  std::string read_exactly(std::size_t size) {
    std::string all;
    while (all.size() < size) {
      const auto more = read(size - all.size());
      if (!more || more->empty()) break;
      all += *more;
    }
    return all;
  }
  // The records that the peer would send for this, instead of sending them.
  std::string sealed_by_peer(std::string_view text) {
    BIO* memory = BIO_new(BIO_s_mem());
    BIO* socket = SSL_get_wbio(peer_->ssl());
    BIO_up_ref(socket);
    SSL_set0_wbio(peer_->ssl(), memory);
    EXPECT_TRUE(peer_->write(text));
    char* bytes = nullptr;
    const auto size = static_cast<std::size_t>(BIO_get_mem_data(memory, &bytes));
    std::string records(bytes, size);
    SSL_set0_wbio(peer_->ssl(), socket);
    return records;
  }
  void send_raw(std::string_view bytes) const {
    ASSERT_EQ(::send(peer_->fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  // The alert that the peer gets.
  std::string alert() {
    char byte;
    ERR_clear_error();
    EXPECT_LE(SSL_read(peer_->ssl(), &byte, 1), 0);
    const char* reason = ERR_reason_error_string(ERR_peek_error());
    return reason == nullptr ? "none" : reason;
  }

  testing::ContextPtr server_, client_;
  Loop loop_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Peer> peer_;
};

TEST_F(TlsRecordsTest, EverySuiteIsTakenOverInBothRoles) {
  for (const char* suite : {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}) {
    for (const bool we_serve : {true, false}) {
      connect(we_serve, [&](SSL_CTX* context) { ASSERT_EQ(SSL_CTX_set_ciphersuites(context, suite), 1); });
      ASSERT_EQ(stream_->ssl(), nullptr) << suite;
      EXPECT_TRUE(stream_->tls());
      const std::string text(100'000, 'x');
      auto echo = std::async(std::launch::async, [&] { return peer_->write(peer_->read_exactly(text.size())); });
      ASSERT_TRUE(run(stream_->write_all("", text, soon())));
      EXPECT_EQ(read_exactly(text.size()), text) << suite;
      EXPECT_TRUE(echo.get());
      EXPECT_TRUE(stream_->reusable());
      peer_->close_notify();
      EXPECT_EQ(read().value_or("failed"), "");
      EXPECT_FALSE(stream_->reusable());
    }
  }
}

TEST_F(TlsRecordsTest, Tls12StaysWithOpenssl) {
  connect(true, [](SSL_CTX* context) { SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION); });
  EXPECT_NE(stream_->ssl(), nullptr);
  EXPECT_TRUE(stream_->tls());
}

TEST_F(TlsRecordsTest, AConnectionWithNewKeysStaysWithOpenssl) {
  server_ = testing::server_context(identity());
  client_ = testing::client_context(nullptr);
  ASSERT_TRUE(enable_own_records(server_.get(), nullptr));
  auto [ours, theirs] = testing::tcp_pair();
  Stream stream(loop_, std::move(ours), ErrorSource::downstream);
  auto talk = std::async(std::launch::async, [&, fd = std::move(theirs)]() mutable {
    Peer peer(client_.get(), std::move(fd), false);
    if (!peer.handshake()) return std::string("failed");
    SSL_key_update(peer.ssl(), SSL_KEY_UPDATE_REQUESTED);
    peer.write("renewed");
    return peer.read_exactly(5);
  });
  SslPtr ssl(SSL_new(server_.get()));
  SSL_set_accept_state(ssl.get());
  ASSERT_TRUE(run(stream.handshake(std::move(ssl), {}, soon())));
  std::array<char, 16> buffer;
  const auto count = run(stream.read_some(buffer, soon()));
  ASSERT_EQ(count.value_or(0), 7U);
  stream.take_over();
  EXPECT_NE(stream.ssl(), nullptr);
  ASSERT_TRUE(run(stream.write_all("right", soon())));
  EXPECT_EQ(talk.get(), "right");
}

TEST_F(TlsRecordsTest, AConnectionIsTakenOverOnceItIsSilentOrUsedAgain) {
  server_ = testing::server_context(identity());
  client_ = testing::client_context(nullptr);
  ASSERT_TRUE(enable_own_records(server_.get(), nullptr));
  for (const bool silent : {true, false}) {
    auto [ours, theirs] = testing::tcp_pair();
    Stream stream(loop_, std::move(ours), ErrorSource::downstream);
    std::promise<void> again;
    auto talk = std::async(std::launch::async, [&, fd = std::move(theirs)]() mutable {
      Peer peer(client_.get(), std::move(fd), false);
      const bool first = peer.handshake() && peer.write("first");
      again.get_future().wait();
      return first && peer.write("second") && peer.write("third") && peer.read_exactly(4) == "done";
    });
    SslPtr ssl(SSL_new(server_.get()));
    SSL_set_accept_state(ssl.get());
    ASSERT_TRUE(run(stream.handshake(std::move(ssl), {}, soon())));
    std::string buffer(5, '\0');
    ASSERT_EQ(run(stream.read_some(buffer, soon())).value_or(0), 5U);
    if (silent) {
      EXPECT_EQ(run(stream.wait_readable(loop_.in(2 * limits::kTlsTakeOverAfter))), Wait::timeout);
      EXPECT_EQ(stream.ssl(), nullptr);
    }
    again.set_value();
    std::string rest;
    while (rest.size() < 11) {
      EXPECT_EQ(run(stream.wait_readable(soon())), Wait::ready);
      const auto count = run(stream.read_some(buffer, soon()));
      ASSERT_TRUE(count) << count.error().text;
      rest.append(buffer, 0, *count);
    }
    EXPECT_EQ(rest, "secondthird");
    EXPECT_EQ(run(stream.wait_readable(Clock::now())), Wait::timeout);
    EXPECT_EQ(stream.ssl(), nullptr);
    ASSERT_TRUE(run(stream.write_all("done", soon())));
    EXPECT_TRUE(talk.get());
  }
}

TEST_F(TlsRecordsTest, WhereConnectionsEndAfterOneExchangeFewAreWatched) {
  server_ = testing::server_context(identity());
  ASSERT_TRUE(enable_own_records(server_.get(), nullptr));
  const auto watched = [&] {
    const SslPtr ssl(SSL_new(server_.get()));
    return HandshakeWatch::over(ssl.get()) != nullptr;
  };
  int count = 0;
  for (int i = 0; i < 16 + 320; ++i) count += watched() ? 1 : 0;
  EXPECT_GE(count, 16 + 15);
  EXPECT_LE(count, 16 + 25);
}

TEST_F(TlsRecordsTest, ReadsOfAnySizeGiveTheSameBytes) {
  connect(true);
  ASSERT_EQ(stream_->ssl(), nullptr);
  std::mt19937 random(20261122);
  std::string sent;
  auto talk = std::async(std::launch::async, [&] {
    std::mt19937 sizes(1);
    for (int i = 0; i < 300; ++i) {
      std::string piece(1 + sizes() % (i % 3 == 0 ? 40'000U : 300U), '\0');
      for (char& c : piece) c = static_cast<char>(sizes());
      sent += piece;
      if (!peer_->write(piece)) return false;
    }
    peer_->close_notify();
    return true;
  });
  std::string got;
  while (true) {
    const auto piece = read(1 + random() % (random() % 2 == 0 ? 64U : 70'000U));
    ASSERT_TRUE(piece) << piece.error().text;
    if (piece->empty()) break;
    got += *piece;
  }
  EXPECT_TRUE(talk.get());
  EXPECT_EQ(got, sent);
}

TEST_F(TlsRecordsTest, RecordsMayComeByteByByte) {
  connect(true);
  const std::string records = sealed_by_peer("first") + sealed_by_peer(std::string(20'000, 'y'));
  auto talk = std::async(std::launch::async, [&] {
    for (std::size_t i = 0; i < records.size(); ++i) {
      send_raw(records.substr(i, 1));
      if (i % 97 == 0) std::this_thread::sleep_for(50us);
    }
  });
  EXPECT_EQ(read_exactly(5), "first");
  EXPECT_EQ(read_exactly(20'000), std::string(20'000, 'y'));
  talk.get();
}

TEST_F(TlsRecordsTest, WhatIsForgedEndsTheConnectionWithAnAlert) {
  struct Case {
    const char* what;
    std::function<std::string()> bytes;
    const char* alert;
  };
  const std::string junk(64, 'j');
  const std::vector<Case> cases = {
      {"a flipped bit of the content",
       [&] {
         auto r = sealed_by_peer("x");
         r[6] ^= 1;
         return r;
       },
       "bad record mac"},
      {"a flipped bit of the tag",
       [&] {
         auto r = sealed_by_peer("x");
         r.back() ^= 1;
         return r;
       },
       "bad record mac"},
      {"random bytes", [&] { return "\x17\x03\x03" + std::string("\0\x40", 2) + junk; }, "bad record mac"},
      {"a record left out",
       [&] {
         (void)sealed_by_peer("lost");
         return sealed_by_peer("next");
       },
       "bad record mac"},
      {"HTTP", [] { return std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); }, "unexpected message"},
      {"a handshake message in the clear", [&] { return "\x16\x03\x03" + std::string("\0\x40", 2) + junk; },
       "unexpected message"},
      {"an alert in the clear", [] { return std::string("\x15\x03\x03\0\x02\1\0", 7); }, "unexpected message"},
      {"change_cipher_spec", [] { return std::string("\x14\x03\x03\0\x01\1", 6); }, "unexpected message"},
      {"another version",
       [&] {
         auto r = sealed_by_peer("x");
         r[2] = 1;
         return r;
       },
       "unexpected message"},
      {"a record that is too long", [&] { return std::string("\x17\x03\x03\x41\x01", 5) + std::string(16'641, 'j'); },
       "record overflow"},
      {"a record without room for a tag", [&] { return std::string("\x17\x03\x03\0\x10", 5) + junk.substr(0, 16); },
       "decode error"},
  };
  for (const Case& one : cases) {
    for (const std::size_t size : {1U, 65'536U}) {
      connect(true);
      ASSERT_EQ(stream_->ssl(), nullptr);
      send_raw(one.bytes());
      const auto got = read(size);
      ASSERT_FALSE(got) << one.what;
      EXPECT_EQ(got.error().kind, ErrorKind::malformed) << one.what;
      EXPECT_FALSE(read(size)) << one.what;
      EXPECT_FALSE(run(stream_->write_all("more", soon()))) << one.what;
      EXPECT_FALSE(stream_->reusable()) << one.what;
      EXPECT_THAT(alert(), HasSubstr(one.alert)) << one.what;
    }
  }
}

TEST_F(TlsRecordsTest, AReplayedOrReorderedRecordIsForged) {
  for (const bool replay : {true, false}) {
    connect(true);
    const std::string first = sealed_by_peer("first"), second = sealed_by_peer("second");
    send_raw(replay ? first + first : second + first);
    if (replay) {
      EXPECT_EQ(read_exactly(5), "first");
    }
    EXPECT_FALSE(read());
    EXPECT_THAT(alert(), HasSubstr("bad record mac"));
  }
}

TEST_F(TlsRecordsTest, AnEndInsideOfARecordIsTruncation) {
  connect(true);
  const std::string record = sealed_by_peer("cut");
  send_raw(record.substr(0, record.size() - 1));
  ::shutdown(peer_->fd(), SHUT_WR);
  const auto got = read();
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, ErrorKind::closed);
}

TEST_F(TlsRecordsTest, DataIsReadBeforeWhatFollowsItFails) {
  connect(true);
  send_raw(sealed_by_peer("good") + "not a record at all, but long enough to be one");
  EXPECT_EQ(read().value_or("failed"), "good");
  EXPECT_TRUE(stream_->has_pending());
  EXPECT_FALSE(read());
}

TEST_F(TlsRecordsTest, NewKeysOfThePeerAreFollowedAndAnswered) {
  connect(true);
  for (const int kind : {SSL_KEY_UPDATE_REQUESTED, SSL_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_REQUESTED}) {
    auto talk = std::async(std::launch::async, [&] {
      return SSL_key_update(peer_->ssl(), kind) == 1 && peer_->write("question") && peer_->read_exactly(6) == "answer";
    });
    EXPECT_EQ(read_exactly(8), "question");
    ASSERT_TRUE(run(stream_->write_all("answer", soon())));
    EXPECT_TRUE(talk.get());
  }
}

TEST_F(TlsRecordsTest, KeysWithoutEndAreRefused) {
  connect(true);
  auto talk = std::async(std::launch::async, [&] {
    for (int i = 0; i < 100; ++i) {
      SSL_key_update(peer_->ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
      if (SSL_do_handshake(peer_->ssl()) != 1) return;
    }
  });
  const auto got = read();
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().text, HasSubstr("too many records without data"));
  talk.get();
}

TEST_F(TlsRecordsTest, TicketsThatComeLateAreLeftOut) {
  connect(false);
  ASSERT_EQ(stream_->ssl(), nullptr);
  auto talk = std::async(std::launch::async, [&] {
    for (int i = 0; i < 3; ++i) {
      if (SSL_new_session_ticket(peer_->ssl()) != 1 || !peer_->write("data")) return false;
    }
    return true;
  });
  EXPECT_EQ(read_exactly(12), "datadatadata");
  EXPECT_TRUE(talk.get());
  EXPECT_TRUE(stream_->still_idle(true));
}

TEST_F(TlsRecordsTest, OurEndIsCloseNotify) {
  connect(true);
  stream_->shutdown_write();
  char byte;
  EXPECT_EQ(SSL_read(peer_->ssl(), &byte, 1), 0);
  EXPECT_EQ(SSL_get_error(peer_->ssl(), 0), SSL_ERROR_ZERO_RETURN);
}

TEST_F(TlsRecordsTest, AnAlertOfThePeerIsNamed) {
  connect(true);
  (void)::send(stream_->socket().fd(), "junk that the peer takes for a record", 37, MSG_NOSIGNAL);
  char byte;
  EXPECT_LE(SSL_read(peer_->ssl(), &byte, 1), 0);  // and sends an alert
  const auto got = read();
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, ErrorKind::refused);
  EXPECT_THAT(got.error().text, HasSubstr("the peer sent the TLS alert"));
}

}  // namespace
}  // namespace sallyport::net
