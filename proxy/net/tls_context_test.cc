#include "proxy/net/tls_context.h"

#include <gtest/gtest.h>

#include <future>

#include "base/limits.h"
#include "ca/leaf_cache.h"
#include "proxy/net/test_peer.h"

namespace sallyport::net {
namespace {

using namespace std::chrono_literals;
using testing::Peer;

// What the client saw.
struct Seen {
  bool shaken = false;
  bool resumed = false;
  std::string cipher, protocol, alpn, names_host;
  int tickets = 0;
  ca::SslSessionPtr session;
};

class ServerTlsTest : public ::testing::Test {
 protected:
  ServerTlsTest() : lib_(OSSL_LIB_CTX_new()) {
    auto authority = ca::Authority::create_root(
        lib_.get(), {}, std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
    EXPECT_TRUE(authority);
    const std::string root_pem = authority->trust_pem();
    leaves_ = std::make_unique<ca::LeafCache>(*ca::LeafCache::create(std::move(*authority)));
    tls_ = *ServerTls::create(lib_.get(), {"http/1.1"});
    client_ = testing::client_context(nullptr);
    const ca::BioPtr bio(BIO_new_mem_buf(root_pem.data(), static_cast<int>(root_pem.size())));
    const ca::X509Ptr root(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    X509_STORE_add_cert(SSL_CTX_get_cert_store(client_.get()), root.get());
    SSL_CTX_set_verify(client_.get(), SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_session_cache_mode(client_.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client_.get(), [](SSL* ssl, SSL_SESSION* session) {
      auto& seen = *static_cast<Seen*>(SSL_get_app_data(ssl));
      ++seen.tickets;
      seen.session.reset(session);
      return 1;
    });
  }

  // One connection under `host`: a handshake, one byte each way, and close_notify.
  Seen connect(const std::string& host, SSL_SESSION* session = nullptr, const std::string& alpn = {}) {
    auto [ours, theirs] = testing::tcp_pair();
    auto talk = std::async(std::launch::async, [&, fd = std::move(theirs)]() mutable {
      Seen seen;
      Peer peer(client_.get(), std::move(fd), false, host);
      SSL_set_app_data(peer.ssl(), &seen);
      SSL_set1_host(peer.ssl(), host.c_str());
      if (session != nullptr) SSL_set_session(peer.ssl(), session);
      SSL_set_alpn_protos(peer.ssl(), reinterpret_cast<const unsigned char*>(alpn.data()),
                          static_cast<unsigned>(alpn.size()));
      seen.shaken = peer.handshake() && peer.write("?") && peer.read_some() == "!";
      if (!seen.shaken) return seen;
      if (renegotiate_) seen.shaken = SSL_renegotiate(peer.ssl()) == 1 && SSL_do_handshake(peer.ssl()) == 1;
      seen.resumed = SSL_session_reused(peer.ssl()) == 1;
      seen.cipher = SSL_get_cipher(peer.ssl());
      seen.protocol = SSL_get_version(peer.ssl());
      const unsigned char* name = nullptr;
      unsigned size = 0;
      SSL_get0_alpn_selected(peer.ssl(), &name, &size);
      seen.alpn.assign(reinterpret_cast<const char*>(name), size);
      peer.close_notify();
      return seen;
    });
    testing::run(loop_, serve(host, std::move(ours)));
    return talk.get();
  }

  Task<> serve(std::string host, UniqueFd fd) {
    Stream stream(loop_, std::move(fd), ErrorSource::downstream);
    const auto leaf = leaves_->get(host, std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
    EXPECT_TRUE(leaf);
    auto ssl = tls_->accept_for(**leaf, host);
    EXPECT_TRUE(ssl);
    const Deadline deadline = Clock::now() + 20s;
    error_ = co_await stream.handshake(std::move(*ssl), {}, deadline);
    if (!error_) co_return;
    tls_->completed(stream.ssl());
    alpn_ = stream.alpn();
    char byte;
    const auto asked = co_await stream.read_some({&byte, 1}, deadline);
    if (!asked) co_return;
    co_await stream.write_all("!", deadline);
    co_await stream.read_some({&byte, 1}, deadline);
  }

  ca::LibCtxPtr lib_;
  std::unique_ptr<ca::LeafCache> leaves_;
  std::unique_ptr<ServerTls> tls_;
  testing::ContextPtr client_;
  Loop loop_;
  Result<void> error_;
  std::string alpn_;
  bool renegotiate_ = false;
};

TEST_F(ServerTlsTest, ShowsALeafThatVerifiesAndPrefersAes128) {
  const Seen seen = connect("api.example.com");
  EXPECT_TRUE(seen.shaken) << error_.error().text;
  EXPECT_EQ(seen.protocol, "TLSv1.3");
  EXPECT_EQ(seen.cipher, "TLS_AES_128_GCM_SHA256");
}

TEST_F(ServerTlsTest, SpeaksTls12AndNothingOlder) {
  SSL_CTX_set_max_proto_version(client_.get(), TLS1_2_VERSION);
  const Seen seen = connect("api.example.com");
  EXPECT_TRUE(seen.shaken);
  EXPECT_EQ(seen.cipher, "ECDHE-ECDSA-AES128-GCM-SHA256");
  SSL_CTX_set_security_level(client_.get(), 0);
  SSL_CTX_set_min_proto_version(client_.get(), TLS1_VERSION);
  SSL_CTX_set_max_proto_version(client_.get(), TLS1_1_VERSION);
  EXPECT_FALSE(connect("api.example.com").shaken);
}

TEST_F(ServerTlsTest, GivesOneTicketAndResumesUnderTheSameName) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    SSL_CTX_set_max_proto_version(client_.get(), version);
    const Seen first = connect("api.example.com");
    EXPECT_EQ(first.tickets, 1);
    EXPECT_FALSE(first.resumed);
    const Seen second = connect("api.example.com", first.session.get());
    EXPECT_TRUE(second.shaken);
    EXPECT_TRUE(second.resumed);
  }
}

TEST_F(ServerTlsTest, GivesFewTicketsWhileNobodyTakesThemUp) {
  Seen last;
  const auto given = [&](unsigned connections) {
    int tickets = 0;
    for (unsigned i = 0; i < connections; ++i) {
      Seen seen = connect("api.example.com");
      EXPECT_TRUE(seen.shaken);
      tickets += seen.tickets;
      if (seen.session) last = std::move(seen);
    }
    return tickets;
  };
  EXPECT_EQ(given(limits::kTicketsUntakenMax), static_cast<int>(limits::kTicketsUntakenMax));
  EXPECT_EQ(given(3 * limits::kTicketsUntakenEvery), 3);
  const Seen resumed = connect("api.example.com", last.session.get());
  EXPECT_TRUE(resumed.resumed);
  EXPECT_EQ(given(5), 5) << "somebody comes back: everybody gets one again";
}

TEST_F(ServerTlsTest, ATicketForOneNameIsWorthNothingUnderAnother) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    SSL_CTX_set_max_proto_version(client_.get(), version);
    const Seen first = connect("allowed.example.com");
    SSL_SESSION_set1_hostname(first.session.get(), "other.example.com");  // a client that cheats
    const Seen second = connect("other.example.com", first.session.get());
    EXPECT_TRUE(second.shaken) << error_.error().text;
    EXPECT_FALSE(second.resumed);
  }
}

TEST_F(ServerTlsTest, ATicketIsGoodAtEveryWorkerOfTheProcess) {
  const Seen first = connect("api.example.com");
  tls_ = *ServerTls::create(lib_.get(), {"http/1.1"});
  EXPECT_TRUE(connect("api.example.com", first.session.get()).resumed);
}

TEST_F(ServerTlsTest, ChoosesAProtocolItSpeaksOrRefuses) {
  EXPECT_EQ(connect("a.example", nullptr, "\x08http/1.1").alpn, "http/1.1");
  EXPECT_EQ(connect("a.example", nullptr, std::string("\x02h2\x08http/1.1")).alpn, "http/1.1");
  EXPECT_EQ(alpn_, "http/1.1");
  const Seen none = connect("a.example");
  EXPECT_TRUE(none.shaken);
  EXPECT_EQ(none.alpn, "");
  EXPECT_FALSE(connect("a.example", nullptr, "\x02h2").shaken);
  EXPECT_FALSE(error_);
}

TEST_F(ServerTlsTest, PrefersItsOwnOrderOfProtocols) {
  tls_ = *ServerTls::create(lib_.get(), {"h2", "http/1.1"});
  EXPECT_EQ(connect("a.example", nullptr, std::string("\x08http/1.1\x02h2")).alpn, "h2");
}

TEST_F(ServerTlsTest, RefusesToRenegotiate) {
  SSL_CTX_set_max_proto_version(client_.get(), TLS1_2_VERSION);
  renegotiate_ = true;
  EXPECT_FALSE(connect("api.example.com").shaken);
}

TEST_F(ServerTlsTest, RefusesAProtocolNameThatAlpnCantCarry) {
  EXPECT_FALSE(ServerTls::create(lib_.get(), {std::string(256, 'x')}));
  EXPECT_FALSE(ServerTls::create(lib_.get(), {""}));
}

}  // namespace
}  // namespace sallyport::net
