#include "proxy/guard/capacity.h"

#include <sys/resource.h>

#include <algorithm>

#include "base/limits.h"

namespace sallyport::guard {

std::size_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlimit raised{limit.rlim_max, limit.rlim_max};
  if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  return limit.rlim_cur;
}

Capacity capacity_per_worker(std::size_t descriptors, std::size_t workers) {
  const std::size_t others = std::min(limits::kDescriptorsReservedMax, descriptors / 4);
  const std::size_t each = (descriptors - others) / workers;
  Capacity capacity;
  capacity.reserve = std::clamp(each / 16, std::size_t{1}, limits::kReservePerWorkerMax);
  const std::size_t left = each > capacity.reserve ? each - capacity.reserve : 0;
  capacity.places = std::clamp(left / 2, std::size_t{1}, limits::kPlacesPerWorkerMax);
  return capacity;
}

}  // namespace sallyport::guard
