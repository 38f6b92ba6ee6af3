#include "controller/core/controller.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "base/hex.h"
#include "base/random.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/names.h"
#include "policy-engine/tag/tag.h"

namespace sallyport::controller {

namespace {

using v1alpha1::Envelope;
using v1alpha1::Refused;
using v1alpha1::RefusedReason;

std::unexpected<Error> unresolved(std::string text) {
  return fail(ErrorSource::controller, ErrorKind::unresolved, std::move(text));
}

std::unexpected<Error> invalid(std::string text) {
  return fail(ErrorSource::controller, ErrorKind::invalid, std::move(text));
}

Refused refused(RefusedReason reason, std::string text) {
  Refused out;
  out.set_reason(reason);
  out.set_text(std::move(text));
  return out;
}

// It is shown to people, and stored.
bool is_instance(std::string_view text) {
  return !text.empty() && text.size() <= limits::kInstanceBytesMax &&
         std::ranges::all_of(text, [](char byte) { return byte > ' ' && byte < 0x7F; });
}

std::string what_of(const Document& document) {
  std::string out = document.application;
  if (!document.function.empty()) out += "/" + document.function;
  return out + " " + std::string(to_string(document.kind));
}

Result<ca::Authority> make_ca(const std::string& application, Time now) {
  return ca::Authority::create_root(
      nullptr, {.name = ("Sallyport CA of " + application).substr(0, 64), .lifetime = limits::kTenantCaLifetime},
      std::chrono::floor<std::chrono::seconds>(now));
}

bool has_errors(const std::vector<document::Diagnostic>& diagnostics) {
  return std::ranges::any_of(diagnostics, [](const document::Diagnostic& each) { return !each.warning; });
}

}  // namespace

Controller::Controller(Store& store, ControllerOptions options)
    : store_(store),
      options_(std::move(options)),
      alarms_(store,
              [this](const AlarmRow& alarm) {
                std::string text = "alarm " + alarm.kind + " in " + alarm.application;
                if (!alarm.function.empty()) text += "/" + alarm.function;
                if (!alarm.about.empty()) text += " (" + alarm.about + ")";
                say(text + ": " + alarm.text);
              }),
      journal_(store, [this](const std::string& trouble) {
        say(trouble.empty() ? "the store works again"
                            : "the store can't be written: " + trouble +
                                  "; no entry is allowed that would have to be stored, and guards keep their events");
      }) {}

Controller::~Controller() {
  {
    const std::lock_guard lock(clock_mutex_);
    stopping_ = true;
  }
  clock_changed_.notify_all();
  if (clock_thread_.joinable()) clock_thread_.join();
}

Result<std::unique_ptr<Controller>> Controller::start(Store& store, ControllerOptions options) {
  std::unique_ptr<Controller> controller(new Controller(store, std::move(options)));
  if (auto loaded = controller->load(); !loaded) return std::unexpected(loaded.error());
  controller->clock_thread_ = std::thread([raw = controller.get()] { raw->run_clock(); });
  return controller;
}

Result<void> Controller::load() {
  const auto latest = store_.latest();
  if (!latest) return std::unexpected(latest.error());
  if (const auto behind = *latest - clock_.now(); behind.count() > 0) {
    say("the machine's clock is " + std::to_string(behind.count()) +
        " ms behind what has been stored; times go on from there");
  }
  clock_.go_on_from(*latest);
  const Time now = clock_.now();
  generation_ = static_cast<std::uint64_t>(std::max<std::int64_t>(now.time_since_epoch().count(), 0));
  auto documents = store_.documents();
  auto secrets = store_.secrets();
  auto keys = store_.tag_keys();
  auto tokens = store_.tokens();
  auto guards = store_.guards();
  if (!documents) return std::unexpected(documents.error());
  if (!secrets) return std::unexpected(secrets.error());
  if (!keys) return std::unexpected(keys.error());
  if (!tokens) return std::unexpected(tokens.error());
  if (!guards) return std::unexpected(guards.error());
  std::set<std::string> with_ca;
  for (SecretRow& row : *secrets) {
    Application& application = add_application(row.application);
    if (!tenant_ca_number(row.name)) {
      application.catalog.put_secret(row.name, std::move(row.value));
      continue;
    }
    with_ca.insert(row.application);
    // One that has expired, or is damaged: its guards are given nothing of it, and serve nobody. Fails closed.
    auto authority = read_tenant_ca(row, now);
    if (authority) application.ca.put(std::move(*authority));
    if (!authority) say(authority.error().text);
  }
  for (TagKeyRow& row : *keys) {
    Catalog& catalog = add_application(row.application).catalog;
    catalog.put_tag_key(std::move(row));
  }
  for (const JoinToken& token : *tokens) tokens_.put(token);
  guards_.load(std::move(*guards), now);
  // Graphs before the policies that want them.
  for (const bool policies : {false, true}) {
    for (const Document& document : *documents) {
      if ((document.kind == DocumentKind::policy) != policies) continue;
      // One of an older version, by whose rules it was good, may have errors. It is not in force: fails closed.
      for (const auto& diagnostic : add_application(document.application).catalog.put(document, what_of(document))) {
        if (!diagnostic.warning) say("stored " + diagnostic.to_string());
      }
    }
  }
  for (const auto& [name, application] : applications_) {
    application->tracker.set_limits(application->catalog.limits(), now);
    application->tracker.begin(application->catalog.application_graph());
    if (with_ca.contains(name)) continue;
    auto made = make_ca(name, now);
    if (!made) return std::unexpected(made.error());
    if (auto kept = keep_ca(*application, std::move(*made)); !kept) return kept;
  }
  return store_.replay(now - memory(), [this](Store::Entry&& entry) -> Result<void> {
    Application* const application = find(entry.events ? entry.events->application : entry.decided->application);
    return application == nullptr ? Result<void>{} : application->tracker.replay(entry);
  });
}

// How far back in the journal there is what matters for the state of an application.
std::chrono::milliseconds Controller::memory() const {
  std::chrono::milliseconds longest{};
  for (const std::string& name : applications()) longest = std::max(longest, find(name)->tracker.memory());
  return longest;
}

Controller::Application& Controller::add_application(const std::string& name) {
  const std::unique_lock lock(applications_mutex_);
  auto& application = applications_[name];
  if (!application) application = std::make_unique<Application>(name, journal_, alarms_, options_.budgets);
  return *application;
}

Controller::Application* Controller::find(std::string_view application) const {
  const std::shared_lock lock(applications_mutex_);
  const auto found = applications_.find(application);
  return found == applications_.end() ? nullptr : found->second.get();
}

Result<Controller::Application*> Controller::need(std::string_view application) const {
  Application* const found = find(application);
  if (found == nullptr) {
    return unresolved("there is no application " + document::quoted(application) + "; sallyport app create makes one");
  }
  return found;
}

std::optional<Controller::Session> Controller::session(LinkId link) const {
  const std::shared_lock lock(sessions_mutex_);
  const auto found = sessions_.find(link);
  return found == sessions_.end() ? std::nullopt : std::optional(found->second);
}

// Guards.

void Controller::connected(Links& way, LinkId link, v1alpha1::Register&& wanted) {
  if (!wanted.service_account_token().empty()) return review(way, link, std::move(wanted));
  const Result<std::string> subject =
      wanted.join_token().empty()
          ? fail(ErrorSource::controller, ErrorKind::refused, "a join token or a service account's token is wanted")
          : tokens_.check(wanted.join_token(), wanted.application(), wanted.function(), clock_.now());
  if (!subject) return way.close(link, refused(v1alpha1::REFUSED_REASON_CREDENTIAL, subject.error().text));
  admit(way, link, wanted, *subject);
}

void Controller::review(Links& way, LinkId link, v1alpha1::Register&& wanted) {
  if (options_.reviewer == nullptr) {
    return way.close(link, refused(v1alpha1::REFUSED_REASON_CREDENTIAL,
                                   "this controller believes no service accounts: kubernetes in its configuration"));
  }
  {
    const std::unique_lock lock(sessions_mutex_);
    reviewed_.insert(link);
  }
  std::string token = std::move(*wanted.mutable_service_account_token());
  options_.reviewer->review(std::move(token), [this, &way, link, wanted = std::move(wanted)](const auto& reviewed) {
    const Result<std::string> subject = judge(reviewed, wanted);
    if (subject) return admit(way, link, wanted, *subject);
    {
      const std::unique_lock lock(sessions_mutex_);
      if (reviewed_.erase(link) == 0) return;  // it has not waited
    }
    const bool later = subject.error().kind == ErrorKind::unavailable;
    if (later) say("a guard of " + wanted.application() + "/" + wanted.function() + ": " + subject.error().text);
    way.close(link, refused(later ? v1alpha1::REFUSED_REASON_OVERLOADED : v1alpha1::REFUSED_REASON_CREDENTIAL,
                            subject.error().text));
  });
}

// Whom the guard is of, as Kubernetes and the application's settings have it.
Result<std::string> Controller::judge(const Result<ReviewedToken>& token, const v1alpha1::Register& wanted) const {
  if (!token) return std::unexpected(token.error());
  const Application* const application = find(wanted.application());
  if (application == nullptr || !application->catalog.believes(wanted.function(), token->account)) {
    return fail(ErrorSource::controller, ErrorKind::refused,
                "the service account " + token->account + " is none of the function " +
                    document::quoted(wanted.function()) + ": serviceAccounts in the application's settings");
  }
  std::string out = "service account " + token->account;
  if (!token->pod_uid.empty()) out += ", pod " + token->pod + " " + token->pod_uid;
  return out;
}

void Controller::admit(Links& way, LinkId link, const v1alpha1::Register& wanted, const std::string& subject) {
  // What is known of guards and policies may be old: fails closed, and the guard comes again.
  if (!store_.ours()) {
    return way.close(link, refused(v1alpha1::REFUSED_REASON_OVERLOADED, "another controller may be in charge"));
  }
  Application* const application = find(wanted.application());
  if (application == nullptr || !application->catalog.has_function(wanted.function())) {
    return way.close(link, refused(v1alpha1::REFUSED_REASON_FUNCTION, "the application has no function " +
                                                                          document::quoted(wanted.function()) +
                                                                          "; put a policy for it first"));
  }
  if (!is_instance(wanted.instance())) {
    return way.close(link, refused(v1alpha1::REFUSED_REASON_MALFORMED, "an instance's name is 1 to " +
                                                                           std::to_string(limits::kInstanceBytesMax) +
                                                                           " printable bytes without blanks"));
  }
  GuardTable::Arrival arrival{wanted.application(), wanted.function(), wanted.instance(), subject, std::nullopt};
  if (GuardId shown{}; wanted.guard_id().size() == shown.size()) {
    std::memcpy(shown.data(), wanted.guard_id().data(), shown.size());
    arrival.shown = shown;
  }
  const std::uint32_t instances = application->catalog.instances_max(wanted.function());
  std::shared_ptr<Member> member;
  GuardRow row;
  bool fresh = false;
  LinkId replaced{};
  {
    const std::lock_guard lock(guards_mutex_);
    const auto admitted =
        guards_.admit(arrival, link, clock_.now(), instances == 0 ? SIZE_MAX : std::size_t{instances});
    if (!admitted) {
      const bool many = admitted.error().kind == ErrorKind::limit;
      if (many) raise(wanted.application(), "too-many-instances", wanted.function(), "", admitted.error().text);
      return way.close(link, refused(many ? v1alpha1::REFUSED_REASON_INSTANCES : v1alpha1::REFUSED_REASON_OVERLOADED,
                                     admitted.error().text));
    }
    row = admitted->guard->row;
    fresh = admitted->fresh;
    replaced = admitted->replaced;
    auto& known = members_[row.id];
    if (!known) {
      known = std::make_shared<Member>(row.id, row.application, row.function, row.events_taken,
                                       application->tracker.fresh_budget(clock_.now()));
    }
    member = known;
  }
  if (replaced != LinkId{}) way.close(replaced, refused(v1alpha1::REFUSED_REASON_OVERLOADED, "it has connected anew"));
  bool ended = false;
  {
    const std::unique_lock lock(sessions_mutex_);
    ended = !wanted.has_join_token() && reviewed_.erase(link) == 0;
    if (!ended) sessions_[link] = {member, application};
  }
  if (ended) {  // while it was reviewed
    const std::lock_guard lock(guards_mutex_);
    return guards_.disconnect(link);
  }
  member->connect(way, link);
  const auto certificate = certify(*application, *member, wanted.certificate_request());
  if (!fresh) return welcome(member, *application, certificate);
  journal_.append(
      std::move(row), [this, member, application, certificate] { welcome(member, *application, certificate); },
      [member](const Error& error) {
        member->close(refused(v1alpha1::REFUSED_REASON_OVERLOADED, "it can't be stored: " + error.text));
      });
}

// An intermediate for the guard's own function, whatever it asks for. Nothing: it wants none.
std::optional<v1alpha1::Renewed> Controller::certify(Application& application, Member& member,
                                                     const std::string& request) {
  if (request.empty()) return std::nullopt;
  const Time now = clock_.now();
  v1alpha1::Renewed out;
  const std::string id = to_hex(std::span(member.id).first(8));
  const auto key = member.take_certificate(now, request);
  const auto given =
      !key ? std::unexpected(key.error())
           : application.ca.sign(
                 {*key, "guard " + id + " of " + member.application + "/" + member.function,
                  application.catalog.permitted_hosts(member.function), application.catalog.certificate_lifetime()},
                 now);
  if (given) {
    out.set_certificates(given->certificates);
    out.mutable_certificate_ends()->set_seconds(given->ends.time_since_epoch().count());
    out.set_trusted(application.ca.trusted());
  } else {
    out.set_refusal(given.error().text);
    raise(member.application, "certificate-refused", member.function, "", given.error().text);
  }
  return out;
}

void Controller::welcome(const std::shared_ptr<Member>& member, Application& application,
                         const std::optional<v1alpha1::Renewed>& certificate) {
  Envelope envelope;
  v1alpha1::Registered& registered = *envelope.mutable_registered();
  registered.set_guard_id(std::string(reinterpret_cast<const char*>(member->id.data()), member->id.size()));
  registered.set_events_taken(member->taken());
  registered.set_beat_ms(static_cast<std::uint32_t>(options_.beat.count()));
  if (certificate) *registered.mutable_certificate() = *certificate;
  const std::lock_guard lock(application.given_mutex);
  member->welcome(envelope);
  member->send(*give(application, member->function, false).envelope);
  for (v1alpha1::Halt& halt : application.tracker.halts_of(*member, clock_.now())) {
    Envelope halted;
    *halted.mutable_halt() = std::move(halt);
    member->send(halted);
  }
}

void Controller::received(LinkId link, Envelope&& envelope) {
  const auto found = session(link);
  // Where another controller may be in charge nothing is answered: for the guard that is as without a controller.
  if (!found || !store_.ours()) return;
  const std::shared_ptr<Member>& member = found->member;
  Tracker& tracker = found->application->tracker;
  switch (envelope.body_case()) {
    case Envelope::kEntryAsk:
      tracker.ask(member, link, envelope.entry_ask(), clock_.now());
      if (const auto due = tracker.next_due()) {
        const std::lock_guard lock(clock_mutex_);
        if (*due < wake_) clock_changed_.notify_all();
      }
      return;
    case Envelope::kEvents:
      return take_events(*found, std::move(*envelope.mutable_events()));
    case Envelope::kLeaseAsk: {
      Envelope answer;
      *answer.mutable_lease() = tracker.lease(*member, envelope.lease_ask(), clock_.now());
      return member->answer(link, answer);
    }
    case Envelope::kUpdateTaken:
      return note_update(*found, link, envelope.update_taken());
    case Envelope::kBeat:
      return note_beat(link, envelope.beat());
    case Envelope::kGoodbye:
      return say_goodbye(link);
    case Envelope::kRenew: {
      const auto certificate = certify(*found->application, *member, envelope.renew().certificate_request());
      if (!certificate) return;
      Envelope answer;
      *answer.mutable_renewed() = *certificate;
      return member->answer(link, answer);
    }
    default:
      return;
  }
}

void Controller::take_events(const Session& session, v1alpha1::Events&& events) {
  std::vector<Tracker::Halted> halted;
  switch (session.application->tracker.take(session.member, std::move(events), clock_.now(), halted)) {
    case Tracker::Taken::yes:
      break;
    case Tracker::Taken::later:
      session.member->close(refused(v1alpha1::REFUSED_REASON_OVERLOADED, "too much waits to be stored"));
      break;
    case Tracker::Taken::too_much:
      session.member->close(
          refused(v1alpha1::REFUSED_REASON_OVERLOADED, "it tells more than may be stored, and does not wait"));
      break;
    case Tracker::Taken::malformed:
      session.member->close(refused(v1alpha1::REFUSED_REASON_MALFORMED, "events are missing between those it sent"));
      break;
  }
  if (!halted.empty()) tell_halted(*session.application, halted);
}

void Controller::note_update(const Session& session, LinkId link, const v1alpha1::UpdateTaken& taken) {
  {
    const std::lock_guard lock(guards_mutex_);
    Guard* const guard = guards_.find(link);
    if (guard == nullptr) return;
    guard->refusal = taken.refusal();
    if (taken.refusal().empty()) guard->generation = taken.generation();
  }
  if (taken.refusal().empty()) return;
  raise(session.member->application, "update-refused", session.member->function, "", taken.refusal());
}

void Controller::note_beat(LinkId link, const v1alpha1::Beat& beat) {
  const std::lock_guard lock(guards_mutex_);
  Guard* const guard = guards_.find(link);
  if (guard == nullptr) return;
  guard->seen = clock_.now();
  guard->executions_open = beat.executions_open();
}

void Controller::say_goodbye(LinkId link) {
  const std::lock_guard lock(guards_mutex_);
  guards_.disconnect(link, true);
}

void Controller::closed(LinkId link, const std::string&) {
  std::optional<Session> ended;
  {
    const std::unique_lock lock(sessions_mutex_);
    reviewed_.erase(link);
    const auto found = sessions_.find(link);
    if (found == sessions_.end()) return;
    ended = std::move(found->second);
    sessions_.erase(found);
  }
  ended->member->disconnect(link);
  ended->application->tracker.forget_asks(*ended->member, link);
  const std::lock_guard lock(guards_mutex_);
  guards_.disconnect(link);
}

std::vector<std::shared_ptr<Member>> Controller::members_of(const std::string& application,
                                                            const std::string& function) const {
  std::vector<std::shared_ptr<Member>> out;
  const std::shared_lock lock(sessions_mutex_);
  for (const auto& [link, session] : sessions_) {
    const Member& member = *session.member;
    if (member.application != application || (!function.empty() && member.function != function)) continue;
    out.push_back(session.member);
  }
  return out;
}

void Controller::tell_halted(const Application& application, const std::vector<Tracker::Halted>& halted) {
  for (const Tracker::Halted& each : halted) {
    Envelope envelope;
    *envelope.mutable_halt() = each.halt;
    const SharedEnvelope shared(envelope);
    for (const auto& member : members_of(application.catalog.application(), each.function)) member->send(shared);
  }
}

// What is given to guards.

// Under the application's given_mutex.
const Controller::Given& Controller::give(Application& application, const std::string& function, bool anew) {
  Given& given = application.given[function];
  if (anew || !given.envelope) {
    given.generation = ++generation_;
    Envelope envelope;
    *envelope.mutable_update() = application.catalog.update_of(function, given.generation, clock_.now());
    given.envelope = std::make_shared<const SharedEnvelope>(envelope);
  }
  return given;
}

void Controller::distribute(Application& application, const std::string& function) {
  const std::lock_guard lock(application.given_mutex);
  const std::shared_ptr<const SharedEnvelope> envelope = give(application, function, true).envelope;
  for (const auto& member : members_of(application.catalog.application(), function)) member->send(*envelope);
}

void Controller::distribute_to_all(Application& application) {
  std::vector<std::string> functions = application.catalog.functions();
  {
    // Also to guards of functions that are gone: they are given a policy that allows nothing.
    const std::lock_guard lock(application.given_mutex);
    for (const auto& [function, given] : application.given) functions.push_back(function);
  }
  std::ranges::sort(functions);
  functions.erase(std::ranges::unique(functions).begin(), functions.end());
  for (const std::string& function : functions) distribute(application, function);
}

// Administration.

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
  auto made = make_ca(name, clock_.now());
  if (!made) return std::unexpected(made.error());
  return keep_ca(*find(name), std::move(*made));
}

