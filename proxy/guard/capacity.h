#pragma once
// How many connections this process has descriptors for.

#include <cstddef>

namespace sallyport::guard {

// Raises this process's limit of open descriptors to the most that it may have, and returns it. Children that are
// started later inherit it. When the kernel refuses, what there was stays.
std::size_t raise_descriptor_limit();

// Connections of each of `workers`, when the process may have `descriptors` open: each takes one for the function and
// one for the upstream, so that who is let in can also be served. At least 1, at most limits::kConnectionsPerWorkerMax.
std::size_t connections_per_worker(std::size_t descriptors, std::size_t workers);

}  // namespace sallyport::guard
