#pragma once
// The CAs of one application, below which each guard has an intermediate of its own. As a rule there is one. While
// another takes its place both are trusted: the new one signs once functions have had time to learn of it, and the old
// one goes when nothing that it has signed is good any more. One that stands alone ends the trust in all before it at
// once. Storing is for its owner. Any thread.

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "ca/authority.h"
#include "controller/store/store.h"

namespace sallyport::controller {

// As a secret of its application whose name no policy can say.
std::string tenant_ca_name(std::uint64_t number);
std::optional<std::uint64_t> tenant_ca_number(std::string_view secret_name);

// A root of its own, as each application begins with.
Result<ca::Authority> make_tenant_ca(const std::string& application, Time now);

struct StoredTenantCa {
  std::uint64_t number = 0;
  ca::Authority authority;
  Time signs_from;
  bool alone = false;
};
// ErrorKind::invalid: what lies in the store is none.
Result<StoredTenantCa> read_tenant_ca(const SecretRow& row, Time now);
// ErrorKind::limit: it is too large to be kept.
Result<SecretRow> write_tenant_ca(const std::string& application, const StoredTenantCa& ca);

class TenantCa {
 public:
  void put(StoredTenantCa ca);
  void drop(std::uint64_t number);
  std::uint64_t newest() const;  // 0: there is none
  std::size_t size() const;      // of those that are trusted
  // Whether one that has signed has this root.
  bool has_signed_below(const std::string& trust_pem, Time now) const;
  // The numbers of those below which nothing is good any more, and of those that are not trusted.
  std::vector<std::uint64_t> over(Time now) const;
  // What functions have to trust, in PEM.
  std::string trusted() const;

  struct Wanted {
    ca::RequestedKey key;
    std::string guard;  // as the certificate's subject has it
    ca::PermittedHosts hosts;
    std::chrono::seconds lifetime{0};
  };
  struct Given {
    std::string certificates;
    ca::TimePoint ends;
  };
  // Fails as Authority::sign_intermediate() does, and where there is no CA.
  Result<Given> sign(const Wanted& wanted, Time now) const;

 private:
  using All = std::map<std::uint64_t, StoredTenantCa>;
  All::const_iterator first() const;  // that is trusted
  All::const_iterator signing(Time now) const;

  mutable std::mutex mutex_;  // also of OpenSSL's work with the keys
  All all_;
};

}  // namespace sallyport::controller
