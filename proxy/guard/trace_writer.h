#pragma once
// The file of --traces: one trace after the other, each whole or not at all.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "policy-engine/flow/trace_file.h"

namespace sallyport::guard {

// One thread: the recorder's.
class TraceWriter {
 public:
  // JSON lines, or the binary form for a name that ends with ".pb". Appends to a file that is there, unless it ends in
  // the middle of a trace, as after a crash (ErrorKind::malformed): what follows could not be read. `complain` is told
  // of what goes wrong later.
  static Result<std::unique_ptr<TraceWriter>> open(const std::string& file,
                                                   std::function<void(const std::string&)> complain);
  // Says how many traces were lost, if any were.
  ~TraceWriter();

  // A trace that cannot be written (disk full, limits::kTraceFileBytesMax) is lost and counted, which is said once;
  // what was written of it is taken back, so that the file stays one that can be read, and the next is tried again.
  // Traffic goes on: nothing is decided by what is in this file.
  void write(const flow::v1alpha1::Trace& trace);

 private:
  TraceWriter(UniqueFd fd, std::string file, std::function<void(const std::string&)> complain);
  void lose(const std::string& why);

  UniqueFd fd_;
  std::string file_;
  std::function<void(const std::string&)> complain_;
  flow::TraceForm form_;
  std::uint64_t size_ = 0;  // of what is whole
  std::uint64_t lost_ = 0;
  bool broken_ = false;  // what is left of a trace could not be taken back
};

}  // namespace sallyport::guard