// The first signs at once: nothing can have been made below another.
Result<void> Controller::keep_ca(Application& application, ca::Authority authority) {
  const std::uint64_t newest = application.ca.newest();
  const Time now = clock_.now();
  StoredTenantCa ca{newest + 1, std::move(authority), newest == 0 ? now : now + limits::kTenantCaSettle};
  auto row = write_tenant_ca(application.catalog.application(), ca);
  if (!row) return std::unexpected(row.error());
  if (auto put = store_.put_secret(*row); !put) return put;
  application.ca.put(std::move(ca));
  return {};
}

Result<void> Controller::put_ca(const std::string& application, std::string_view certificates, std::string_view key,
                                const std::string& who) {
  const std::lock_guard lock(admin_mutex_);
  const auto known = need(application);
  if (!known) return std::unexpected(known.error());
  if ((*known)->ca.size() >= limits::kTenantCasMax) {
    return fail(ErrorSource::controller, ErrorKind::limit,
                "there are " + std::to_string(limits::kTenantCasMax) +
                    " CAs already; those that were replaced go once nothing below them is good any more");
  }
  const Time now = clock_.now();
  auto authority = certificates.empty() && key.empty()
                       ? make_ca(application, now)
                       : ca::Authority::load(nullptr, {"the certificate", certificates}, {"the key", key},
                                             std::chrono::floor<std::chrono::seconds>(now));
  if (!authority) return std::unexpected(authority.error());
  if (X509_get_pathlen(authority->certificate()) == 0) {
    return invalid("guards get CAs of their own below this one, and its pathLenConstraint of 0 allows none");
  }
  if (auto audited = audit(who, "put another CA for", application); !audited) return audited;
  return keep_ca(**known, std::move(*authority));
}

