#pragma once
// Metrics in the text format of Prometheus, version 0.0.4.

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sallyport {

class MetricsText {
 public:
  using Label = std::pair<std::string_view, std::string_view>;

  // The labels of every sample, before its own. What they refer to outlives this.
  explicit MetricsText(std::initializer_list<Label> everywhere = {}) : everywhere_(everywhere) {}

  // The samples that follow are of it.
  void family(std::string_view name, std::string_view type, std::string_view help);
  void sample(std::uint64_t value, std::initializer_list<Label> labels = {}) {
    sample("", std::to_string(value), labels);
  }
  // With a suffix to the family's name, as histograms have them, and a value as it is to be written.
  void sample(std::string_view suffix, std::string_view value, std::span<const Label> labels);
  std::string take() { return std::move(out_); }

 private:
  void add(const Label& label);

  const std::vector<Label> everywhere_;
  std::string out_, name_;
};

}  // namespace sallyport
