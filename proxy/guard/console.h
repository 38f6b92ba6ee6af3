#pragma once
// What a person at a terminal sees: one short line per record, and a summary at the end. To standard error, so that the
// command's own output stays clean.

#include <atomic>
#include <cstdint>
#include <map>
#include <string>

#include "base/unique_fd.h"
#include "proxy/guard/record.h"

namespace sallyport::guard {

class Console {
 public:
  struct Options {
    bool lines = false;    // one line per record
    bool summary = false;  // at the end
    bool colour = false;
  };
  Console(int fd, Options options);

  void show(const Record& record);
  void flush();  // lines are written in batches
  // From any thread. The command shares this terminal or pipe and can stop it: text that is not taken within a second
  // is dropped, and what follows is dropped at once until some is taken again. The log has every record.
  void write(std::string_view text) const;
  // Requests by decision, bytes, slowest host. Call once, after the last record.
  void summarise();

  // The text of a record's line, without colour and line feed. Printable bytes only, whatever the record holds.
  static std::string line_of(const Record& record);

 private:
  struct HostTime {
    std::chrono::microseconds total{0};
    std::uint64_t count = 0;
  };
  std::string painted(const Record& record) const;

  int fd_;
  UniqueFd own_;  // the same terminal or pipe, opened once more: that it does not block is nobody else's business
  bool is_socket_ = false;
  mutable std::atomic<bool> stuck_ = false;
  Options options_;
  std::string pending_;
  std::map<Outcome, std::uint64_t> exchanges_;
  std::uint64_t connections_ = 0, refused_names_ = 0, inbound_ = 0;
  std::uint64_t bytes_up_ = 0, bytes_down_ = 0;
  std::map<std::string, HostTime> hosts_;
};

}  // namespace sallyport::guard
