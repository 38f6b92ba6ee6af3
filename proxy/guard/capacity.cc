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

std::size_t connections_per_worker(std::size_t descriptors, std::size_t workers) {
  const std::size_t reserved = std::min(limits::kDescriptorsReservedMax, descriptors / 4);
  return std::clamp((descriptors - reserved) / 2 / workers, std::size_t{1}, limits::kConnectionsPerWorkerMax);
}

}  // namespace sallyport::guard
