#include "proxy/run/confinement.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proxy/run/system_error.h"

namespace sallyport::run {
namespace {

Result<void> empty_the_bounding_set() {
  // The kernel's last capability is found by asking: the headers may be older than the kernel.
  for (unsigned long capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) return system_failure("dropping capabilities");
  }
  return {};
}

constexpr scmp_datum_t kSocketcallSocket = 1,
                       kSocketcallSocketpair = 8;  // SYS_SOCKET and SYS_SOCKETPAIR of <linux/net.h>

// libseccomp answers with a negated errno.
class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ALLOW)) {}
  ~Filter() {
    if (context_ != nullptr) seccomp_release(context_);
  }
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;

  void attribute(scmp_filter_attr name, std::uint32_t value) { keep(seccomp_attr_set(context_, name, value)); }
  void architecture(std::uint32_t token) { keep(seccomp_arch_add(context_, token)); }
  // Refuses a call with errno `number`, always or where the one argument compares as said.
  void refuse(int number, int system_call) {
    keep(seccomp_rule_add_array(context_, SCMP_ACT_ERRNO(static_cast<std::uint16_t>(number)), system_call, 0, nullptr));
  }
  void refuse(int number, int system_call, const scmp_arg_cmp& comparison) {
    keep(seccomp_rule_add_array(context_, SCMP_ACT_ERRNO(static_cast<std::uint16_t>(number)), system_call, 1,
                                &comparison));
  }
  Result<void> load() {
    if (context_ == nullptr) return system_failure("making the system call filter", ENOMEM);
    keep(seccomp_load(context_));
    if (error_ != 0) return system_failure("making the system call filter", error_);
    return {};
  }

 private:
  void keep(int result) {
    if (result < 0 && error_ == 0) error_ = -result;
  }
  scmp_filter_ctx context_;
  int error_ = 0;
};

// vsock reaches the hypervisor, packet and xdp go round the rules, bluetooth and the like reach other machines. Whole
// 64-bit words are compared, so a family with bits set above the 32 that the kernel looks at is greater than netlink
// and refused.
void allow_few_families(Filter& filter, int system_call) {
  constexpr auto kLastAllowed = static_cast<scmp_datum_t>(AF_NETLINK);
  for (scmp_datum_t family = 0; family < kLastAllowed; ++family) {
    if (family == AF_UNIX || family == AF_INET || family == AF_INET6) continue;
    filter.refuse(EAFNOSUPPORT, system_call, {0, SCMP_CMP_EQ, family, 0});
  }
  filter.refuse(EAFNOSUPPORT, system_call, {0, SCMP_CMP_GT, kLastAllowed, 0});
}

void add_other_architectures(Filter& filter) {
  // Whatever is not named, x32 among it, is answered with ENOSYS and not with death: programs probe for it.
  filter.attribute(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
  switch (seccomp_arch_native()) {
    case SCMP_ARCH_X86_64:
      return filter.architecture(SCMP_ARCH_X86);
    case SCMP_ARCH_AARCH64:
      return filter.architecture(SCMP_ARCH_ARM);
    default:
      return;
  }
}

}  // namespace

Result<void> drop_capability_sets() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capset, &header, none) != 0) return system_failure("dropping capabilities");
  return {};
}

Result<void> drop_privileges() {
  if (auto emptied = empty_the_bounding_set(); !emptied) return emptied;
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return system_failure("dropping capabilities");
  constexpr unsigned long kSecurebits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                                        SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                                        SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
  if (::prctl(PR_SET_SECUREBITS, kSecurebits, 0, 0, 0) != 0) return system_failure("locking the securebits");
  if (auto dropped = drop_capability_sets(); !dropped) return dropped;
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return system_failure("setting no_new_privs");
  return {};
}

Result<void> filter_system_calls() {
  Filter filter;
  add_other_architectures(filter);
  // The filter refuses a few calls; it does not hold untrusted code apart from other code of the same process, so
  // kernels before 5.16 need not slow the command down with speculation mitigations.
  filter.attribute(SCMP_FLTATR_CTL_SSB, 1);
  allow_few_families(filter, SCMP_SYS(socket));
  allow_few_families(filter, SCMP_SYS(socketpair));
  // i386 programs may make sockets through one call whose arguments lie in memory, where no filter sees them: refused
  // whole.
  filter.refuse(EAFNOSUPPORT, SCMP_SYS(socketcall), {0, SCMP_CMP_EQ, kSocketcallSocket, 0});
  filter.refuse(EAFNOSUPPORT, SCMP_SYS(socketcall), {0, SCMP_CMP_EQ, kSocketcallSocketpair, 0});
  // Its SOCKET operation would make sockets past this filter.
  filter.refuse(ENOSYS, SCMP_SYS(io_uring_setup));
  // For keys of type dns_resolver the kernel starts a program in the host's namespaces that asks the host's name
  // servers.
  filter.refuse(ENOSYS, SCMP_SYS(request_key));
  // The kernel looks at 32 bits of an ioctl's number; so must the filter.
  constexpr scmp_datum_t kIoctlBits = 0xffff'ffff;
  filter.refuse(EPERM, SCMP_SYS(ioctl), {1, SCMP_CMP_MASKED_EQ, kIoctlBits, TIOCSTI});
  filter.refuse(EPERM, SCMP_SYS(ioctl), {1, SCMP_CMP_MASKED_EQ, kIoctlBits, TIOCLINUX});
  return filter.load();
}

}  // namespace sallyport::run
