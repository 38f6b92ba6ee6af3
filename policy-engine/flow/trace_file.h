#pragma once
// Traces as files: JSON lines (protobuf's JSON, one trace a line), or protobuf's varint-delimited messages behind the 8
// bytes "SLPTRC1\n".

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "policy-engine/api/flow.pb.h"

namespace sallyport::flow {

enum class TraceForm : std::uint8_t { json_lines, binary };

// Appends one trace; `first` where the file begins, as the binary form has a mark there. Appends nothing for a trace
// that could not be read again: of more than limits::kTraceBytesMax, with strings that are not UTF-8, or with times out
// of range.
void append_trace(std::string& out, const v1alpha1::Trace& trace, TraceForm form, bool first);

using TakeTrace = std::function<Result<void>(v1alpha1::Trace&&)>;

// Reads every trace of `bytes`, in either form, and gives each to `take`, until that fails. All have passed
// learning::check_trace. ErrorKind::malformed names the line (or the message by its number and offset). A last trace
// that was cut off (no line end, or fewer bytes than its length says), as after a crash, is left out and `cut` set:
// that is no error.
Result<void> read_traces(std::string_view bytes, const std::string& file, const TakeTrace& take, bool& cut);

// The same of bytes that come in pieces, of which one is in memory at a time, with what is left of the one before.
// `read` fills the room that it is given, or a part of it, and returns how many bytes that were; 0 at the end.
using ReadPiece = std::function<Result<std::size_t>(std::span<char> room)>;
Result<void> read_trace_pieces(const ReadPiece& read, const std::string& file, const TakeTrace& take, bool& cut);

// The same of a file of any size; "-" is standard input.
Result<void> read_trace_file(const std::string& path, const TakeTrace& take, bool& cut);

}  // namespace sallyport::flow
