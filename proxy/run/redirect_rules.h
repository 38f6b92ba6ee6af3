#pragma once
// The packet filter inside the command's namespace: TCP and DNS go to the guard's listeners, loopback stays loopback,
// all else is refused at once.

#include <string>
#include <string_view>

#include "base/error.h"

namespace sallyport::run {

// Which of the kernel's two interfaces makes the rules. `any` tries nf_tables first.
enum class PacketFilter { any, nf_tables, iptables };

// Installs all rules or fails. IPv4 and IPv6 are always made together where the namespace has both: a namespace that is
// guarded for one of them only is an error. Error: unavailable, with what to install.
Result<void> install_redirect_rules(bool ipv6, PacketFilter with = PacketFilter::any);

}  // namespace sallyport::run
