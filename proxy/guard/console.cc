#include "proxy/guard/console.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>

#include "base/limits.h"

namespace sallyport::guard {
namespace {

std::string_view mark(Outcome outcome) {
  switch (outcome) {
    case Outcome::allow:
      return "allow";
    case Outcome::deny:
      return "DENY ";
    case Outcome::would_deny:
      return "would";
    case Outcome::error:
      return "ERROR";
  }
  return "ERROR";
}

std::string_view colour_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::allow:
      return "\x1b[32m";
    case Outcome::deny:
      return "\x1b[31m";
    case Outcome::would_deny:
      return "\x1b[33m";
    case Outcome::error:
      return "\x1b[35m";
  }
  return "";
}

// What the guard's own texts have beyond ASCII.
constexpr std::string_view kOwnSigns[] = {"→", "×", "…"};

// A terminal obeys what it is sent: nothing gets there but printable ASCII, and those.
std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto starts = [text](std::string_view sign) { return text.starts_with(sign); };
    const auto* own = std::ranges::find_if(kOwnSigns, starts);
    const std::size_t length = own == std::end(kOwnSigns) ? 1 : own->size();
    const bool plain = length > 1 || (text[0] >= 0x20 && text[0] <= 0x7E);
    out += plain ? text.substr(0, length) : "?";
    text.remove_prefix(length);
  }
  return out;
}

std::string bytes_text(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

std::string milliseconds_text(std::chrono::microseconds duration) {
  char text[32];
  double value = static_cast<double>(duration.count()) / 1000;
  std::snprintf(text, sizeof text, value < 10 ? "%.1f ms" : "%.0f ms", value);
  return text;
}

std::string time_of_day(std::chrono::system_clock::time_point time) {
  std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[16];
  std::strftime(text, sizeof text, "%H:%M:%S", &parts);
  return text;
}

std::string destination_of(const Record& record) {
  std::string text;
  if (record.scheme) text = *record.scheme == request::Scheme::https ? "https://" : "http://";
  text += record.host.empty() ? "(no host)" : record.host;
  bool usual =
      record.port == 0 || (record.scheme && record.port == (*record.scheme == request::Scheme::https ? 443 : 80));
  if (!usual) text += ":" + std::to_string(record.port);
  return text + record.path;
}

}  // namespace

std::string Console::line_of(const Record& record) {
  std::string line = time_of_day(record.time) + " " + std::string(mark(record.outcome)) + " ";
  switch (record.kind) {
    case RecordKind::inbound:
      line += "in ";
      [[fallthrough]];
    case RecordKind::exchange:
      line += record.method.empty() ? "(malformed)" : record.method;
      line += " " + destination_of(record);
      if (record.status != 0) line += " " + std::to_string(record.status);
      if (record.outcome == Outcome::allow || record.outcome == Outcome::would_deny) {
        line += " " + bytes_text(record.bytes_down);
      }
      line += " " + milliseconds_text(record.duration);
      break;
    case RecordKind::connection:
      line += "connection " + destination_of(record);
      if (record.bytes_up + record.bytes_down > 0) {
        line += " " + bytes_text(record.bytes_up) + " up " + bytes_text(record.bytes_down) + " down";
      }
      break;
    case RecordKind::dns:
      line += "name " + record.host;
      break;
    case RecordKind::execution:
      line += "execution " + std::string(record.end) + ", " + std::to_string(record.flows) +
              (record.flows == 1 ? " request " : " requests ") + milliseconds_text(record.duration);
      break;
  }
  if (!record.credential.empty() && record.outcome == Outcome::allow) line += " [credential " + record.credential + "]";
  if (record.reason != Reason::none) line += " (" + std::string(to_string(record.reason)) + ")";
  if (record.outcome != Outcome::allow && !record.text.empty()) line += ": " + record.text;
  return printable(line);
}

