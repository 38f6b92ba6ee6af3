#include "base/metrics_text.h"

namespace sallyport {

void MetricsText::family(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  out_.append("# HELP ").append(name).append(" ").append(help).append("\n");
  out_.append("# TYPE ").append(name).append(" ").append(type).append("\n");
}

void MetricsText::sample(std::string_view suffix, std::string_view value, std::span<const Label> labels) {
  out_.append(name_).append(suffix);
  if (!everywhere_.empty() || !labels.empty()) {
    out_ += '{';
    for (const Label& label : everywhere_) add(label);
    for (const Label& label : labels) add(label);
    out_.back() = '}';
  }
  out_.append(" ").append(value).append("\n");
}

// With the comma behind it.
void MetricsText::add(const Label& label) {
  out_.append(label.first).append("=\"");
  for (const char c : label.second) {
    if (c == '\\' || c == '"') out_ += '\\';
    if (c == '\n') {
      out_ += "\\n";
    } else {
      out_ += c;
    }
  }
  out_ += "\",";
}

}  // namespace sallyport
