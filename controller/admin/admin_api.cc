#include "controller/admin/admin_api.h"

#include <google/protobuf/util/json_util.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/limits.h"
#include "controller/admin/admin_views.h"
#include "policy-engine/flow/trace_file.h"

namespace sallyport::controller {

namespace {

constexpr std::size_t kTokenBytesMin = 24;

AdminAnswer problem(int status, const std::string& text) {
  v1alpha1::Problem out;
  out.set_error(text);
  return {.status = status, .body = to_json(out)};
}

AdminAnswer problem(const Error& error) {
  switch (error.kind) {
    case ErrorKind::invalid:
      return problem(400, error.text);
    case ErrorKind::unresolved:
      return problem(404, error.text);
    case ErrorKind::refused:
    case ErrorKind::limit:
      return problem(409, error.text);
    default:
      return problem(503, error.text);
  }
}

AdminAnswer json(const google::protobuf::Message& message, int status = 200) {
  return {.status = status, .body = to_json(message)};
}

AdminAnswer done(const Result<void>& result, int status = 204) {
  return result ? AdminAnswer{.status = status} : problem(result.error());
}

template <class Number>
std::optional<Number> number_of(std::string_view text) {
  Number out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return out;
}

// RFC 3339, as protobuf reads it.
std::optional<Time> time_of(const std::string& text) {
  google::protobuf::Timestamp out;
  if (!google::protobuf::util::JsonStringToMessage("\"" + text + "\"", &out).ok()) return std::nullopt;
  return Time(std::chrono::seconds(out.seconds())) + std::chrono::milliseconds(out.nanos() / 1'000'000);
}

std::array<unsigned char, 32> hash_of(std::string_view token) {
  std::array<unsigned char, 32> out{};
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), out.data());
  return out;
}

}  // namespace

Result<Administrator> make_administrator(std::string name, Role role, std::string_view token) {
  if (token.size() < kTokenBytesMin) {
    return fail(ErrorSource::controller, ErrorKind::invalid,
                "the token of " + name + " is too short: at least " + std::to_string(kTokenBytesMin) +
                    " bytes, as from `openssl rand -base64 32`");
  }
  return Administrator{std::move(name), role, hash_of(token)};
}

struct AdminApi::Call {
  Controller& controller;
  const AdminRequest& request;
  const std::string& who;
  std::vector<std::string> arguments;  // what stands in the places of the route

  const std::string& application() const { return arguments[0]; }
  const std::string* find(const std::string& name) const {
    const auto found = request.query.find(name);
    return found == request.query.end() ? nullptr : &found->second;
  }

  // Which document; its text is the request's body.
  Document document(DocumentKind kind) const {
    Document out;
    out.application = application();
    if (arguments.size() > 1) out.function = arguments[1];
    out.kind = kind;
    return out;
  }

  AdminAnswer get_document(DocumentKind kind) const {
    const auto all = controller.versions(document(kind));
    if (!all) return problem(all.error());
    const std::string* const wanted = find("version");
    const auto version = wanted == nullptr ? std::nullopt : number_of<std::uint64_t>(*wanted);
    if (wanted != nullptr && !version) return problem(400, "version: a number is wanted");
    const auto found = version ? std::ranges::find(*all, *version, &Document::version) : all->begin();
    if (found == all->end() || found->text.empty()) return problem(404, "there is no such document");
    return {.content_type = "application/yaml",
            .body = found->text,
            .headers = {{"ETag", "\"" + std::to_string(found->version) + "\""}}};
  }

  AdminAnswer put_document(DocumentKind kind, bool remove) const {
    Document wanted = document(kind);
    if (!remove) wanted.text = request.body;
    if (!remove && wanted.text.empty()) return problem(400, "the body is empty; DELETE takes a document away");
    std::uint64_t after = 0;
    if (!request.if_match.empty() && request.if_match != "*") {
      std::string_view tag = request.if_match;
      if (tag.size() > 1 && tag.front() == '"' && tag.back() == '"') tag = tag.substr(1, tag.size() - 2);
      const auto version = number_of<std::uint64_t>(tag);
      if (!version) return problem(400, "If-Match: the version, as ETag says it");
      after = *version;
    }
    const auto put = controller.put_document(std::move(wanted), after, who);
    if (!put)
      return after != 0 && put.error().kind == ErrorKind::refused ? problem(412, put.error().text)
                                                                  : problem(put.error());
    return json(view_of(*put), put->version == 0 ? 422 : 200);
  }

