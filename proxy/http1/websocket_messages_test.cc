#include "proxy/http1/websocket_messages.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace sallyport::http1 {
namespace {

constexpr FrameMask kMask = {0x12, 0x34, 0xA6, 0xFF};
constexpr std::size_t kMax = 1 << 20;

std::string frame(Opcode opcode, std::string payload, bool final = true, const FrameMask* mask = &kMask) {
  std::string out;
  append_frame_header(out, opcode, payload.size(), mask);
  if (!final) out[0] = static_cast<char>(out[0] & 0x7F);
  if (mask != nullptr) apply_mask(payload, *mask);
  return out + payload;
}

struct Told {
  std::vector<std::string> messages, pings;
  std::optional<std::uint16_t> closed, broken;
  std::string text;
};

// Feeds the input in pieces of these sizes, as a connection would: what is not consumed comes again with more.
Told read(const std::string& input, const std::vector<std::size_t>& cuts, std::size_t max = kMax,
          FrameSender sender = FrameSender::client) {
  MessageReader reader(sender, max);
  Told told;
  std::string held;
  std::size_t at = 0, piece = 0;
  for (;;) {
    const MessageReader::Next next = reader.next(held);
    switch (next.what) {
      case MessageReader::What::message:
        told.messages.emplace_back(next.payload);
        break;
      case MessageReader::What::ping:
        told.pings.emplace_back(next.payload);
        break;
      case MessageReader::What::pong:
        break;
      case MessageReader::What::closed:
        told.closed = next.close_code;
        told.text = next.payload;
        return told;
      case MessageReader::What::broken:
        told.broken = next.close_code;
        told.text = next.payload;
        return told;
      case MessageReader::What::more:
        if (at == input.size()) return told;
        held.erase(0, next.consumed);
        EXPECT_LT(held.size(), FrameChecker::kHeaderBytesMax);
        held += input.substr(at, cuts[piece % cuts.size()]);
        at = std::min(input.size(), at + cuts[piece++ % cuts.size()]);
        continue;
    }
    held.erase(0, next.consumed);
  }
}

TEST(WebSocketMessages, AreWholeHoweverTheyAreFragmentedAndCut) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const auto below = [&](std::size_t n) { return random() % n; };
  std::string input;
  std::vector<std::string> messages, pings;
  for (int i = 0; i < 60; ++i) {
    std::string message;
    const std::size_t size = below(4) == 0 ? below(70'000) : below(300);
    for (std::size_t j = 0; j < size; ++j) message += static_cast<char>(random());
    std::size_t sent = 0;
    Opcode opcode = Opcode::binary;
    do {
      if (below(3) == 0) {
        pings.emplace_back(below(126), 'p');
        input += frame(Opcode::ping, pings.back());
      }
      const std::size_t count = below(2) == 0 ? size - sent : below(size - sent + 1);
      const bool final = sent + count == size && below(2) == 0;
      input += frame(opcode, message.substr(sent, count), final);
      opcode = Opcode::continuation;
      sent += count;
      if (final) break;
      if (sent == size) {
        input += frame(opcode, "");
        break;
      }
    } while (true);
    messages.push_back(std::move(message));
  }
  input += frame(Opcode::close,
                 "\x03\xE8"
                 "bye");
  for (const std::vector<std::size_t>& cuts :
       {std::vector<std::size_t>{input.size()}, {1}, {16'384}, {1 + below(20), 1 + below(2'000), 1 + below(5)}}) {
    const Told told = read(input, cuts);
    EXPECT_EQ(told.messages, messages);
    EXPECT_EQ(told.pings, pings);
    EXPECT_EQ(told.closed, 1000);
    EXPECT_EQ(told.text, "bye");
  }
}

TEST(WebSocketMessages, OfAServerAreNotMasked) {
  const Told told = read(frame(Opcode::binary, "hello", true, nullptr), {3}, kMax, FrameSender::server);
  EXPECT_EQ(told.messages, std::vector<std::string>{"hello"});
  EXPECT_EQ(read(frame(Opcode::binary, "hello"), {3}, kMax, FrameSender::server).broken, 1002);
  EXPECT_EQ(read(frame(Opcode::binary, "hello", true, nullptr), {3}).broken, 1002);
}

TEST(WebSocketMessages, WhatCameBeforeAFaultIsStillTold) {
  const Told told = read(frame(Opcode::binary, "good") + std::string("\xF2\x80\0\0\0\0", 6), {1'000});
  EXPECT_EQ(told.messages, std::vector<std::string>{"good"});
  EXPECT_EQ(told.broken, 1002);
}

TEST(WebSocketMessages, TextIsRefused) {
  EXPECT_EQ(read(frame(Opcode::text, "words"), {1'000}).broken, 1003);
  EXPECT_EQ(read(frame(Opcode::text, ""), {1'000}).broken, 1003);
}

TEST(WebSocketMessages, AreNoLargerThanAllowedWholeOrInFragments) {
  EXPECT_EQ(read(frame(Opcode::binary, std::string(1'000, 'x')), {1'000}, 1'000).messages.size(), 1U);
  EXPECT_EQ(read(frame(Opcode::binary, std::string(1'001, 'x')), {10}, 1'000).broken, 1009);
  const std::string half = frame(Opcode::binary, std::string(600, 'x'), false);
  EXPECT_EQ(read(half + frame(Opcode::continuation, std::string(401, 'x')), {10}, 1'000).broken, 1009);
}

TEST(WebSocketMessages, ALengthThatIsOnlyAnnouncedTakesNoMemory) {
  MessageReader reader(FrameSender::client, 64 << 20);
  std::string input;
  append_frame_header(input, Opcode::binary, 60 << 20, &kMask);
  input += "some";
  EXPECT_EQ(reader.next(input).what, MessageReader::What::more);
  EXPECT_TRUE(reader.in_message());
  EXPECT_LT(reader.held(), 100U);
}

TEST(WebSocketMessages, MemoryIsLetGoOfWithTheMessage) {
  MessageReader reader(FrameSender::client, kMax);
  std::string input = frame(Opcode::binary, std::string(100'000, 'x'));
  std::string rest = input.substr(50'000);
  input.resize(50'000);
  EXPECT_EQ(reader.next(input).what, MessageReader::What::more);
  EXPECT_EQ(reader.next(rest).payload.size(), 100'000U);
  EXPECT_GE(reader.held(), 100'000U);
  EXPECT_EQ(reader.next({}).what, MessageReader::What::more);
  EXPECT_LT(reader.held(), 100U);
  EXPECT_FALSE(reader.in_message());
}

TEST(WebSocketMessages, AMaskIsAppliedFromAnyPhase) {
  const std::string text = "a mask of four bytes, over and over";
  for (std::size_t cut = 0; cut < text.size(); ++cut) {
    std::string whole = text, parts = text;
    for (std::size_t i = 0; i < whole.size(); ++i) whole[i] = static_cast<char>(whole[i] ^ kMask[i % 4]);
    apply_mask(std::span(parts).first(cut), kMask);
    apply_mask(std::span(parts).subspan(cut), kMask, cut);
    EXPECT_EQ(parts, whole);
  }
}

}  // namespace
}  // namespace sallyport::http1
