#include "proxy/guard/trace_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/limits.h"
#include "policy-engine/flow/learning/trace_check.h"

namespace sallyport::guard {
namespace {

constexpr std::string_view kMark = "SLPTRC1\n";

std::unexpected<Error> refuse(ErrorKind kind, const std::string& file, const std::string& why) {
  return fail(ErrorSource::internal, kind, "--traces " + file + ": " + why);
}

// The length of the message at `at`, and where it begins; false at bytes that are none.
bool read_length(int fd, std::uint64_t at, std::uint64_t& length, std::uint64_t& begins) {
  unsigned char bytes[10] = {};
  const ssize_t count = ::pread(fd, bytes, sizeof bytes, static_cast<off_t>(at));
  length = 0;
  for (ssize_t i = 0; i < count; ++i) {
    length |= std::uint64_t{bytes[i] & 0x7FU} << (7 * i);
    if ((bytes[i] & 0x80) != 0) continue;
    begins = at + static_cast<std::uint64_t>(i) + 1;
    return length <= limits::kTraceBytesMax;
  }
  return false;
}

// Whether the last trace of a file is there to its end.
bool ends_whole(int fd, std::uint64_t size, flow::TraceForm form) {
  if (size == 0) return true;
  if (form == flow::TraceForm::json_lines) {
    char last = 0;
    return ::pread(fd, &last, 1, static_cast<off_t>(size - 1)) == 1 && last == '\n';
  }
  char mark[kMark.size()] = {};
  if (::pread(fd, mark, sizeof mark, 0) != static_cast<ssize_t>(sizeof mark)) return false;
  if (std::string_view(mark, sizeof mark) != kMark) return false;
  std::uint64_t at = kMark.size();
  while (at < size) {
    std::uint64_t length = 0, begins = 0;
    if (!read_length(fd, at, length, begins)) return false;
    at = begins + length;
  }
  return at == size;
}

}  // namespace

Result<std::unique_ptr<TraceWriter>> TraceWriter::open(const std::string& file,
                                                       std::function<void(const std::string&)> complain) {
  UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0600));
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0) return refuse(ErrorKind::unavailable, file, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return refuse(ErrorKind::invalid, file, "it must be a regular file");
  std::unique_ptr<TraceWriter> writer(new TraceWriter(std::move(fd), file, std::move(complain)));
  writer->size_ = static_cast<std::uint64_t>(status.st_size);
  if (!ends_whole(writer->fd_.get(), writer->size_, writer->form_)) {
    return refuse(
        ErrorKind::malformed, file,
        "it is no file of traces, or ends in the middle of one: take another name, or cut off what is broken");
  }
  return writer;
}

TraceWriter::TraceWriter(UniqueFd fd, std::string file, std::function<void(const std::string&)> complain)
    : fd_(std::move(fd)),
      file_(std::move(file)),
      complain_(std::move(complain)),
      form_(file_.ends_with(".pb") ? flow::TraceForm::binary : flow::TraceForm::json_lines) {}

TraceWriter::~TraceWriter() {
  if (lost_ > 0) complain_("--traces " + file_ + ": " + std::to_string(lost_) + " traces were lost");
}

void TraceWriter::lose(const std::string& why) {
  if (lost_++ == 0) complain_("--traces " + file_ + ": " + why + "; traces are lost");
}

void TraceWriter::write(const flow::v1alpha1::Trace& trace) {
  if (broken_) return lose("the file ends in the middle of a trace");
  // One that would be refused would make what follows unreadable, too.
  if (auto checked = flow::learning::check_trace(trace); !checked) return lose(checked.error().text);
  std::string bytes;
  flow::append_trace(bytes, trace, form_, size_ == 0);
  if (bytes.empty()) return lose("a trace is too large, or has no form in which it can be written");
  if (size_ + bytes.size() > limits::kTraceFileBytesMax) return lose("the file has reached its largest size");
  std::string_view rest = bytes;
  while (!rest.empty()) {
    const ssize_t written = ::write(fd_.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const std::string why = std::strerror(errno);
      broken_ = ::ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0;
      return lose(why);
    }
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  size_ += bytes.size();
}

}  // namespace sallyport::guard