std::string Console::painted(const Record& record) const {
  std::string line = line_of(record);
  if (!options_.colour) return line;
  return std::string(colour_of(record.outcome)) + line + "\x1b[0m";
}

void Console::show(const Record& record) {
  if (options_.lines) {
    pending_ += painted(record);
    pending_ += '\n';
  }
  if (!options_.summary) return;
  if (record.kind == RecordKind::inbound) {
    ++inbound_;
    return;
  }
  bytes_up_ += record.bytes_up;
  bytes_down_ += record.bytes_down;
  switch (record.kind) {
    case RecordKind::exchange:
      ++exchanges_[record.outcome];
      break;
    case RecordKind::connection:
      ++connections_;
      break;
    case RecordKind::dns:
      ++refused_names_;
      return;
    case RecordKind::inbound:
    case RecordKind::execution:
      return;
  }
  if (record.kind == RecordKind::exchange &&
      (hosts_.size() < limits::kSummaryHostsMax || hosts_.contains(record.host))) {
    HostTime& host = hosts_[record.host];
    host.total += record.duration;
    ++host.count;
  }
}

void Console::flush() {
  if (pending_.empty()) return;
  write(pending_);
  pending_.clear();
}

Console::Console(int fd, Options options) : fd_(fd), options_(options) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return;
  is_socket_ = S_ISSOCK(status.st_mode);
  if (!S_ISFIFO(status.st_mode) && !S_ISCHR(status.st_mode)) return;
  // Where it can't be opened again (somebody else's terminal) writing blocks.
  own_.reset(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  if (own_) fd_ = own_.get();
}

void Console::write(std::string_view text) const {
  constexpr int kPatienceMs = 1'000;
  while (!text.empty()) {
    ssize_t written = is_socket_ ? ::send(fd_, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
                                 : ::write(fd_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN && !stuck_) {
      pollfd waits{fd_, POLLOUT, 0};
      stuck_ = ::poll(&waits, 1, kPatienceMs) == 0;
      if (!stuck_) continue;
    }
    if (written <= 0) return;  // the terminal is gone or takes nothing: the log file still has every record
    stuck_ = false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void Console::summarise() {
  flush();
  if (!options_.summary) return;
  std::uint64_t total = 0;
  for (const auto& [outcome, count] : exchanges_) total += count;
  std::string text = "sallyport: " + std::to_string(total) + (total == 1 ? " request" : " requests");
  std::string details;
  for (const auto& [outcome, count] : exchanges_) {
    details += (details.empty() ? ": " : ", ") + std::to_string(count) + " ";
    details += outcome == Outcome::allow   ? "allowed"
               : outcome == Outcome::deny  ? "denied"
               : outcome == Outcome::error ? "failed"
                                           : "let through that enforcing would deny";
  }
  text += details;
  if (inbound_ > 0) text += "; " + std::to_string(inbound_) + " from outside";
  if (connections_ > 0)
    text += "; " + std::to_string(connections_) + std::string(connections_ == 1 ? " connection" : " connections") +
            " without requests";
  if (refused_names_ > 0)
    text +=
        "; " + std::to_string(refused_names_) + std::string(refused_names_ == 1 ? " name" : " names") + " not resolved";
  text += "; " + bytes_text(bytes_up_) + " up, " + bytes_text(bytes_down_) + " down";
  const HostTime* slowest = nullptr;
  std::string slowest_host;
  for (const auto& [host, entry] : hosts_) {
    if (slowest == nullptr || entry.total * static_cast<std::int64_t>(slowest->count) >
                                  slowest->total * static_cast<std::int64_t>(entry.count)) {
      slowest = &entry;
      slowest_host = host;
    }
  }
  if (slowest != nullptr && !slowest_host.empty()) {
    text += "; slowest host " + printable(slowest_host) + " (" +
            milliseconds_text(slowest->total / static_cast<std::int64_t>(slowest->count)) + " a request)";
  }
  write(text + "\n");
}

}  // namespace sallyport::guard
