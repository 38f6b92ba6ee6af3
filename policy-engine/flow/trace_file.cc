#include "policy-engine/flow/trace_file.h"

#include <google/protobuf/arena.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/read_file.h"
#include "policy-engine/flow/learning/trace_check.h"
#include "policy-engine/flow/trace_json.h"

namespace sallyport::flow {

namespace {

using v1alpha1::Trace;
using Take = TakeTrace;

constexpr std::string_view kMark = "SLPTRC1\n";
constexpr std::size_t kQuotedBytesMax = 200;   // of what protobuf says about a mistake
constexpr std::size_t kRoomBytes = 256 << 10;  // of a thousand flows, about
constexpr std::size_t kVarintBytesMax = 5;     // a length has 32 bits
constexpr std::size_t kPieceBytes = 1 << 20;   // of a file that are read at once

std::unexpected<Error> malformed(const std::string& where, std::string_view what, std::string_view remedy) {
  return fail(ErrorSource::policy, ErrorKind::malformed, where + ": " + std::string(what) + "; " + std::string(remedy));
}

// What protobuf quotes may be hostile bytes, and goes to a terminal.
std::string printable(std::string_view text) {
  std::string out(text.substr(0, kQuotedBytesMax));
  std::ranges::replace_if(out, [](char c) { return c < 0x20 || c > 0x7e; }, ' ');
  return out;
}

std::optional<std::string> parse_json(std::string_view line, Trace& trace) {
  if (read_plain_json(line, trace)) return std::nullopt;
  trace.Clear();
  const auto status = google::protobuf::util::JsonStringToMessage(
      google::protobuf::stringpiece_internal::StringPiece(line.data(), line.size()), &trace);
  if (status.ok()) return std::nullopt;
  return printable(std::string_view(status.message().data(), status.message().size()));
}

// Room for one trace after the other: most of them then need none of their own but for long strings.
class TraceRoom {
 public:
  // Until the next call.
  Trace& next() {
    arena_.Reset();
    return *google::protobuf::Arena::CreateMessage<Trace>(&arena_);
  }

 private:
  static google::protobuf::ArenaOptions options(std::vector<char>& block) {
    google::protobuf::ArenaOptions out;
    out.initial_block = block.data();
    out.initial_block_size = block.size();
    return out;
  }

  std::vector<char> block_ = std::vector<char>(kRoomBytes);
  google::protobuf::Arena arena_{options(block_)};
};

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

// The length before a message.
struct Length {
  enum class State : std::uint8_t { whole, cut, damaged } state = State::cut;
  std::uint64_t value = 0;
  std::size_t bytes = 0;
};

Length length_at(std::string_view bytes) {
  Length out;
  while (out.bytes < std::min(bytes.size(), kVarintBytesMax)) {
    const auto byte = static_cast<unsigned char>(bytes[out.bytes]);
    out.value |= static_cast<std::uint64_t>(byte & 0x7fU) << (7 * out.bytes++);
    if ((byte & 0x80U) != 0) continue;
    out.state = Length::State::whole;
    return out;
  }
  if (out.bytes == kVarintBytesMax) out.state = Length::State::damaged;
  return out;
}

// Drops them.
bool has_unknown_fields(Trace& trace) {
  const std::size_t size = trace.ByteSizeLong();
  trace.DiscardUnknownFields();
  return trace.ByteSizeLong() != size;
}

// The traces of a file that comes in pieces.
class Scanner {
 public:
  Scanner(const std::string& file, const Take& take) : file_(file), take_(take) {}

  // Takes the traces that are whole from the front of `bytes`; `last`: nothing comes behind them.
  Result<void> scan(std::string_view& bytes, bool last) {
    if (form_ == Form::unknown && !find_form(bytes, last)) return {};
    while (!bytes.empty()) {
      const std::size_t before = bytes.size();
      auto taken = form_ == Form::binary ? take_message(bytes, last) : take_line(bytes, last);
      if (!taken) return std::unexpected(std::move(taken.error()));
      offset_ += before - bytes.size();
      if (!*taken) return {};
    }
    return {};
  }

  // The file ended within a trace, as after a crash.
  bool cut() const { return cut_; }

 private:
  enum class Form : std::uint8_t { unknown, json_lines, binary };

  bool find_form(std::string_view& bytes, bool last) {
    if (bytes.starts_with(kMark)) {
      bytes.remove_prefix(kMark.size());
      offset_ = kMark.size();
      form_ = Form::binary;
      return true;
    }
    if (kMark.starts_with(bytes)) {  // may become the mark, or ends within it
      cut_ = last && !bytes.empty();
      return false;
    }
    form_ = Form::json_lines;
    return true;
  }

