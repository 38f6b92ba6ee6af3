#pragma once
// What only the start has used: pages of code and constants, which the kernel brings again from the file's cache should
// they be needed, and free memory of the heap. A guard stands beside each function, and most of its code reads policies
// and certificates, once.

namespace sallyport::guard {

// Gives it back. Best effort; a microsecond or two for each page that comes again.
void give_back_start_pages();

}  // namespace sallyport::guard
