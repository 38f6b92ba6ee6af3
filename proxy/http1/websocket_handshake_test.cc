#include "proxy/http1/websocket_handshake.h"

#include <gtest/gtest.h>

#include <set>

namespace sallyport::http1 {
namespace {

TEST(WebSocketHandshake, AnswersTheKeyOfTheStandard) {  // RFC 6455 section 1.3
  EXPECT_EQ(websocket_accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST(WebSocketHandshake, AKeyIsSixteenBytesInBase64) {
  EXPECT_TRUE(is_websocket_key("dGhlIHNhbXBsZSBub25jZQ=="));
  EXPECT_TRUE(is_websocket_key("++//AAAAzz0099++aAzZ0w=="));
  for (const char* bad : {"", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===",
                          "dGhlIHNhbXBsZSBub25jZQA=", "dGhlIHNhbXBsZSBub25j_Q==", "dGhlIHNhbXBsZSBub25j Q==",
                          "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="}) {
    EXPECT_FALSE(is_websocket_key(bad)) << bad;
  }
}

TEST(WebSocketHandshake, KeysOfTheGuardsOwnAreKeysAndDiffer) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const std::string key = new_websocket_key();
    EXPECT_TRUE(is_websocket_key(key)) << key;
    EXPECT_TRUE(seen.insert(key).second) << key;
  }
}

}  // namespace
}  // namespace sallyport::http1
