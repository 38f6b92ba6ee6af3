#pragma once
// "20/s", "100/m", "1000/h": how documents write a rate.

#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "base/limits.h"

namespace sallyport::rate {

struct WrittenRate {
  std::uint32_t count = 0;  // 1 to limits::kPolicyRateMax
  std::chrono::nanoseconds unit{};
};

// What a text that is none is told.
inline std::string rate_hint() {
  return "a whole number from 1 to " + std::to_string(limits::kPolicyRateMax) +
         " for each second, minute or hour: 20/s, 100/m, 1000/h";
}

inline std::optional<WrittenRate> read_rate(std::string_view text) {
  using namespace std::chrono_literals;
  WrittenRate out;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out.count);
  if (error != std::errc() || out.count == 0 || out.count > limits::kPolicyRateMax) return std::nullopt;
  const std::string_view unit(end, text.data() + text.size());
  if (unit == "/s") {
    out.unit = 1s;
  } else if (unit == "/m") {
    out.unit = 1min;
  } else if (unit == "/h") {
    out.unit = 1h;
  } else {
    return std::nullopt;
  }
  return out;
}

}  // namespace sallyport::rate
