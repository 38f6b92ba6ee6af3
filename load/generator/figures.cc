#include "load/generator/figures.h"

#include <algorithm>
#include <array>
#include <iostream>

namespace sallyport::load {
namespace {

double percentile(const std::vector<double>& sorted, int percent) {
  return sorted.empty() ? 0 : sorted[static_cast<std::size_t>(percent) * (sorted.size() - 1) / 100];
}

}  // namespace

void print(Figures figures) {
  constexpr std::array kPercentiles{10, 25, 50, 75, 90, 99};
  std::ranges::sort(figures.latencies_us);
  std::cout << "{\"requests\":" << figures.latencies_us.size() << ",\"bytes\":" << figures.bytes
            << ",\"resumed\":" << figures.resumed << ",\"seconds\":" << figures.seconds;
  for (const int percent : kPercentiles) {
    std::cout << ",\"p" << percent << "_us\":" << percentile(figures.latencies_us, percent);
  }
  std::cout << "}\n" << std::flush;
}

}  // namespace sallyport::load
