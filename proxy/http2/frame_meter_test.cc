#include "proxy/http2/frame_meter.h"

#include <gtest/gtest.h>

#include <string>

namespace sallyport::http2 {
namespace {

std::string frame(unsigned type, std::size_t size) {
  std::string made{static_cast<char>(size >> 16), static_cast<char>(size >> 8), static_cast<char>(size),
                   static_cast<char>(type)};
  made.append(5, '\0');
  return made + std::string(size, '\x03');
}

TEST(FrameMeter, CountsEveryFrameHoweverTheBytesAreCut) {
  const std::string bytes = std::string(24, 'P') + frame(4, 0) + frame(0xEE, 70'000) + frame(3, 4) + frame(0, 1) +
                            frame(9, 255) + frame(3, 4);
  for (const std::size_t piece : {1UL, 2UL, 8UL, 9UL, 10UL, 33UL, 16'384UL, 1'000'000UL}) {
    FrameMeter meter(24);
    FrameMeter::Count sum;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      const FrameMeter::Count count = meter.count(std::string_view(bytes).substr(at, piece));
      sum.resets += count.resets;
      sum.others += count.others;
    }
    EXPECT_EQ(sum.resets, 2) << piece;
    EXPECT_EQ(sum.others, 4) << piece;
  }
}

TEST(FrameMeter, AFrameCountsWithItsHeader) {
  FrameMeter meter(0);
  const std::string bytes = frame(0x10, 5);
  EXPECT_EQ(meter.count(std::string_view(bytes).substr(0, 8)).others, 0);
  EXPECT_EQ(meter.count(std::string_view(bytes).substr(8, 1)).others, 1);
  EXPECT_EQ(meter.count(std::string_view(bytes).substr(9)).others, 0);
}

}  // namespace
}  // namespace sallyport::http2