  AdminAnswer list_versions(DocumentKind kind) const {
    const auto all = controller.versions(document(kind));
    if (!all) return problem(all.error());
    v1alpha1::DocumentVersions out;
    for (const Document& each : *all) *out.add_versions() = view_of(each);
    return json(out);
  }

  AdminAnswer roll_back(DocumentKind kind) const {
    std::uint64_t version = 0;
    if (const std::string* const wanted = find("version")) {
      const auto read = number_of<std::uint64_t>(*wanted);
      if (!read || *read == 0) return problem(400, "version: a number from 1 is wanted");
      version = *read;
    }
    const auto put = controller.roll_back(document(kind), version, who);
    return put ? json(view_of(*put), put->version == 0 ? 422 : 200) : problem(put.error());
  }

  AdminAnswer show_application() const {
    const auto figures = controller.figures(application());
    if (!figures) return problem(figures.error());
    v1alpha1::ApplicationView out;
    out.set_name(application());
    out.set_executions(static_cast<std::uint32_t>(figures->executions));
    out.set_flows(static_cast<std::uint32_t>(figures->flows));
    out.set_waiting(static_cast<std::uint32_t>(figures->waiting));
    for (const auto& function : controller.functions(application())) {
      *out.add_functions() = view_of(function);
    }
    if (const auto secrets = controller.secrets(application())) {
      for (const std::string& name : *secrets) out.add_secrets(name);
    }
    for (const auto& key : controller.tag_keys(application())) {
      v1alpha1::TagKeyView& view = *out.add_tag_keys();
      view.set_number(static_cast<std::uint32_t>(key.number));
      view.set_makes(key.makes);
      set_time(*view.mutable_made(), key.made);
    }
    return json(out);
  }

  AdminAnswer list_limits() const {
    const auto all = controller.limits(application());
    if (!all) return problem(all.error());
    v1alpha1::LimitList out;
    for (const auto& limit : *all) *out.add_limits() = view_of(limit);
    return json(out);
  }

  AdminAnswer get_ca() const {
    const auto pem = controller.trusted(application());
    if (!pem) return problem(pem.error());
    return {.content_type = "application/x-pem-file", .body = *pem};
  }

  // Certificates and key stand in one body; where that is empty the controller makes them.
  AdminAnswer put_ca() const {
    const std::string* const old = find("old");
    if (old != nullptr && *old != "keep" && *old != "drop") return problem(400, "old: keep or drop is wanted");
    const auto fate = old != nullptr && *old == "drop" ? Controller::OldCa::drop : Controller::OldCa::keep;
    return done(controller.put_ca(application(), request.body, request.body, fate, who));
  }

  AdminAnswer make_token() const {
    v1alpha1::TokenRequest wanted;
    if (!request.body.empty()) {
      const auto read = google::protobuf::util::JsonStringToMessage(request.body, &wanted);
      if (!read.ok()) return problem(400, "the body is no TokenRequest: " + std::string(read.message()));
    }
    std::optional<Time> ends;
    if (wanted.has_ends()) ends = Time(std::chrono::seconds(wanted.ends().seconds()));
    if (ends && *ends <= controller.now()) return problem(400, "ends: it has ended already");
    const auto made = controller.make_token(application(), wanted.function(), ends, who);
    if (!made) return problem(made.error());
    v1alpha1::TokenView view = view_of(made->row);
    view.set_token(made->text);
    return json(view, 201);
  }

  AdminAnswer list_tokens() const {
    if (const auto known = controller.figures(application()); !known) return problem(known.error());
    const auto all = controller.store().tokens();
    if (!all) return problem(all.error());
    v1alpha1::TokenList out;
    for (const JoinToken& token : *all) {
      if (token.application == application()) *out.add_tokens() = view_of(token);
    }
    return json(out);
  }