Result<std::string> Controller::trusted(const std::string& application) const {
  const auto known = need(application);
  if (!known) return std::unexpected(known.error());
  return (*known)->ca.trusted();
}

Result<void> Controller::put_new_key(const std::string& name) {
  Application& application = *find(name);
  std::array<unsigned char, tag::kKeyBytes> bytes{};
  if (!random_bytes(bytes)) {
    return fail(ErrorSource::internal, ErrorKind::unavailable, "the machine has no randomness");
  }
  const std::string_view view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  auto stored = credentials::Secret::copy_of(view);
  auto kept = credentials::Secret::copy_of(view);
  if (!stored) return std::unexpected(stored.error());
  if (!kept) return std::unexpected(kept.error());
  const auto keys = application.catalog.tag_keys();
  const std::uint64_t number = keys.empty() ? 1 : keys.front().first + 1;
  const Time now = clock_.now();
  auto put = store_.put_tag_key({name, number, std::move(*stored), now});
  if (!put) return put;
  application.catalog.put_tag_key({name, number, std::move(*kept), now});
  distribute_to_all(application);
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
  const Application* const found = find(application);
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
  const Application* const found = find(application);
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
  Put out;
  if (!document.text.empty()) {
    out.diagnostics = (*application)->catalog.check(document, what_of(document));
    if (has_errors(out.diagnostics)) return out;
  }
  document.author = who;
  document.time = clock_.now();
  const auto version = store_.put_document(document, after);
  if (!version) return std::unexpected(version.error());
  out.version = document.version = *version;
  const std::string what = document.text.empty() ? "take away" : "put version " + std::to_string(*version) + " of";
  if (auto audited = audit(who, what, what_of(document)); !audited) return std::unexpected(audited.error());
  // It cannot fail here: it has been checked, and nothing else has changed since.
  [[maybe_unused]] const auto again = (*application)->catalog.put(document, what_of(document));
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
    return unresolved(version == 0 ? "there is no version of " + what_of(which) + " before the newest"
                                   : "there is no version " + std::to_string(version) + " of " + what_of(which));
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

// Who came with a credential that is not good any more is not kept.
void Controller::drop_guards_of(const std::string& subject) {
  std::vector<std::shared_ptr<Member>> dropped;
  {
    const std::lock_guard lock(guards_mutex_);
    for (const Guard* guard : guards_.all()) {
      const auto member = members_.find(guard->row.id);
      if (guard->row.subject == subject && member != members_.end()) dropped.push_back(member->second);
    }
  }
  for (const auto& member : dropped) {
    member->close(refused(v1alpha1::REFUSED_REASON_CREDENTIAL, "its credential has been revoked"));
  }
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

// The clock.

void Controller::run_clock() {
  std::unique_lock lock(clock_mutex_);
  while (!stopping_) {
    lock.unlock();
    const Time now = clock_.now();
    advance(now);
    std::optional<Time> due;
    for (const std::string& name : applications()) {
      const auto next = find(name)->tracker.next_due();
      if (next && (!due || *next < *due)) due = next;
    }
    lock.lock();
    wake_ = std::min(due.value_or(Time::max()), now + limits::kControllerTick);
    if (!stopping_) clock_changed_.wait_for(lock, wake_ - std::min(clock_.now(), wake_));
  }
}

void Controller::advance(Time now) {
  std::vector<Tracker::Halted> halted;
  for (const std::string& name : applications()) {
    Application& application = *find(name);
    application.tracker.advance(now, halted);
    if (!halted.empty()) tell_halted(application, halted);
    halted.clear();
  }
  if (now < looked_ + limits::kControllerTick) return;
  looked_ = now;
  look_after_guards(now);
  look_after_keys(now);
  look_after_store(now);
  look_after_cas(now);
}

void Controller::look_after_guards(Time now) {
  std::vector<Guard> lost;
  std::vector<GuardId> forgotten;
  {
    const std::lock_guard lock(guards_mutex_);
    lost = guards_.lose(now - limits::kBeatsMissedMax * options_.beat);
    forgotten = guards_.forget(now - limits::kGuardMemory);
    for (const GuardId& id : forgotten) members_.erase(id);
  }
  for (const Guard& guard : lost) {
    raise(guard.row.application, to_string(AlarmKind::lost_instance), guard.row.function, "",
          "the instance " + guard.row.instance + " is silent");
  }
  // One that cannot be forgotten now is forgotten after the next start.
  for (const GuardId& id : forgotten) [[maybe_unused]]
    const auto gone = store_.forget_guard(id);
  if (now < swept_ + std::chrono::minutes(10)) return;
  swept_ = now;
  if (const auto swept = store_.forget(now - options_.retention); !swept) {
    say("old events can't be taken out of the store: " + swept.error().text);
  }
}

// A new key makes tags once guards can have it; an old one goes once no tag of it is good any more.
void Controller::look_after_keys(Time now) {
  for (const std::string& name : applications()) {
    Application& application = *find(name);
    const std::uint64_t making = application.catalog.making_key(now);
    if (std::exchange(application.making_key, making) != making) distribute_to_all(application);
    for (const auto& [number, made] : application.catalog.tag_keys()) {
      if (number >= making) continue;
      const auto keys = application.catalog.tag_keys();
      const auto newer = std::ranges::find(keys, making, [](const auto& key) { return key.first; });
      if (newer->second + 2 * limits::kTagKeySettle + limits::kTagLifetime + limits::kTagSkew > now) continue;
      if (!store_.drop_tag_key(name, number)) continue;
      application.catalog.drop_tag_key(number);
      distribute_to_all(application);
    }
  }
}

// Where one function has filled the store with what may not go yet, no more is taken of it: fails closed for that
// function alone. Its guards keep their events, and what it would be allowed has to be told first.
void Controller::look_after_store(Time now) {
  const auto full = store_.make_room(options_.store_bytes_max, now - memory());
  if (!full) return say("the store can't be kept small: " + full.error().text);
  for (const std::string& name : applications()) {
    find(name)->tracker.hold(*full && (*full)->application == name ? (*full)->function : std::string());
  }
  if (!*full) return;
  raise((*full)->application, "store-full", (*full)->function, "",
        "the store is full of its last events: no more of them are taken until the oldest may go; raise storeBytesMax, "
        "or let it send less");
}

void Controller::look_after_cas(Time now) {
  for (const std::string& name : applications()) {
    Application& application = *find(name);
    for (const std::uint64_t number : application.ca.over(now)) {
      if (store_.drop_secret(name, tenant_ca_name(number))) application.ca.drop(number);
    }
  }
}

void Controller::raise(const std::string& application, std::string_view kind, const std::string& function,
                       std::string about, std::string text) {
  const Time now = clock_.now();
  alarms_.raise({application, std::string(kind), function, std::move(about), now, now, 1, std::move(text)});
}

void Controller::say(const std::string& text) const {
  if (options_.say) options_.say(text);
}

}  // namespace sallyport::controller
