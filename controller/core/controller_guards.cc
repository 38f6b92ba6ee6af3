// Guards as they come, speak and go: whether they are believed, what they are given at first, and what they tell.
#include <algorithm>
#include <cstring>
#include <utility>

#include "base/hex.h"
#include "controller/core/controller.h"
#include "policy-engine/document/diagnostics.h"

namespace sallyport::controller {

namespace {

using v1alpha1::Envelope;
using v1alpha1::Refused;
using v1alpha1::RefusedReason;

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

}  // namespace

std::optional<Controller::Session> Controller::session(LinkId link) const {
  const std::shared_lock lock(sessions_mutex_);
  const auto found = sessions_.find(link);
  return found == sessions_.end() ? std::nullopt : std::optional(found->second);
}

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
  const auto application = find(wanted.application());
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
  const auto application = find(wanted.application());
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
    if (application->ending) {
      return way.close(link, refused(v1alpha1::REFUSED_REASON_FUNCTION, "the application is being deleted"));
    }
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
  const auto refuse = [&](std::string_view alarm, const std::string& text) {
    out.set_refusal(text);
    raise(member.application, alarm, member.function, "", text);
    return out;
  };
  if (!application.signing.has_some(member.function, now)) {
    return refuse("certificate-flood", "guards of its function ask for more certificates than the controller makes");
  }
  const auto before = SigningBudget::spent_so_far();
  const auto key = member.take_certificate(now, request);
  const auto given =
      !key ? std::unexpected(key.error())
           : application.ca.sign(
                 {*key, "guard " + id + " of " + member.application + "/" + member.function,
                  application.catalog.permitted_hosts(member.function), application.catalog.certificate_lifetime()},
                 now);
  application.signing.charge(member.function, SigningBudget::spent_so_far() - before, now);
  if (!given) return refuse("certificate-refused", given.error().text);
  out.set_certificates(given->certificates);
  out.mutable_certificate_ends()->set_seconds(given->ends.time_since_epoch().count());
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

}  // namespace sallyport::controller
