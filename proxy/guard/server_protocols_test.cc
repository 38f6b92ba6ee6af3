#include "proxy/guard/server_protocols.h"

#include <gtest/gtest.h>

#include "base/limits.h"

namespace sallyport::guard {
namespace {

using std::chrono::seconds;

const net::Deadline kStart{seconds(1'000'000)};
const std::string kServer = ServerProtocols::key("a.example", 443);

TEST(ServerProtocols, NothingIsKnownOfAStranger) {
  const ServerProtocols protocols;
  EXPECT_EQ(protocols.agreed_on(kServer, kStart), Spoken::unknown);
  EXPECT_FALSE(protocols.wants_http1(kServer, kStart));
  EXPECT_FALSE(protocols.refuses_websocket(kServer, kStart));
}

TEST(ServerProtocols, WhatIsLearnedHoldsForATimeAndForThatPortOnly) {
  ServerProtocols protocols;
  protocols.note_agreed(kServer, Spoken::http2, kStart);
  protocols.note_refuses_websocket(kServer, kStart);
  const net::Deadline last = kStart + limits::kServerProtocolTime - seconds(1);
  EXPECT_EQ(protocols.agreed_on(kServer, last), Spoken::http2);
  EXPECT_TRUE(protocols.refuses_websocket(kServer, last));
  EXPECT_EQ(protocols.agreed_on(ServerProtocols::key("a.example", 8443), last), Spoken::unknown);
  EXPECT_EQ(protocols.agreed_on(kServer, last + seconds(1)), Spoken::unknown);
  EXPECT_FALSE(protocols.refuses_websocket(kServer, last + seconds(1)));
}

TEST(ServerProtocols, AWishForHttp1EndsBeforeTheRest) {
  ServerProtocols protocols;
  protocols.note_agreed(kServer, Spoken::http2, kStart);
  protocols.note_wants_http1(kServer, seconds(60), kStart);
  EXPECT_TRUE(protocols.wants_http1(kServer, kStart + seconds(59)));
  EXPECT_FALSE(protocols.wants_http1(kServer, kStart + seconds(60)));
  EXPECT_EQ(protocols.agreed_on(kServer, kStart + seconds(60)), Spoken::http2);
}

TEST(ServerProtocols, WhatIsOutOfDateDoesNotComeBackWithSomethingNew) {
  ServerProtocols protocols;
  protocols.note_refuses_websocket(kServer, kStart);
  protocols.note_agreed(kServer, Spoken::http2, kStart + limits::kServerProtocolTime);
  EXPECT_FALSE(protocols.refuses_websocket(kServer, kStart + limits::kServerProtocolTime));
}

TEST(ServerProtocols, AnotherAgreementIsAnotherServer) {
  ServerProtocols protocols;
  protocols.note_agreed(kServer, Spoken::http2, kStart);
  protocols.note_refuses_websocket(kServer, kStart);
  protocols.note_agreed(kServer, Spoken::http1, kStart);
  protocols.note_agreed(kServer, Spoken::http2, kStart);
  EXPECT_FALSE(protocols.refuses_websocket(kServer, kStart));
}

TEST(ServerProtocols, TheOldestGoesWhereThereAreTooMany) {
  ServerProtocols protocols;
  for (std::size_t i = 0; i <= limits::kServerProtocolsMax; ++i) {
    protocols.note_agreed(std::to_string(i), Spoken::http1, kStart + std::chrono::milliseconds(i));
  }
  EXPECT_EQ(protocols.size(), limits::kServerProtocolsMax);
  const net::Deadline now = kStart + seconds(2);
  EXPECT_EQ(protocols.agreed_on("0", now), Spoken::unknown);
  EXPECT_EQ(protocols.agreed_on("1", now), Spoken::http1);
  EXPECT_EQ(protocols.agreed_on(std::to_string(limits::kServerProtocolsMax), now), Spoken::http1);
}

TEST(ServerProtocols, ForgettingIsComplete) {
  ServerProtocols protocols;
  protocols.note_wants_http1(kServer, seconds(60), kStart);
  protocols.forget(kServer);
  EXPECT_FALSE(protocols.wants_http1(kServer, kStart));
  EXPECT_EQ(protocols.size(), 0);
}

}  // namespace
}  // namespace sallyport::guard