  // Whether to go on.
  Result<bool> take_line(std::string_view& bytes, bool last) {
    const std::size_t end = bytes.find('\n');
    const std::string_view line = bytes.substr(0, end);
    if (line.size() > limits::kTraceBytesMax) {
      ++number_;
      return malformed(line_place(), "the line is longer than " + std::to_string(limits::kTraceBytesMax) + " bytes",
                       "one trace stands on each line");
    }
    if (end == std::string_view::npos && !last) return false;
    ++number_;
    bytes.remove_prefix(end == std::string_view::npos ? bytes.size() : end + 1);
    if (is_blank(line)) return true;
    Trace& trace = room_.next();
    if (const auto mistake = parse_json(line, trace)) {
      // No prefix of a JSON object is one: what has no line end and cannot be read was not written to its end.
      cut_ = end == std::string_view::npos;
      if (cut_) return false;
      return malformed(line_place(), "not a trace: " + *mistake, "remove the line, or collect the traces again");
    }
    return give(std::move(trace), [&] { return line_place(); });
  }

  Result<bool> take_message(std::string_view& bytes, bool last) {
    const Length length = length_at(bytes);
    if (length.state == Length::State::damaged || length.value > limits::kTraceBytesMax) {
      ++number_;
      return malformed(message_place(), "its length is more than " + std::to_string(limits::kTraceBytesMax),
                       "from here on the file is damaged: cut it off there, or collect the traces again");
    }
    if (length.state == Length::State::cut || bytes.size() - length.bytes < length.value) {
      cut_ = last;
      return false;
    }
    ++number_;
    Trace& trace = room_.next();
    if (!trace.ParseFromArray(bytes.data() + length.bytes, static_cast<int>(length.value))) {
      return malformed(message_place(), "not a trace", "cut the file off there, or collect the traces again");
    }
    if (has_unknown_fields(trace)) {  // of another program, or of one that says more than is understood here
      return malformed(message_place(), "not a trace: it has a field that is not known", "collect the traces again");
    }
    bytes.remove_prefix(length.bytes + length.value);
    return give(std::move(trace), [&] { return message_place(); });
  }

  template <class Where>
  Result<bool> give(Trace&& trace, Where where) {
    if (auto checked = learning::check_trace(trace); !checked) {
      return malformed(where(), checked.error().text, "the trace was not written by a guard, or has been changed");
    }
    if (auto taken = take_(std::move(trace)); !taken) return std::unexpected(std::move(taken.error()));
    return true;
  }

  std::string line_place() const { return file_ + ":" + std::to_string(number_); }
  std::string message_place() const {
    return file_ + ": trace " + std::to_string(number_) + " at byte " + std::to_string(offset_);
  }

  const std::string& file_;
  const Take& take_;
  TraceRoom room_;
  Form form_ = Form::unknown;
  std::size_t number_ = 0;    // of the line, or of the message
  std::uint64_t offset_ = 0;  // of the message
  bool cut_ = false;
};

}  // namespace

void append_trace(std::string& out, const Trace& trace, TraceForm form, bool first) {
  // What is no trace, or too long for one, would make all that follows unreadable: there is none instead.
  if (form == TraceForm::json_lines) {
    std::string line;
    if (!google::protobuf::util::MessageToJsonString(trace, &line).ok()) return;
    if (line.size() > limits::kTraceBytesMax) return;
    out += line;
    out += '\n';
    return;
  }
  std::string bytes;
  if (trace.ByteSizeLong() > limits::kTraceBytesMax || !trace.SerializeToString(&bytes)) return;
  if (first) out += kMark;
  // No stream of protobuf's on `out`: it fills all the room that the string has, for each trace anew.
  std::uint8_t varint[kVarintBytesMax];
  const std::uint8_t* end =
      google::protobuf::io::CodedOutputStream::WriteVarint32ToArray(static_cast<std::uint32_t>(bytes.size()), varint);
  out.append(reinterpret_cast<const char*>(varint), static_cast<std::size_t>(end - varint));
  out += bytes;
}

Result<void> read_traces(std::string_view bytes, const std::string& file, const Take& take, bool& cut) {
  Scanner scanner(file, take);
  auto read = scanner.scan(bytes, true);
  cut = scanner.cut();
  return read;
}

Result<void> read_trace_pieces(const ReadPiece& read, const std::string& file, const Take& take, bool& cut) {
  cut = false;
  Scanner scanner(file, take);
  std::vector<char> held;  // a trace that has not come whole, and what follows; the scanner bounds it
  std::size_t size = 0;
  for (bool last = false; !last;) {
    if (held.size() < size + kPieceBytes) held.resize(size + kPieceBytes);
    const auto count = read(std::span(held).subspan(size, kPieceBytes));
    if (!count) return std::unexpected(count.error());
    last = *count == 0;
    std::string_view bytes(held.data(), size + *count);
    if (auto scanned = scanner.scan(bytes, last); !scanned) return scanned;
    size = bytes.size();
    std::memmove(held.data(), bytes.data(), size);
  }
  cut = scanner.cut();
  return {};
}

Result<void> read_trace_file(const std::string& path, const Take& take, bool& cut) {
  cut = false;
  auto file = FileReader::open(path);
  if (!file) return std::unexpected(std::move(file.error()));
  return read_trace_pieces([&](std::span<char> room) { return file->read(room); }, path == "-" ? "stdin" : path, take,
                           cut);
}

}  // namespace sallyport::flow
