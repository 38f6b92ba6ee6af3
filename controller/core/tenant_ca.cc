#include "controller/core/tenant_ca.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/limits.h"
#include "controller/api/tenant_ca.pb.h"

namespace sallyport::controller {

namespace {

constexpr std::string_view kPrefix = "ca:";  // no name of a secret that people give has a colon

ca::TimePoint seconds_of(Time time) { return std::chrono::floor<std::chrono::seconds>(time); }

}  // namespace

std::string tenant_ca_name(std::uint64_t number) { return std::string(kPrefix) + std::to_string(number); }

std::optional<std::uint64_t> tenant_ca_number(std::string_view secret_name) {
  if (!secret_name.starts_with(kPrefix)) return std::nullopt;
  std::uint64_t out = 0;
  std::from_chars(secret_name.data() + kPrefix.size(), secret_name.data() + secret_name.size(), out);
  return out;
}

Result<ca::Authority> make_tenant_ca(const std::string& application, Time now) {
  return ca::Authority::create_root(
      nullptr, {.name = ("Sallyport CA of " + application).substr(0, 64), .lifetime = limits::kTenantCaLifetime},
      seconds_of(now));
}

Result<StoredTenantCa> read_tenant_ca(const SecretRow& row, Time now) {
  const std::string name = "the CA of " + row.application;
  v1alpha1::TenantCaKeys keys;
  if (!keys.ParseFromArray(row.value.view().data(), static_cast<int>(row.value.view().size()))) {
    return fail(ErrorSource::controller, ErrorKind::invalid, name + " in the store can't be read");
  }
  auto authority = ca::Authority::load(nullptr, {name, keys.certificates()}, {name, keys.key()}, seconds_of(now));
  OPENSSL_cleanse(keys.mutable_key()->data(), keys.key().size());
  if (!authority) return std::unexpected(authority.error());
  return StoredTenantCa{*tenant_ca_number(row.name), std::move(*authority),
                        Time(std::chrono::milliseconds(keys.signs_from_ms())), keys.alone()};
}

Result<SecretRow> write_tenant_ca(const std::string& application, const StoredTenantCa& ca) {
  const auto key = ca::private_key_pem(ca.authority.key());
  if (!key) return std::unexpected(key.error());
  v1alpha1::TenantCaKeys keys;
  keys.set_certificates(ca.authority.certificate_pem());
  keys.set_key(std::string(ca::bio_view(key->get())));
  keys.set_signs_from_ms(ca.signs_from.time_since_epoch().count());
  keys.set_alone(ca.alone);
  std::string text = keys.SerializeAsString();
  auto value = credentials::Secret::copy_of(text);
  OPENSSL_cleanse(text.data(), text.size());
  OPENSSL_cleanse(keys.mutable_key()->data(), keys.key().size());
  if (!value) return std::unexpected(value.error());
  return SecretRow{application, tenant_ca_name(ca.number), std::move(*value)};
}

void TenantCa::put(StoredTenantCa ca) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t number = ca.number;
  all_.insert_or_assign(number, std::move(ca));
}

void TenantCa::drop(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  all_.erase(number);
}

std::uint64_t TenantCa::newest() const {
  const std::lock_guard lock(mutex_);
  return all_.empty() ? 0 : all_.rbegin()->first;
}

std::size_t TenantCa::size() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(std::distance(first(), all_.end()));
}

// The newest that stands alone; where none does, the oldest.
TenantCa::All::const_iterator TenantCa::first() const {
  for (auto each = all_.end(); each != all_.begin();) {
    if ((--each)->second.alone) return each;
  }
  return all_.begin();
}

// The newest whose time has come; before that of any, the oldest that is trusted.
TenantCa::All::const_iterator TenantCa::signing(Time now) const {
  for (auto each = all_.end(); each != first();) {
    if ((--each)->second.signs_from <= now) return each;
  }
  return first();
}

bool TenantCa::has_signed_below(const std::string& trust_pem, Time now) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::any_of(all_, [&](const auto& each) {
    return each.second.signs_from <= now && each.second.authority.trust_pem() == trust_pem;
  });
}

std::vector<std::uint64_t> TenantCa::over(Time now) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::uint64_t> out;
  auto end = signing(now);
  if (end != all_.end() && end->second.signs_from + limits::kGuardCertificateLifetime > now) end = first();
  for (auto each = all_.begin(); each != end; ++each) out.push_back(each->first);
  return out;
}

std::string TenantCa::trusted() const {
  const std::lock_guard lock(mutex_);
  std::string out;
  for (auto each = first(); each != all_.end(); ++each) out += each->second.authority.trust_pem();
  return out;
}

Result<TenantCa::Given> TenantCa::sign(const Wanted& wanted, Time now) const {
  const std::lock_guard lock(mutex_);
  const auto found = signing(now);
  if (found == all_.end()) {
    return fail(ErrorSource::controller, ErrorKind::unavailable, "the application has no CA");
  }
  const ca::Authority& authority = found->second.authority;
  const auto made = authority.sign_intermediate(wanted.key, wanted.guard.substr(0, 64), wanted.hosts, wanted.lifetime,
                                                seconds_of(now));
  if (!made) return std::unexpected(made.error());
  auto pem = ca::chain_pem(made->get(), nullptr);
  if (!pem) return std::unexpected(pem.error());
  return Given{*pem + authority.certificate_pem(), std::min(authority.not_after(), seconds_of(now) + wanted.lifetime)};
}

}  // namespace sallyport::controller
