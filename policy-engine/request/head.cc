#include "policy-engine/request/head.h"

#include <openssl/crypto.h>

#include <algorithm>

namespace sallyport::request {
namespace {

void wipe(std::string& value) { OPENSSL_cleanse(value.data(), value.size()); }

}  // namespace

bool name_equals(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;
    const char folded = static_cast<char>(a[i] | 0x20);
    if (folded != (b[i] | 0x20) || folded < 'a' || folded > 'z') return false;
  }
  return true;
}

HeaderList::~HeaderList() { clear(); }

void HeaderList::clear() {
  fields_.clear();
  for (std::string& value : owned_) wipe(value);
  owned_.clear();
}

// Copied, not moved: a moved-from short string keeps its bytes, and the caller's copy has to be wiped.
void HeaderList::add_owned(std::string_view name, std::string value) {
  fields_.push_back({name, owned_.emplace_front(value)});
  wipe(value);
}

void HeaderList::replace_value(std::size_t i, std::string value) {
  fields_[i].value = owned_.emplace_front(value);
  wipe(value);
}

void HeaderList::erase(std::string_view name) {
  std::erase_if(fields_, [name](const Header& field) { return name_equals(field.name, name); });
}

const Header* HeaderList::find(std::string_view name) const {
  const auto at = std::ranges::find_if(fields_, [name](const Header& field) { return name_equals(field.name, name); });
  return at == fields_.end() ? nullptr : &*at;
}

std::size_t HeaderList::count(std::string_view name) const {
  return static_cast<std::size_t>(
      std::ranges::count_if(fields_, [name](const Header& field) { return name_equals(field.name, name); }));
}

}  // namespace sallyport::request