  AdminAnswer list_guards() const {
    v1alpha1::GuardList out;
    const std::string* const application = find("application");
    const std::string* const function = find("function");
    for (const Guard& guard : controller.guards()) {
      if (application != nullptr && guard.row.application != *application) continue;
      if (function != nullptr && guard.row.function != *function) continue;
      *out.add_guards() = view_of(guard);
    }
    return json(out);
  }

  Result<Time> since() const {
    const std::string* const text = find("since");
    if (text == nullptr) return Time{};
    const auto read = time_of(*text);
    if (!read) {
      return fail(ErrorSource::controller, ErrorKind::invalid, "since: a time is wanted, as 2026-01-31T12:00:00Z");
    }
    return *read;
  }

  AdminAnswer list_alarms() const {
    const auto from = since();
    if (!from) return problem(from.error());
    if (const auto known = controller.figures(application()); !known) return problem(known.error());
    const auto all = controller.store().alarms(application(), *from);
    if (!all) return problem(all.error());
    v1alpha1::AlarmList out;
    for (const AlarmRow& alarm : *all) *out.add_alarms() = view_of(alarm);
    return json(out);
  }

  AdminAnswer list_audit() const {
    const auto from = since();
    if (!from) return problem(from.error());
    const auto all = controller.store().audited(*from, limits::kAdminEventsMax);
    if (!all) return problem(all.error());
    v1alpha1::AuditList out;
    for (const AuditRow& row : *all) *out.add_entries() = view_of(row);
    return json(out);
  }

  Result<EventQuery> event_query(std::size_t& most) const;
  AdminAnswer list_events() const;
  AdminAnswer list_traces() const;
};

Result<EventQuery> AdminApi::Call::event_query(std::size_t& most) const {
  const auto wrong = [](const std::string& text) { return fail(ErrorSource::controller, ErrorKind::invalid, text); };
  EventQuery out;
  out.application = application();
  for (const auto& [name, value] : request.query) {
    if (name == "function") {
      out.function = value;
    } else if (name == "decision") {
      static const std::map<std::string, v1alpha1::Decision, std::less<>> decisions = {
          {"allow", v1alpha1::DECISION_ALLOW},
          {"deny", v1alpha1::DECISION_DENY},
          {"would-deny", v1alpha1::DECISION_WOULD_DENY},
          {"error", v1alpha1::DECISION_ERROR}};
      const auto found = decisions.find(value);
      if (found == decisions.end()) return wrong("decision: allow, deny, would-deny or error");
      out.decisions = 1U << found->second;
    } else if (name == "since" || name == "until") {
      const auto time = time_of(value);
      if (!time) return wrong(name + ": a time is wanted, as 2026-01-31T12:00:00Z");
      (name == "since" ? out.since : out.until) = *time;
    } else if (name == "after") {
      const auto row = number_of<std::uint64_t>(value);
      if (!row) return wrong("after: the row of an event is wanted");
      out.after = *row;
    } else if (name == "limit") {
      const auto count = number_of<std::size_t>(value);
      if (!count || *count == 0 || *count > limits::kAdminEventsMax) {
        return wrong("limit: 1 to " + std::to_string(limits::kAdminEventsMax));
      }
      most = *count;
    } else if (name != "execution" && name != "kind") {
      return wrong("there is no parameter " + name +
                   "; there are function, decision, since, until, after, limit, execution, kind");
    }
  }
  return out;
}

