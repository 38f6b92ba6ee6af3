// What people change and look at. Each change is stored and stands in the audit trail before guards are given it.
#include <algorithm>
#include <utility>

#include "base/random.h"
#include "controller/core/controller.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/names.h"
#include "policy-engine/tag/tag.h"

namespace sallyport::controller {

namespace {

std::unexpected<Error> unresolved(std::string text) {
  return fail(ErrorSource::controller, ErrorKind::unresolved, std::move(text));
}

std::unexpected<Error> invalid(std::string text) {
  return fail(ErrorSource::controller, ErrorKind::invalid, std::move(text));
}

}  // namespace

Result<std::shared_ptr<Controller::Application>> Controller::need(std::string_view application) const {
  auto found = find(application);
  if (found == nullptr) {
    return unresolved("there is no application " + document::quoted(application) + "; sallyport app create makes one");
  }
  return found;
}

Result<void> Controller::audit(const std::string& who, const std::string& what, const std::string& about,
                               const std::string& detail) {
  say(who + ": " + what + " " + about);
  return store_.audit({clock_.now(), who, what, about, detail});
}

Result<void> Controller::create_application(const std::string& name, const std::string& who) {
  const std::lock_guard lock(admin_mutex_);
  if (!document::is_subdomain(name) || !document::is_label(name) || name.size() > limits::kTagApplicationBytesMax) {
    return invalid("the application's name " + document::quoted(name) + " is not valid: up to " +
                   std::to_string(limits::kTagApplicationBytesMax) +
                   " of a-z, 0-9, '.' and '-', starting and ending with a letter or digit");
  }
  if (find(name) != nullptr) {
    return fail(ErrorSource::controller, ErrorKind::refused, "there is an application " + name + " already");
  }
  if (applications().size() >= limits::kApplicationsMax) {
    return fail(ErrorSource::controller, ErrorKind::limit,
                "there are " + std::to_string(limits::kApplicationsMax) + " applications already");
  }
  Document document{.application = name,
                    .function = {},
                    .kind = DocumentKind::application,
                    .text = blank_application_settings(name),
                    .author = who,
                    .time = clock_.now()};
  const auto version = store_.put_document(document, 0);
  if (!version) return std::unexpected(version.error());
  add_application(name);
  if (auto audited = audit(who, "create", name); !audited) return audited;
  if (auto key = put_new_key(name); !key) return key;
  auto made = make_tenant_ca(name, clock_.now());
  if (!made) return std::unexpected(made.error());
  return keep_ca(*find(name), std::move(*made), OldCa::keep);
}

Result<void> Controller::delete_application(const std::string& name, const std::string& who) {
  const std::lock_guard lock(admin_mutex_);
  const auto known = need(name);
  if (!known) return std::unexpected(known.error());
  Application& application = **known;
  const auto let_in = [&](bool again) {
    const std::lock_guard guards_lock(guards_mutex_);
    application.ending = !again;
    return guards_.connected(name);
  };
  const auto forget = [&]() -> Result<void> {
    // Also of one that has said goodbye, and has not gone.
    if (let_in(false) || !members_of(name, {}).empty()) {
      return fail(ErrorSource::controller, ErrorKind::refused,
                  "guards of " + name + " are connected (sallyport guard list -a " + name +
                      "); end them, or revoke their tokens, first");
    }
    if (auto audited = audit(who, "delete", name); !audited) return audited;
    // What its guards have told last is not stored behind this.
    if (!journal_.drain(limits::kStoreDrainTime)) {
      return fail(ErrorSource::controller, ErrorKind::unavailable, "the journal can't be written");
    }
    return store_.drop_application(name);
  };
  if (auto done = forget(); !done) {
    let_in(true);
    return done;
  }
  tokens_.forget_application(name);
  {
    const std::lock_guard guards_lock(guards_mutex_);
    for (const GuardId& id : guards_.forget_application(name)) members_.erase(id);
  }
  const std::unique_lock applications_lock(applications_mutex_);
  applications_.erase(name);
  return {};
}

// The first signs at once: nothing can have been made below another.
Result<void> Controller::keep_ca(Application& application, ca::Authority authority, OldCa old) {
  const std::uint64_t newest = application.ca.newest();
  const Time now = clock_.now();
  const bool alone = newest == 0 || old == OldCa::drop;
  StoredTenantCa ca{newest + 1, std::move(authority), alone ? now : now + limits::kTenantCaSettle, alone};
  auto row = write_tenant_ca(application.catalog.application(), ca);
  if (!row) return std::unexpected(row.error());
  if (auto put = store_.put_secret(*row); !put) return put;
  application.ca.put(std::move(ca));
  return {};
}

Result<void> Controller::put_ca(const std::string& application, std::string_view certificates, std::string_view key,
                                OldCa old, const std::string& who) {
  const std::lock_guard lock(admin_mutex_);
  const auto known = need(application);
  if (!known) return std::unexpected(known.error());
  if (old == OldCa::keep && (*known)->ca.size() >= limits::kTenantCasMax) {
    return fail(ErrorSource::controller, ErrorKind::limit,
                "there are " + std::to_string(limits::kTenantCasMax) +
                    " CAs already; those that were replaced go once nothing below them is good any more");
  }
  const Time now = clock_.now();
  auto authority = certificates.empty() && key.empty()
                       ? make_tenant_ca(application, now)
                       : ca::Authority::load(nullptr, {"the certificate", certificates}, {"the key", key},
                                             std::chrono::floor<std::chrono::seconds>(now));
  if (!authority) return std::unexpected(authority.error());
  if (X509_get_pathlen(authority->certificate()) == 0) {
    return invalid("guards get CAs of their own below this one, and its pathLenConstraint of 0 allows none");
  }
  // Dropping it would be a promise that nobody keeps: who trusts the root trusts whatever is below it.
  if (old == OldCa::drop && (*known)->ca.has_signed_below(authority->trust_pem(), now)) {
    return invalid("the new CA has the root of one before it, and who trusts that root would go on trusting both");
  }
  const char* const what = old == OldCa::drop ? "put another CA, and drop those before it, for" : "put another CA for";
  if (auto audited = audit(who, what, application); !audited) return audited;
  if (auto kept = keep_ca(**known, std::move(*authority), old); !kept) return kept;
  distribute_to_all(**known);
  return {};
}

Result<std::string> Controller::trusted(const std::string& application) const {
  const auto known = need(application);
  if (!known) return std::unexpected(known.error());
  return (*known)->ca.trusted();
}

Result<void> Controller::put_new_key(const std::string& name) {
  const auto application = find(name);
  std::array<unsigned char, tag::kKeyBytes> bytes{};
  if (!random_bytes(bytes)) {
    return fail(ErrorSource::internal, ErrorKind::unavailable, "the machine has no randomness");
  }
  const std::string_view view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  auto stored = credentials::Secret::copy_of(view);
  auto kept = credentials::Secret::copy_of(view);
  if (!stored) return std::unexpected(stored.error());
  if (!kept) return std::unexpected(kept.error());
  const auto keys = application->catalog.tag_keys();
  const std::uint64_t number = keys.empty() ? 1 : keys.front().first + 1;
  const Time now = clock_.now();
  auto put = store_.put_tag_key({name, number, std::move(*stored), now});
  if (!put) return put;
  application->catalog.put_tag_key({name, number, std::move(*kept), now});
  distribute_to_all(*application);
  return {};
}

Result<void> Controller::rotate_tag_key(const std::string& application, const std::string& who) {
  const std::lock_guard lock(admin_mutex_);
  if (const auto known = need(application); !known) return std::unexpected(known.error());
  if (auto audited = audit(who, "rotate the tag key of", application); !audited) return audited;
  return put_new_key(application);
}

std::vector<std::string> Controller::applications() const {
  const std::shared_lock lock(applications_mutex_);
  std::vector<std::string> out;
  for (const auto& [name, application] : applications_) out.push_back(name);
  return out;
}

std::vector<Controller::FunctionFigures> Controller::functions(const std::string& application) const {
  const auto found = find(application);
  std::vector<FunctionFigures> out;
  if (found == nullptr) return out;
  for (const std::string& name : found->catalog.functions()) {
    const std::lock_guard lock(guards_mutex_);
    out.push_back({name, guards_.running(application, name), found->catalog.instances_max(name),
                   found->catalog.versions_of(name)});
  }
  return out;
}

Result<std::vector<Controller::LimitFigures>> Controller::limits(const std::string& application) const {
  const auto known = need(application);
  if (!known) return std::unexpected(known.error());
  std::vector<LimitFigures> out;
  for (ApplicationSettings::Limit& limit : (*known)->catalog.limits()) {
    std::vector<Tracker::Bucket> buckets = (*known)->tracker.buckets_of(limit.limit, clock_.now());
    out.push_back({std::move(limit), std::move(buckets)});
  }
  return out;
}

std::vector<Controller::TagKeyFigures> Controller::tag_keys(const std::string& application) const {
  const auto found = find(application);
  std::vector<TagKeyFigures> out;
  if (found == nullptr) return out;
  const std::uint64_t making = found->catalog.making_key(clock_.now());
  for (const auto& [number, made] : found->catalog.tag_keys()) out.push_back({number, made, number == making});
  return out;
}

Result<Controller::Put> Controller::put_document(Document document, std::uint64_t after, const std::string& who) {
  const std::lock_guard lock(admin_mutex_);
  return put_checked(std::move(document), after, who);
}

Result<Controller::Put> Controller::put_checked(Document document, std::uint64_t after, const std::string& who) {
  const auto application = need(document.application);
  if (!application) return std::unexpected(application.error());
  const bool of_function = document.kind == DocumentKind::policy || document.kind == DocumentKind::graph;
  if (of_function && !document::is_subdomain(document.function)) {
    return invalid("the function's name " + document::quoted(document.function) + " is not valid");
  }
  if (!of_function) document.function.clear();
  if (document.text.empty()) {
    const auto all = store_.versions(document.application, document.function, document.kind);
    if (!all) return std::unexpected(all.error());
    if (all->empty() || all->front().text.empty()) return unresolved("there is no " + name_of(document));
  }
  Put out;
  Catalog::Read read = (*application)->catalog.read(document);
  out.diagnostics = read.diagnostics;
  if (!read.good()) return out;
  document.author = who;
  document.time = clock_.now();
  const auto version = store_.put_document(document, after);
  if (!version) return std::unexpected(version.error());
  out.version = document.version = *version;
  const std::string what = document.text.empty() ? "take away" : "put version " + std::to_string(*version) + " of";
  if (auto audited = audit(who, what, name_of(document)); !audited) return std::unexpected(audited.error());
  (*application)->catalog.put(document, std::move(read));
  if (auto effective = take_effect(**application, document); !effective) return std::unexpected(effective.error());
  return out;
}

Result<void> Controller::take_effect(Application& application, const Document& document) {
  const Time now = clock_.now();
  switch (document.kind) {
    case DocumentKind::policy:
    case DocumentKind::graph:
      distribute(application, document.function);
      return {};
    case DocumentKind::application_graph: {
      auto built = application.tracker.set_graph(application.catalog.application_graph(), store_, now);
      distribute_to_all(application);
      return built;
    }
    case DocumentKind::application:
      application.tracker.set_limits(application.catalog.limits(), now);
      distribute_to_all(application);
      return {};
  }
  return {};
}

Result<std::vector<Document>> Controller::versions(const Document& which) const {
  if (const auto known = need(which.application); !known) return std::unexpected(known.error());
  return store_.versions(which.application, which.function, which.kind);
}

Result<Controller::Put> Controller::roll_back(const Document& which, std::uint64_t version, const std::string& who) {
  const std::lock_guard lock(admin_mutex_);
  auto all = versions(which);
  if (!all) return std::unexpected(all.error());
  if (version == 0 && all->size() > 1) version = (*all)[1].version;
  const auto found = std::ranges::find(*all, version, &Document::version);
  if (found == all->end()) {
    return unresolved(version == 0 ? "there is no version of " + name_of(which) + " before the newest"
                                   : "there is no version " + std::to_string(version) + " of " + name_of(which));
  }
  return put_checked(*found, all->front().version, who);
}

Result<void> Controller::put_secret(const std::string& application, const std::string& name, std::string_view value,
                                    const std::string& who) {
  const std::lock_guard lock(admin_mutex_);
  const auto known = need(application);
  if (!known) return std::unexpected(known.error());
  if (!document::is_label(name)) {
    return invalid("the secret's name " + document::quoted(name) +
                   " is not valid: up to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit at both ends");
  }
  auto stored = credentials::Secret::from_source(value, "the secret " + name);
  if (!stored) return std::unexpected(stored.error());
  auto kept = credentials::Secret::copy_of(stored->view());
  if (!kept) return std::unexpected(kept.error());
  auto put = store_.put_secret({application, name, std::move(*stored)});
  if (!put) return put;
  if (auto audited = audit(who, "put the secret", application + "/" + name); !audited) return audited;
  (*known)->catalog.put_secret(name, std::move(*kept));
  distribute_to_all(**known);
  return {};
}

Result<void> Controller::drop_secret(const std::string& application, const std::string& name, const std::string& who) {
  const std::lock_guard lock(admin_mutex_);
  const auto known = need(application);
  if (!known) return std::unexpected(known.error());
  const std::vector<std::string> names = (*known)->catalog.secret_names();
  if (std::ranges::find(names, name) == names.end()) {
    return unresolved("there is no secret " + document::quoted(name) + " of " + application);
  }
  auto dropped = store_.drop_secret(application, name);
  if (!dropped) return dropped;
  if (auto audited = audit(who, "drop the secret", application + "/" + name); !audited) return audited;
  (*known)->catalog.drop_secret(name);
  distribute_to_all(**known);
  return {};
}

Result<std::vector<std::string>> Controller::secrets(const std::string& application) const {
  const auto known = need(application);
  if (!known) return std::unexpected(known.error());
  return (*known)->catalog.secret_names();
}

Result<MadeToken> Controller::make_token(const std::string& application, const std::string& function,
                                         std::optional<Time> ends, const std::string& who) {
  const std::lock_guard lock(admin_mutex_);
  if (const auto known = need(application); !known) return std::unexpected(known.error());
  auto made = make_join_token(application, function, clock_.now(), ends);
  if (!made) return made;
  auto put = store_.put_token(made->row);
  if (!put) return std::unexpected(put.error());
  auto audited = audit(who, "make the join token",
                       made->row.id + " of " + application + "/" + (function.empty() ? "*" : function));
  if (!audited) return std::unexpected(audited.error());
  tokens_.put(made->row);
  return made;
}

Result<std::string> Controller::believe_this_process(const std::string& application, const std::string& function) {
  auto made = make_join_token(application, function, clock_.now(), std::nullopt);
  if (!made) return std::unexpected(made.error());
  tokens_.put(made->row);
  return std::move(made->text);
}

Result<void> Controller::revoke_token(const std::string& id, const std::string& who) {
  const std::lock_guard lock(admin_mutex_);
  auto all = store_.tokens();
  if (!all) return std::unexpected(all.error());
  const auto found = std::ranges::find(*all, id, &JoinToken::id);
  if (found == all->end()) return unresolved("there is no join token " + document::quoted(id));
  found->revoked = true;
  auto put = store_.put_token(*found);
  if (!put) return put;
  if (auto audited = audit(who, "revoke the join token", id); !audited) return audited;
  tokens_.put(*found);
  drop_guards_of("join token " + id);
  return {};
}

std::vector<Guard> Controller::guards() const {
  const std::lock_guard lock(guards_mutex_);
  std::vector<Guard> out;
  for (const Guard* guard : guards_.all()) out.push_back(*guard);
  return out;
}

Result<Tracker::Figures> Controller::figures(const std::string& application) const {
  const auto known = need(application);
  if (!known) return std::unexpected(known.error());
  return (*known)->tracker.figures();
}

}  // namespace sallyport::controller
