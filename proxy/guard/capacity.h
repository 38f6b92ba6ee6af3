#pragma once
// How many connections this process has descriptors for.

#include <cstddef>

namespace sallyport::guard {

// Raises this process's limit of open descriptors to the most that it may have, and returns it. Children that are
// started later inherit it. When the kernel refuses, what there was stays.
std::size_t raise_descriptor_limit();

// What one worker has room for.
struct Capacity {
  std::size_t places = 1;   // for who is served: a descriptor for the function and one for the upstream, each
  std::size_t reserve = 1;  // connections beyond them, which are only told that there is no place
  bool operator==(const Capacity&) const = default;
};

// Of each of `workers`, when the process may have `descriptors` open: who gets a place can also be served. At least 1
// of either; at most limits::kPlacesPerWorkerMax and limits::kReservePerWorkerMax.
Capacity capacity_per_worker(std::size_t descriptors, std::size_t workers);

}  // namespace sallyport::guard