AdminAnswer AdminApi::Call::list_events() const {
  std::size_t most = limits::kAdminEventsMax;
  const auto query = event_query(most);
  if (!query) return problem(query.error());
  if (const auto known = controller.figures(application()); !known) return problem(known.error());
  const std::string* const execution = find("execution");
  const std::string* const kind = find("kind");
  AdminAnswer out{.content_type = "application/jsonl"};
  std::size_t count = 0;
  // Whole batches, so that a call that goes on behind a row leaves nothing out.
  const auto found = controller.store().search(*query, [&](std::uint64_t row, EventBatch&& batch) {
    v1alpha1::Events events;
    if (!events.ParseFromString(batch.events)) return true;
    for (const v1alpha1::Event& event : events.events()) {
      if (query->decisions != ~0U &&
          (!event.has_exchange() || (query->decisions & 1U << event.exchange().decision()) == 0)) {
        continue;
      }
      v1alpha1::EventView view = view_of(batch, event);
      const Time time = Time(std::chrono::seconds(event.time().seconds())) +
                        std::chrono::milliseconds(event.time().nanos() / 1'000'000);
      if ((query->since && time < *query->since) || (query->until && time >= *query->until)) continue;
      if (execution != nullptr && view.execution() != *execution) continue;
      if (kind != nullptr && view.kind() != *kind) continue;
      view.set_row(row);
      out.body += to_json(view);
      out.body += '\n';
      ++count;
    }
    return count < most && out.body.size() < limits::kAdminAnswerBytesMax;
  });
  return found ? out : problem(found.error());
}

// As `sallyport flow learn` reads them. The header says behind which row the next call goes on.
AdminAnswer AdminApi::Call::list_traces() const {
  std::size_t most = limits::kAdminEventsMax;
  const auto query = event_query(most);
  if (!query) return problem(query.error());
  if (const auto known = controller.figures(application()); !known) return problem(known.error());
  AdminAnswer out{.content_type = "application/jsonl"};
  std::size_t count = 0;
  std::uint64_t last = query->after;
  const auto found = controller.store().search(*query, [&](std::uint64_t row, EventBatch&& batch) {
    v1alpha1::Events events;
    if (!events.ParseFromString(batch.events)) return true;
    last = row;
    for (const v1alpha1::Event& event : events.events()) {
      if (!event.execution_ended().has_trace()) continue;
      flow::append_trace(out.body, event.execution_ended().trace(), flow::TraceForm::json_lines, false);
      ++count;
    }
    return count < most && out.body.size() < limits::kAdminAnswerBytesMax;
  });
  if (!found) return problem(found.error());
  out.headers = {{"Sallyport-Row", std::to_string(last)}};
  return out;
}

// "{}" in a path takes an argument.
struct AdminApi::Route {
  std::string_view method;
  std::vector<std::string_view> path;
  std::function<AdminAnswer(const Call&)> answer;
  bool changes = false;  // for editors
};

