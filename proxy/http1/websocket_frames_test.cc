#include "proxy/http1/websocket_frames.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

namespace sallyport::http1 {
namespace {

constexpr std::uint64_t kMax = 1'000'000;

// `long_form`: the bytes that the length takes behind the second one; -1: as few as it can.
std::string frame(unsigned first, std::string payload, bool masked = false, int long_form = -1) {
  const std::size_t size = payload.size();
  if (long_form < 0) long_form = size > 0xFFFF ? 8 : size > 125 ? 2 : 0;
  const unsigned bit = masked ? 0x80 : 0;
  std::string out(1, static_cast<char>(first));
  out += static_cast<char>(bit | (long_form == 8 ? 127 : long_form == 2 ? 126 : static_cast<unsigned>(size)));
  for (int i = long_form - 1; i >= 0; --i) out += static_cast<char>(static_cast<std::uint64_t>(size) >> (8 * i) & 255);
  const char mask[4] = {1, 2, 3, 4};
  if (masked) out.append(mask, 4);
  for (std::size_t i = 0; masked && i < size; ++i) payload[i] = static_cast<char>(payload[i] ^ mask[i % 4]);
  return out + payload;
}

// "good", or the close code and the number of bytes that passed before.
std::string checked(std::string_view bytes, FrameSender sender = FrameSender::server, bool deflate = false) {
  FrameChecker checker(sender, deflate, kMax);
  const FrameChecker::Checked result = checker.check(bytes);
  if (result.problem) return std::to_string(result.problem->close_code) + " at " + std::to_string(result.bytes);
  return result.bytes == bytes.size() ? "good" : "left " + std::to_string(bytes.size() - result.bytes);
}

std::string close(unsigned code, const std::string& reason = "") {
  return frame(0x88, std::string{static_cast<char>(code >> 8), static_cast<char>(code & 255)} + reason);
}

TEST(WebSocketFrames, WhatIsRightPasses) {
  EXPECT_EQ(checked(""), "good");
  for (const std::size_t size : {0u, 1u, 125u, 126u, 127u, 65'535u, 65'536u, 1'000'000u}) {
    EXPECT_EQ(checked(frame(0x81, std::string(size, 'x'))), "good") << size;
    EXPECT_EQ(checked(frame(0x82, std::string(size, 'x'), true), FrameSender::client), "good") << size;
  }
  EXPECT_EQ(checked(frame(0x01, "a") + frame(0x00, "b") + frame(0x89, "ping") + frame(0x80, "c") + frame(0x81, "d")),
            "good");
  EXPECT_EQ(checked(frame(0x8A, std::string(125, 'x'))), "good");
  EXPECT_EQ(checked(frame(0x88, "")), "good");
  for (const unsigned code : {1000u, 1001u, 1003u, 1007u, 1011u, 1014u, 3000u, 4999u}) {
    EXPECT_EQ(checked(close(code, "why")), "good") << code;
  }
  EXPECT_EQ(checked(frame(0xC1, "squeezed") + frame(0x41, "x") + frame(0x80, "y"), FrameSender::server, true), "good");
}

TEST(WebSocketFrames, WhatIsWrongDoesNot) {
  const std::string before = frame(0x81, "ok");
  const auto refused = [&](const std::string& bytes, bool deflate = false) {
    EXPECT_EQ(checked(before + bytes, FrameSender::server, deflate), "1002 at " + std::to_string(before.size()))
        << testing::PrintToString(bytes);
  };
  refused(frame(0x81, "masked", true));
  for (const unsigned opcode : {3u, 4u, 5u, 6u, 7u, 11u, 12u, 13u, 14u, 15u}) refused(frame(0x80 | opcode, ""));
  for (const unsigned rsv : {0x40u, 0x20u, 0x10u, 0x70u}) refused(frame(0x81 | rsv, ""));
  for (const unsigned rsv : {0x20u, 0x10u, 0x60u}) refused(frame(0x81 | rsv, ""), true);
  refused(frame(0xC9, ""), true);
  refused(frame(0x09, ""));
  refused(frame(0x89, std::string(126, 'x')));
  refused(frame(0x81, "", false, 2));
  refused(frame(0x81, std::string(125, 'x'), false, 2));
  refused(frame(0x81, std::string(65'535, 'x'), false, 8));
  refused(std::string("\x82\x7f\x80\0\0\0\0\0\0\0", 10));
  refused(frame(0x80, "continues nothing"));
  refused(frame(0x88, "x"));
  for (const unsigned code : {0u, 999u, 1004u, 1005u, 1006u, 1015u, 1016u, 2999u, 5000u, 65'535u}) refused(close(code));
  EXPECT_EQ(checked(frame(0x81, "unmasked"), FrameSender::client), "1002 at 0");
  const std::string begun = frame(0x01, "a");
  EXPECT_EQ(checked(begun + frame(0x81, "b")), "1002 at " + std::to_string(begun.size()));
  EXPECT_EQ(checked(begun + frame(0x40, "b"), FrameSender::server, true), "1002 at " + std::to_string(begun.size()));
}

// RFC 6455 section 5.5.1: nothing may follow, so nothing of it goes on; nor is it worth another close frame.
TEST(WebSocketFrames, WhatFollowsACloseFrameIsNeitherPassedNorJudged) {
  for (const std::string& end : {close(1000), close(4000, "why"), frame(0x88, "")}) {
    for (const std::string& after :
         {frame(0x81, "late"), close(1000), frame(0x83, "none"), std::string("GET / HTTP")}) {
      EXPECT_EQ(checked(end + after), "left " + std::to_string(after.size()));
    }
    FrameChecker checker(FrameSender::server, false, kMax);
    EXPECT_EQ(checker.check(end).bytes, end.size());
    EXPECT_EQ(checker.check("anything").bytes, 0U);
    EXPECT_TRUE(checker.closed() && checker.at_boundary());
  }
}

TEST(WebSocketFrames, AFrameThatHasBegunCanBeFinishedAlone) {
  const std::string first = frame(0x82, std::string(300, 'x')), more = frame(0x81, "more");
  FrameChecker checker(FrameSender::server, false, kMax);
  EXPECT_EQ(checker.finish_frame(first), 0U);
  EXPECT_EQ(checker.check(first.substr(0, 100)).bytes, 100U);
  EXPECT_EQ(checker.finish_frame(first.substr(100, 50)), 50U);
  EXPECT_FALSE(checker.at_boundary());
  EXPECT_EQ(checker.finish_frame(first.substr(150) + more), first.size() - 150);
  EXPECT_TRUE(checker.at_boundary());
  EXPECT_EQ(checker.finish_frame(more), 0U);
  EXPECT_EQ(checker.check(more).bytes, more.size());
}

TEST(WebSocketFrames, AMessageHasASize) {
  EXPECT_EQ(checked(frame(0x82, std::string(kMax + 1, 'x'))), "1009 at 0");
  const std::string part = frame(0x02, std::string(600'000, 'x'));
  EXPECT_EQ(checked(part + frame(0x80, std::string(400'000, 'x')) + frame(0x82, std::string(kMax, 'x'))), "good");
  EXPECT_EQ(checked(part + frame(0x89, "p") + frame(0x80, std::string(400'001, 'x'))),
            "1009 at " + std::to_string(part.size() + 3));
  // The largest length that can be written overflows nothing.
  EXPECT_EQ(checked(part + std::string("\x80\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 10)),
            "1009 at " + std::to_string(part.size()));
}

TEST(WebSocketFrames, HowTheBytesAreCutChangesNothing) {
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  const auto below = [&](unsigned limit) { return static_cast<unsigned>(random() % limit); };
  for (int round = 0; round < 3'000; ++round) {
    std::string bytes;
    for (unsigned i = below(6); i > 0; --i) {
      static constexpr unsigned kFirst[] = {0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8A, 0x88, 0xC1, 0x83};
      bytes += frame(kFirst[below(10)], std::string(below(2) == 0 ? below(5) : below(300), 'x'), true);
    }
    if (below(4) == 0 && !bytes.empty())
      bytes[below(static_cast<unsigned>(bytes.size()))] ^= static_cast<char>(1 << below(8));
    FrameChecker whole(FrameSender::client, true, 500);
    const FrameChecker::Checked expected = whole.check(bytes);
    FrameChecker cut(FrameSender::client, true, 500);
    std::size_t passed = 0;
    std::optional<FrameProblem> problem;
    for (std::size_t shown = 0; shown < bytes.size() && !problem;) {
      shown = std::min(bytes.size(), shown + 1 + below(7));
      const FrameChecker::Checked step = cut.check(std::string_view(bytes).substr(passed, shown - passed));
      passed += step.bytes;
      problem = step.problem;
      ASSERT_LE(shown - passed, problem || cut.closed() ? bytes.size() : FrameChecker::kHeaderBytesMax);
    }
    ASSERT_EQ(passed, expected.bytes);
    ASSERT_EQ(problem.has_value(), expected.problem.has_value());
    if (problem) ASSERT_EQ(problem->text, expected.problem->text);
    ASSERT_EQ(cut.closed(), whole.closed());
    ASSERT_EQ(cut.at_boundary(), whole.at_boundary());
  }
}

TEST(WebSocketFrames, TheExtensionThatIsUnderstood) {
  for (const std::string_view good : {"permessage-deflate", "Permessage-Deflate; client_max_window_bits=10",
                                      "permessage-deflate; server_no_context_takeover, permessage-deflate"}) {
    EXPECT_TRUE(is_only_deflate(good)) << good;
  }
  for (const std::string_view bad : {"", "x-webkit-deflate-frame", "permessage-deflate, other", "permessage-deflate2",
                                     "other; permessage-deflate", " , "}) {
    EXPECT_FALSE(is_only_deflate(bad)) << bad;
  }
}

}  // namespace
}  // namespace sallyport::http1
