#include "ca/permitted_hosts.h"

#include <algorithm>

#include "ca/certificate_form.h"

namespace sallyport::ca {

bool permits(const PermittedHosts& permitted, std::string_view host) {
  if (!permitted) return true;
  const auto has = [&](std::string_view name) { return std::ranges::binary_search(*permitted, name); };
  if (!is_dns_name(host)) return has(host);
  for (std::string_view name = host;;) {
    if (has(name)) return true;
    const std::size_t dot = name.find('.');
    if (dot == std::string_view::npos) return false;
    name.remove_prefix(dot + 1);
  }
}

bool covers(const PermittedHosts& permitted, const PermittedHosts& wanted) {
  if (!permitted || !wanted) return !permitted;
  return std::ranges::all_of(*wanted, [&](const std::string& host) { return permits(permitted, host); });
}

}  // namespace sallyport::ca
