#include "policy-engine/flow/trace_file.h"

#include <google/protobuf/arena.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "policy-engine/flow/learning/trace_check.h"
#include "policy-engine/flow/trace_json.h"

namespace sallyport::flow {

namespace {

using v1alpha1::Trace;
using Take = std::function<Result<void>(Trace&&)>;

constexpr std::string_view kMark = "SLPTRC1\n";
constexpr std::size_t kQuotedBytesMax = 200;   // of what protobuf says about a mistake
constexpr std::size_t kRoomBytes = 256 << 10;  // of a thousand flows, about
constexpr std::size_t kVarintBytesMax = 5;     // a length has 32 bits

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

template <class Where>
Result<void> give(Trace&& trace, Where where, const Take& take) {
  if (auto checked = learning::check_trace(trace); !checked) {
    return malformed(where(), checked.error().text, "the trace was not written by a guard, or has been changed");
  }
  return take(std::move(trace));
}

Result<void> read_json_lines(std::string_view bytes, const std::string& file, const Take& take, bool& cut) {
  TraceRoom room;
  std::size_t number = 0;
  const auto where = [&] { return file + ":" + std::to_string(number); };
  while (!bytes.empty()) {
    ++number;
    const std::size_t end = bytes.find('\n');
    const std::string_view line = bytes.substr(0, end);
    bytes.remove_prefix(end == std::string_view::npos ? bytes.size() : end + 1);
    if (line.size() > limits::kTraceBytesMax) {
      return malformed(where(), "the line is longer than " + std::to_string(limits::kTraceBytesMax) + " bytes",
                       "one trace stands on each line");
    }
    if (is_blank(line)) continue;
    Trace& trace = room.next();
    if (const auto mistake = parse_json(line, trace)) {
      // No prefix of a JSON object is one: what has no line end and cannot be read was not written to its end.
      if (end == std::string_view::npos) {
        cut = true;
        return {};
      }
      return malformed(where(), "not a trace: " + *mistake, "remove the line, or collect the traces again");
    }
    if (auto given = give(std::move(trace), where, take); !given) return given;
  }
  return {};
}

// The length before a message. Nothing with `cut` set: the file ends within it.
std::optional<std::uint32_t> read_length(std::string_view& bytes, bool& cut) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < kVarintBytesMax; ++i) {
    if (i == bytes.size()) {
      cut = true;
      return std::nullopt;
    }
    const auto byte = static_cast<unsigned char>(bytes[i]);
    value |= static_cast<std::uint64_t>(byte & 0x7fU) << (7 * i);
    if ((byte & 0x80U) != 0) continue;
    bytes.remove_prefix(i + 1);
    // Past 32 bits: the caller finds it too long in any case.
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(value, UINT32_MAX));
  }
  return std::nullopt;
}

Result<void> read_binary(std::string_view bytes, const std::string& file, const Take& take, bool& cut) {
  const char* const begin = bytes.data();
  bytes.remove_prefix(kMark.size());
  TraceRoom room;
  for (std::size_t number = 1; !bytes.empty(); ++number) {
    const auto where = [&, at = bytes.data() - begin] {
      return file + ": trace " + std::to_string(number) + " at byte " + std::to_string(at);
    };
    const auto length = read_length(bytes, cut);
    if (cut) return {};
    if (!length || *length > limits::kTraceBytesMax) {
      return malformed(where(), "its length is more than " + std::to_string(limits::kTraceBytesMax),
                       "from here on the file is damaged: cut it off there, or collect the traces again");
    }
    if (bytes.size() < *length) {
      cut = true;
      return {};
    }
    Trace& trace = room.next();
    if (!trace.ParseFromArray(bytes.data(), static_cast<int>(*length))) {
      return malformed(where(), "not a trace", "cut the file off there, or collect the traces again");
    }
    bytes.remove_prefix(*length);
    if (auto given = give(std::move(trace), where, take); !given) return given;
  }
  return {};
}

}  // namespace

void append_trace(std::string& out, const Trace& trace, TraceForm form, bool first) {
  if (form == TraceForm::json_lines) {
    std::string line;
    // It fails for strings that are not UTF-8 and times out of range. A line that is no trace would make all that
    // follows unreadable, so there is none.
    if (!google::protobuf::util::MessageToJsonString(trace, &line).ok()) return;
    out += line;
    out += '\n';
    return;
  }
  if (first) out += kMark;
  std::string bytes;
  if (!trace.SerializeToString(&bytes)) return;
  // No stream of protobuf's on `out`: it fills all the room that the string has, for each trace anew.
  std::uint8_t varint[5];
  const std::uint8_t* end =
      google::protobuf::io::CodedOutputStream::WriteVarint32ToArray(static_cast<std::uint32_t>(bytes.size()), varint);
  out.append(reinterpret_cast<const char*>(varint), static_cast<std::size_t>(end - varint));
  out += bytes;
}

Result<void> read_traces(std::string_view bytes, const std::string& file, const Take& take, bool& cut) {
  cut = false;
  if (bytes.size() > limits::kTraceFileBytesMax) {
    return fail(ErrorSource::policy, ErrorKind::limit,
                file + ": larger than " + std::to_string(limits::kTraceFileBytesMax) + " bytes; split it");
  }
  if (bytes.starts_with(kMark)) return read_binary(bytes, file, take, cut);
  if (!bytes.empty() && kMark.starts_with(bytes)) {  // a crash within the mark
    cut = true;
    return {};
  }
  return read_json_lines(bytes, file, take, cut);
}

}  // namespace sallyport::flow
