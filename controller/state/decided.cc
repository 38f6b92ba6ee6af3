#include "controller/state/decided.h"

#include <algorithm>

#include "controller/api/decided.pb.h"

namespace sallyport::controller {

namespace {

template <class Id>
bool read_id(const std::string& bytes, Id& out) {
  if (bytes.size() != out.size()) return false;
  std::ranges::copy(bytes, out.begin());
  return true;
}

std::string bytes_of(const std::array<unsigned char, 16>& id) { return {id.begin(), id.end()}; }

}  // namespace

std::string to_bytes(const Decided& decided) {
  v1alpha1::Decided out;
  out.set_time_ms(decided.time.time_since_epoch().count());
  out.set_guard_id(bytes_of(decided.guard));
  out.set_function(decided.function);
  out.set_execution(bytes_of(decided.execution));
  out.set_request_id(bytes_of(decided.request));
  if (decided.from_execution != ExecutionId{}) {
    out.set_from_guard_id(bytes_of(decided.from_guard));
    out.set_from_execution(bytes_of(decided.from_execution));
    out.set_flow(decided.flow);
    out.set_by_tag(decided.by_tag);
  }
  return out.SerializeAsString();
}

Result<Decided> read_decided(std::string_view bytes) {
  v1alpha1::Decided in;
  Decided decided;
  bool good = in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  good = good && read_id(in.guard_id(), decided.guard) && read_id(in.execution(), decided.execution);
  good = good && read_id(in.request_id(), decided.request) && !in.function().empty();
  if (good && !in.from_execution().empty()) {
    good = read_id(in.from_guard_id(), decided.from_guard) && read_id(in.from_execution(), decided.from_execution);
  }
  if (!good) {
    return fail(ErrorSource::controller, ErrorKind::malformed, "a stored decision cannot be read");
  }
  decided.time = Time(std::chrono::milliseconds(in.time_ms()));
  decided.function = in.function();
  decided.flow = in.flow();
  decided.by_tag = in.by_tag();
  return decided;
}

}  // namespace sallyport::controller