const std::vector<AdminApi::Route>& AdminApi::routes() {
  static const std::vector<Route> all = [] {
    std::vector<Route> out = {
        {"GET",
         {"v1", "applications"},
         [](const Call& call) {
           v1alpha1::ApplicationList list;
           for (const std::string& name : call.controller.applications()) list.add_applications(name);
           return json(list);
         }},
        {"GET", {"v1", "applications", "{}"}, [](const Call& call) { return call.show_application(); }},
        {"PUT",
         {"v1", "applications", "{}"},
         [](const Call& call) { return done(call.controller.create_application(call.application(), call.who), 201); },
         true},
        {"DELETE",
         {"v1", "applications", "{}"},
         [](const Call& call) { return done(call.controller.delete_application(call.application(), call.who)); },
         true},
        {"GET", {"v1", "applications", "{}", "events"}, [](const Call& call) { return call.list_events(); }},
        {"GET", {"v1", "applications", "{}", "traces"}, [](const Call& call) { return call.list_traces(); }},
        {"GET", {"v1", "applications", "{}", "alarms"}, [](const Call& call) { return call.list_alarms(); }},
        {"PUT",
         {"v1", "applications", "{}", "secrets", "{}"},
         [](const Call& call) {
           return done(call.controller.put_secret(call.application(), call.arguments[1], call.request.body, call.who));
         },
         true},
        {"DELETE",
         {"v1", "applications", "{}", "secrets", "{}"},
         [](const Call& call) {
           return done(call.controller.drop_secret(call.application(), call.arguments[1], call.who));
         },
         true},
        {"POST",
         {"v1", "applications", "{}", "tag-key"},
         [](const Call& call) { return done(call.controller.rotate_tag_key(call.application(), call.who)); },
         true},
        {"GET", {"v1", "applications", "{}", "limits"}, [](const Call& call) { return call.list_limits(); }},
        {"GET", {"v1", "applications", "{}", "ca"}, [](const Call& call) { return call.get_ca(); }},
        {"PUT", {"v1", "applications", "{}", "ca"}, [](const Call& call) { return call.put_ca(); }, true},
        {"GET", {"v1", "applications", "{}", "tokens"}, [](const Call& call) { return call.list_tokens(); }},
        {"POST", {"v1", "applications", "{}", "tokens"}, [](const Call& call) { return call.make_token(); }, true},
        {"DELETE",
         {"v1", "tokens", "{}"},
         [](const Call& call) { return done(call.controller.revoke_token(call.arguments[0], call.who)); },
         true},
        {"GET", {"v1", "guards"}, [](const Call& call) { return call.list_guards(); }},
        {"GET", {"v1", "audit"}, [](const Call& call) { return call.list_audit(); }},
    };
    const auto add_document = [&out](const std::vector<std::string_view>& path, DocumentKind kind) {
      auto versions = path, rollback = path;
      versions.emplace_back("versions");
      rollback.emplace_back("rollback");
      out.push_back({"GET", path, [kind](const Call& call) { return call.get_document(kind); }});
      out.push_back({"PUT", path, [kind](const Call& call) { return call.put_document(kind, false); }, true});
      out.push_back({"DELETE", path, [kind](const Call& call) { return call.put_document(kind, true); }, true});
      out.push_back({"GET", versions, [kind](const Call& call) { return call.list_versions(kind); }});
      out.push_back({"POST", rollback, [kind](const Call& call) { return call.roll_back(kind); }, true});
    };
    add_document({"v1", "applications", "{}", "settings"}, DocumentKind::application);
    add_document({"v1", "applications", "{}", "graph"}, DocumentKind::application_graph);
    add_document({"v1", "applications", "{}", "functions", "{}", "policy"}, DocumentKind::policy);
    add_document({"v1", "applications", "{}", "functions", "{}", "graph"}, DocumentKind::graph);
    return out;
  }();
  return all;
}

// All of them, in the same time whoever it is.
const Administrator* AdminApi::find(const std::string& token) const {
  if (token.empty()) return nullptr;
  const auto hash = hash_of(token);
  const Administrator* found = nullptr;
  for (const Administrator& each : administrators_) {
    if (CRYPTO_memcmp(each.token_hash.data(), hash.data(), hash.size()) == 0) found = &each;
  }
  return found;
}

std::optional<AdminAnswer> AdminApi::check(const AdminRequest& request) const {
  const Administrator* const who = find(request.token);
  if (who == nullptr) {
    AdminAnswer refused = problem(401, "a token is wanted: Authorization: Bearer TOKEN");
    refused.headers = {{"WWW-Authenticate", "Bearer"}};
    return refused;
  }
  if (request.method != "GET" && who->role != Role::editor) {
    return problem(403, who->name + " is a viewer, and this is for editors");
  }
  return std::nullopt;
}

AdminAnswer AdminApi::answer(Controller& controller, const AdminRequest& request) const {
  const Administrator* const who = find(request.token);
  if (who == nullptr) return problem(401, "a token is wanted");
  bool known_path = false;
  for (const Route& route : routes()) {
    if (route.path.size() != request.path.size()) continue;
    Call call{controller, request, who->name, {}};
    bool matches = true;
    for (std::size_t i = 0; matches && i < route.path.size(); ++i) {
      if (route.path[i] == "{}") {
        call.arguments.push_back(request.path[i]);
      } else {
        matches = route.path[i] == request.path[i];
      }
    }
    if (!matches) continue;
    known_path = true;
    if (route.method != request.method) continue;
    if (route.changes && who->role != Role::editor) return problem(403, "this is for editors");
    return route.answer(call);
  }
  if (known_path) return problem(405, "not with the method " + request.method);
  return problem(404, "there is no such call; docs/controller.md lists them");
}

}  // namespace sallyport::controller
