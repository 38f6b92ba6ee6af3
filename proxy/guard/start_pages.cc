#include "proxy/guard/start_pages.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <span>

namespace sallyport::guard {
namespace {

// Only what nobody can have written: dropping a page that is not the file's any more would lose what it holds.
bool is_unwritten(const ElfW(Phdr) & segment) { return segment.p_type == PT_LOAD && (segment.p_flags & PF_W) == 0; }

bool has_relocated_text(ElfW(Addr) base, std::span<const ElfW(Phdr)> segments) {
  for (const ElfW(Phdr) & segment : segments) {
    if (segment.p_type != PT_DYNAMIC) continue;
    for (auto* entry = reinterpret_cast<const ElfW(Dyn)*>(base + segment.p_vaddr); entry->d_tag != DT_NULL; ++entry) {
      if (entry->d_tag == DT_TEXTREL) return true;
      if (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL) != 0) return true;
    }
  }
  return false;
}

int drop_object(dl_phdr_info* object, std::size_t, void* page_size) {
  const std::span segments(object->dlpi_phdr, object->dlpi_phnum);
  if (has_relocated_text(object->dlpi_addr, segments)) return 0;
  const auto page = *static_cast<const ElfW(Addr)*>(page_size);
  for (const ElfW(Phdr) & segment : segments) {
    if (!is_unwritten(segment)) continue;
    // Whole pages inside of the segment: its edges may share theirs with one that is written to.
    const ElfW(Addr) begin = (object->dlpi_addr + segment.p_vaddr + page - 1) / page * page;
    const ElfW(Addr) end = (object->dlpi_addr + segment.p_vaddr + segment.p_memsz) / page * page;
    // tidy:allow(performance-no-int-to-ptr): addresses of segments come as numbers
    if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
  return 0;
}

}  // namespace

void give_back_start_pages() {
  auto page = static_cast<ElfW(Addr)>(::sysconf(_SC_PAGESIZE));
  ::dl_iterate_phdr(drop_object, &page);
  ::malloc_trim(0);
}

}  // namespace sallyport::guard
