#include "cli/administer.h"

#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/read_file.h"
#include "cli/local_controller.h"
#include "controller/api/admin.pb.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/request/percent.h"

namespace sallyport::cli {

namespace {

namespace api = controller::v1alpha1;
using google::protobuf::Timestamp;
using request::percent_encoded;

constexpr int kExitFailed = 1;
constexpr std::chrono::milliseconds kFollowEvery{500};

struct Flags {
  std::string url, ca_file, token_file, data, output = "table";
  std::string application, function, name, file, key_file, ends_after, decision, kind, execution, since, until;
  std::uint64_t version = 0;
  bool follow = false, drop_old = false;
};

// What guards and functions have said reaches a terminal by no other way.
void print_line(const std::string& text) { std::printf("%s\n", document::printable(text).c_str()); }

int complain(const std::string& text) {
  std::fprintf(stderr, "sallyport: %s\n", document::printable(text).c_str());
  return kExitFailed;
}

// Columns as wide as what stands in them.
class Table {
 public:
  explicit Table(std::vector<std::string> names) { rows_.push_back(std::move(names)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  void print() const {
    std::vector<std::size_t> widths(rows_[0].size());
    for (const auto& row : rows_) {
      for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    for (const auto& row : rows_) {
      std::string line;
      for (std::size_t i = 0; i < row.size(); ++i) {
        line += row[i];
        if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
      }
      line.erase(line.find_last_not_of(' ') + 1);
      print_line(line);
    }
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

std::string text_of(const Timestamp& time) {
  if (time.seconds() == 0) return "-";
  const auto at = std::chrono::sys_seconds(std::chrono::seconds(time.seconds()));
  const auto day = std::chrono::floor<std::chrono::days>(at);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(at - day);
  char text[32];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02dZ", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                static_cast<int>(clock.seconds().count()));
  return text;
}

std::string text_of(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", number);
  return text;
}

template <class Texts>
std::string joined(const Texts& texts, const char* otherwise) {
  std::string out;
  for (const std::string& text : texts) out += (out.empty() ? "" : ", ") + text;
  return out.empty() ? otherwise : out;
}

// CLI11 reads variables for all commands, also for those that were not given.
std::string or_variable(const std::string& given, const char* variable, const char* otherwise = "") {
  if (!given.empty()) return given;
  const char* const value = std::getenv(variable);
  return value == nullptr ? otherwise : value;
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

template <class Message>
bool read(const std::string& json, Message& message) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;  // of a newer controller
  return google::protobuf::util::JsonStringToMessage(json, &message, options).ok();
}

class Administration {
 public:
  explicit Administration(std::shared_ptr<Flags> flags) : flags_(std::move(flags)) {}

  Result<ControllerReply> call(const ControllerCall& call) const {
    if (!flags_->data.empty()) return call_here(call);
    ControllerAccess access{.url = or_variable(flags_->url, "SALLYPORT_ADMIN_URL", "https://127.0.0.1:7444"),
                            .ca_file = or_variable(flags_->ca_file, "SALLYPORT_ADMIN_CA"),
                            .token = {}};
    const std::string token_file = or_variable(flags_->token_file, "SALLYPORT_ADMIN_TOKEN_FILE");
    if (token_file.empty()) {
      return fail(ErrorSource::controller, ErrorKind::invalid,
                  "--token-file FILE is needed, or SALLYPORT_ADMIN_TOKEN_FILE: the first administrator's is "
                  "admin-token in the controller's data folder");
    }
    auto token = read_file(token_file, limits::kSecretBytesMax);
    if (!token) return std::unexpected(token.error());
    while (!token->empty() && (token->back() == '\n' || token->back() == '\r')) token->pop_back();
    access.token = std::move(*token);
    return call_controller(access, call);
  }

  // In this process. Opened once, and held as long as the command takes.
  Result<ControllerReply> call_here(const ControllerCall& call) const {
    if (!flags_->url.empty() || !flags_->ca_file.empty() || !flags_->token_file.empty()) {
      return fail(ErrorSource::controller, ErrorKind::invalid,
                  "--data excludes --controller, --ca and --token-file: no other process is asked");
    }
    if (!*local_) {
      auto opened = LocalController::open(flags_->data, nullptr);
      if (!opened) return std::unexpected(opened.error());
      *local_ = std::move(*opened);
    }
    return (*local_)->call(call);
  }

  // 0, or what was said of it.
  int judge(const Result<ControllerReply>& reply) const {
    if (!reply) return complain(reply.error().text);
    if (reply->status < 300) return 0;
    if (api::PutAnswer put; reply->status == 422 && read(reply->body, put)) {
      print_diagnostics(put);
      return complain("nothing has changed");
    }
    api::Problem problem;
    const bool said = read(reply->body, problem) && !problem.error().empty();
    return complain(said ? problem.error() : "the controller answered " + std::to_string(reply->status));
  }

  void print_diagnostics(const api::PutAnswer& put) const {
    for (const api::DiagnosticView& each : put.diagnostics()) {
      std::string text = flags_->file.empty() ? "the document" : flags_->file;
      if (each.line() > 0) text += ":" + std::to_string(each.line()) + ":" + std::to_string(each.column());
      text += each.warning() ? ": warning: " : ": error: ";
      text += each.message();
      if (!each.hint().empty()) text += " (hint: " + each.hint() + ")";
      std::fprintf(stderr, "%s\n", document::printable(text).c_str());
    }
  }

  template <class Message, class Show>
  int show(const std::string& target, Show show) const {
    const auto reply = call({.target = target});
    if (const int wrong = judge(reply); wrong != 0) return wrong;
    if (flags_->output == "json") {
      std::printf("%s\n", reply->body.c_str());
      return 0;
    }
    Message message;
    if (!read(reply->body, message)) return complain("the controller's answer can't be read");
    show(message);
    return 0;
  }

  int change(const std::string& method, const std::string& target, const std::string& done) const {
    const auto reply = call({.method = method, .target = target});
    if (const int wrong = judge(reply); wrong != 0) return wrong;
    std::printf("%s\n", done.c_str());
    return 0;
  }

  std::string of_application(const std::string& rest = {}) const {
    return "/v1/applications/" + percent_encoded(flags_->application) + rest;
  }
  std::string of_function(const std::string& rest) const {
    return of_application("/functions/" + percent_encoded(flags_->function) + rest);
  }
  const Flags& flags() const { return *flags_; }

  int put_document(const std::string& target) const {
    auto text = read_file(flags_->file, limits::kPolicyBytesMax);
    if (!text) return complain(text.error().text);
    ControllerCall wanted{.method = "PUT", .target = target, .body = std::move(*text)};
    wanted.content_type = "application/yaml";
    if (flags_->version != 0) wanted.if_match = "\"" + std::to_string(flags_->version) + "\"";
    return put(wanted);
  }
  int roll_back(const std::string& target) const {
    return put(
        {.method = "POST",
         .target = target + "/rollback" + (flags_->version == 0 ? "" : "?version=" + std::to_string(flags_->version))});
  }
  int put(const ControllerCall& wanted) const {
    const auto reply = call(wanted);
    if (const int wrong = judge(reply); wrong != 0) return wrong;
    api::PutAnswer answer;
    if (!read(reply->body, answer)) return complain("the controller's answer can't be read");
    print_diagnostics(answer);
    std::printf("version %u is in force\n", answer.version());
    return 0;
  }
  int drop_document(const std::string& target) const {
    const auto reply = call({.method = "DELETE", .target = target});
    if (const int wrong = judge(reply); wrong != 0) return wrong;
    api::PutAnswer answer;
    if (!read(reply->body, answer)) return complain("the controller's answer can't be read");
    std::printf("it is taken away, which is version %u\n", answer.version());
    return 0;
  }
  int get_document(const std::string& target) const {
    const auto reply =
        call({.target = target + (flags_->version == 0 ? "" : "?version=" + std::to_string(flags_->version))});
    if (const int wrong = judge(reply); wrong != 0) return wrong;
    std::fwrite(reply->body.data(), 1, reply->body.size(), stdout);
    return 0;
  }
  int list_versions(const std::string& target) const {
    return show<api::DocumentVersions>(target + "/versions", [](const api::DocumentVersions& all) {
      Table table({"VERSION", "TIME", "BY", ""});
      for (const auto& each : all.versions()) {
        table.add(
            {std::to_string(each.version()), text_of(each.time()), each.author(), each.removed() ? "taken away" : ""});
      }
      table.print();
    });
  }

  int list_applications() const {
    return show<api::ApplicationList>("/v1/applications", [](const api::ApplicationList& all) {
      for (const std::string& name : all.applications()) std::printf("%s\n", name.c_str());
    });
  }

  int show_application() const {
    return show<api::ApplicationView>(of_application(), [](const api::ApplicationView& view) {
      std::printf("%s: %u executions, %u flows that may lead to others, %u entries that wait\n\n", view.name().c_str(),
                  view.executions(), view.flows(), view.waiting());
      Table functions({"FUNCTION", "INSTANCES", "AT MOST"});
      for (const auto& each : view.functions()) {
        functions.add({each.name(), std::to_string(each.instances()),
                       each.has_instances_max() ? std::to_string(each.instances_max()) : "-"});
      }
      functions.print();
      std::printf("\n");
      Table keys({"TAG KEY", "MADE", ""});
      for (const auto& each : view.tag_keys()) {
        keys.add({std::to_string(each.number()), text_of(each.made()), each.makes() ? "makes tags" : "verifies"});
      }
      keys.print();
      for (const std::string& name : view.secrets()) std::printf("\nsecret %s", name.c_str());
      if (!view.secrets().empty()) std::printf("\n");
    });
  }

  int list_functions() const {
    return show<api::ApplicationView>(of_application(), [](const api::ApplicationView& view) {
      Table table({"FUNCTION", "INSTANCES", "AT MOST"});
      for (const auto& each : view.functions()) {
        table.add({each.name(), std::to_string(each.instances()),
                   each.has_instances_max() ? std::to_string(each.instances_max()) : "-"});
      }
      table.print();
    });
  }

  int list_policies() const {
    return show<api::ApplicationView>(of_application(), [](const api::ApplicationView& view) {
      const auto version = [](bool there, std::uint32_t number) { return there ? std::to_string(number) : "-"; };
      Table table({"FUNCTION", "POLICY", "MODE", "FLOW GRAPH"});
      for (const auto& each : view.functions()) {
        table.add({each.name(), version(each.has_policy_version(), each.policy_version()), or_dash(each.mode()),
                   version(each.has_graph_version(), each.graph_version())});
      }
      table.print();
    });
  }

  int list_limits() const {
    return show<api::LimitList>(of_application("/limits"), [](const api::LimitList& all) {
      Table table({"LIMIT", "RATE", "BURST", "OF EACH", "FUNCTIONS", "REQUESTS", "HALTED"});
      for (const auto& each : all.limits()) {
        const auto halted = std::ranges::count_if(each.buckets(), [](const auto& bucket) { return bucket.halted(); });
        table.add({each.name(), text_of(each.per_second()) + "/s", text_of(each.burst()), each.scope(),
                   joined(each.functions(), "(all)"), joined(each.requests(), "(any)"),
                   halted == 0 ? "-" : std::to_string(halted)});
      }
      table.print();
    });
  }

  // Its buckets. With -o json the list, as it is.
  int show_limit() const {
    const std::string& wanted = flags_->name;
    bool found = false;
    const int status = show<api::LimitList>(of_application("/limits"), [&](const api::LimitList& all) {
      for (const auto& each : all.limits()) {
        if (each.name() != wanted) continue;
        found = true;
        std::printf("%s: %s/s, burst %s, %s, for %s: %s\n\n", each.name().c_str(), text_of(each.per_second()).c_str(),
                    text_of(each.burst()).c_str(),
                    each.scope() == "function" ? "of each function" : "of the application",
                    joined(each.functions(), "all functions").c_str(), joined(each.requests(), "any request").c_str());
        Table table({"BUCKET", "AVAILABLE", "LEASED", "STATE"});
        for (const auto& bucket : each.buckets()) {
          const std::string halted = "halted for " + std::to_string(bucket.retry_after_ms()) + " ms";
          table.add({bucket.function().empty() ? flags_->application : bucket.function(), text_of(bucket.available()),
                     text_of(bucket.leased()), bucket.halted() ? halted : "open"});
        }
        if (each.buckets().empty()) table.add({"(all)", text_of(each.burst()), "0", "open"});
        table.print();
      }
    });
    if (status != 0 || found || flags_->output == "json") return status;
    return complain("there is no limit " + wanted + " in " + flags_->application + "; sallyport limit list shows them");
  }

  static void print_guards(const api::GuardList& all) {
    Table table({"GUARD", "APPLICATION", "FUNCTION", "INSTANCE", "STATE", "SEEN", "EXECUTIONS", "NOT TAKEN"});
    for (const auto& each : all.guards()) {
      table.add({each.id().substr(0, 12), each.application(), each.function(), each.instance(), each.state(),
                 text_of(each.seen()), std::to_string(each.executions_open()), or_dash(each.refusal())});
    }
    table.print();
  }

  int list_guards() const {
    std::string target = "/v1/guards";
    if (!flags_->application.empty()) target += "?application=" + percent_encoded(flags_->application);
    return show<api::GuardList>(target, print_guards);
  }

  // Those whose id begins so. With -o json the list of all guards, as it is.
  int show_guard() const {
    bool found = false;
    const int status = show<api::GuardList>("/v1/guards", [&](const api::GuardList& all) {
      for (const auto& each : all.guards()) {
        if (!each.id().starts_with(flags_->name)) continue;
        found = true;
        Table table({"GUARD", each.id()});
        table.add({"application", each.application()});
        table.add({"function", each.function()});
        table.add({"instance", each.instance()});
        table.add({"credential", each.credential()});
        table.add({"registered", text_of(each.registered())});
        table.add({"seen", text_of(each.seen())});
        table.add({"state", each.state()});
        table.add({"generation", std::to_string(each.generation())});
        table.add({"not taken", or_dash(each.refusal())});
        table.add({"executions", std::to_string(each.executions_open())});
        table.print();
      }
    });
    if (status != 0 || found || flags_->output == "json") return status;
    return complain("there is no guard " + flags_->name + "; sallyport guard list shows them");
  }

  // With -o json its guards alone.
  int show_function() const {
    const auto application = call({.target = of_application()});
    if (const int wrong = judge(application); wrong != 0) return wrong;
    api::ApplicationView view;
    if (!read(application->body, view)) return complain("the controller's answer can't be read");
    const auto found = std::ranges::find(view.functions(), flags_->function, &api::FunctionView::name);
    if (found == view.functions().end()) {
      return complain("there is no function " + flags_->function + " in " + flags_->application +
                      "; sallyport function list shows them");
    }
    if (flags_->output != "json") {
      const auto version = [](bool there, std::uint32_t number) { return there ? std::to_string(number) : "-"; };
      Table table({"FUNCTION", found->name()});
      table.add({"policy", version(found->has_policy_version(), found->policy_version())});
      table.add({"mode", or_dash(found->mode())});
      table.add({"flow graph", version(found->has_graph_version(), found->graph_version())});
      table.add({"instances", std::to_string(found->instances())});
      table.add({"at most", version(found->has_instances_max(), found->instances_max())});
      table.print();
      std::printf("\n");
    }
    return show<api::GuardList>("/v1/guards?application=" + percent_encoded(flags_->application) +
                                    "&function=" + percent_encoded(flags_->function),
                                print_guards);
  }

  int list_alarms() const {
    std::string target = of_application("/alarms");
    if (!flags_->since.empty()) target += "?since=" + percent_encoded(flags_->since);
    return show<api::AlarmList>(target, [](const api::AlarmList& all) {
      Table table({"LAST", "KIND", "FUNCTION", "COUNT", "ABOUT", "TEXT"});
      for (const auto& each : all.alarms()) {
        table.add({text_of(each.last()), each.kind(), or_dash(each.function()), std::to_string(each.count()),
                   or_dash(each.about()), each.text()});
      }
      table.print();
    });
  }

  int get_ca() const {
    const auto reply = call({.target = of_application("/ca")});
    if (const int wrong = judge(reply); wrong != 0) return wrong;
    std::fwrite(reply->body.data(), 1, reply->body.size(), stdout);
    return 0;
  }
  // Without files the controller makes one.
  int put_ca() const {
    if (flags_->file.empty() != flags_->key_file.empty()) return complain("FILE and --key go together");
    std::string body;
    for (const std::string* file : {&flags_->file, &flags_->key_file}) {
      if (file->empty()) continue;
      auto text = read_file(*file, limits::kCaPemBytesMax);
      if (!text) return complain(text.error().text);
      body += *text + "\n";
    }
    const auto reply = call({.method = "PUT",
                             .target = of_application("/ca") + (flags_->drop_old ? "?old=drop" : ""),
                             .body = std::move(body),
                             .content_type = "application/x-pem-file"});
    if (const int wrong = judge(reply); wrong != 0) return wrong;
    std::printf("%s\n", flags_->drop_old
                            ? "the new CA signs now, and none before it is trusted any more: give functions what app "
                              "get-ca prints, and start again those that run"
                            : "the new CA is trusted now, and signs in a day: give functions what app get-ca prints "
                              "until then");
    return 0;
  }

  int list_audit() const {
    std::string target = "/v1/audit";
    if (!flags_->since.empty()) target += "?since=" + percent_encoded(flags_->since);
    return show<api::AuditList>(target, [](const api::AuditList& all) {
      Table table({"TIME", "WHO", "WHAT", "ABOUT"});
      for (const auto& each : all.entries()) table.add({text_of(each.time()), each.who(), each.what(), each.about()});
      table.print();
    });
  }

  int put_secret() const {
    auto value = read_file(flags_->file.empty() ? "-" : flags_->file, limits::kSecretBytesMax);
    if (!value) return complain(value.error().text);
    const auto reply = call({.method = "PUT",
                             .target = of_application("/secrets/" + percent_encoded(flags_->name)),
                             .body = std::move(*value),
                             .content_type = "application/octet-stream"});
    if (const int wrong = judge(reply); wrong != 0) return wrong;
    std::printf("the secret %s is in force\n", flags_->name.c_str());
    return 0;
  }

  int make_token() const {
    std::string body = "{\"function\": \"" + flags_->function + "\"";
    if (!flags_->ends_after.empty()) {
      const auto ends = end_of(flags_->ends_after);
      if (!ends) return complain("--for " + flags_->ends_after + ": a span of time is wanted, as 90m, 24h or 30d");
      body += ", \"ends\": \"" + *ends + "\"";
    }
    const auto reply = call({.method = "POST",
                             .target = of_application("/tokens"),
                             .body = body + "}",
                             .content_type = "application/json"});
    if (const int wrong = judge(reply); wrong != 0) return wrong;
    api::TokenView view;
    if (!read(reply->body, view)) return complain("the controller's answer can't be read");
    std::printf("%s\n", flags_->output == "json" ? reply->body.c_str() : view.token().c_str());
    return 0;
  }

  int list_tokens() const {
    return show<api::TokenList>(of_application("/tokens"), [](const api::TokenList& all) {
      Table table({"TOKEN", "FUNCTION", "MADE", "ENDS", ""});
      for (const auto& each : all.tokens()) {
        table.add({each.id(), each.function().empty() ? "(any)" : each.function(), text_of(each.made()),
                   text_of(each.ends()), each.revoked() ? "revoked" : ""});
      }
      table.print();
    });
  }

  int show_events() const;
  int print_traces() const;

 private:
  static std::optional<std::string> end_of(const std::string& span) {
    long count = 0;
    const auto [rest, error] = std::from_chars(span.data(), span.data() + span.size(), count);
    const std::string_view unit(rest, span.data() + span.size());
    const std::chrono::seconds each(unit == "m" ? 60 : unit == "h" ? 3'600 : unit == "d" ? 24 * 3'600 : 0);
    if (error != std::errc() || count <= 0 || count > 100'000 || each.count() == 0) return std::nullopt;
    Timestamp end;
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    end.set_seconds((now + count * each).time_since_epoch().count());
    return text_of(end);
  }
  void print_event(const std::string& line, const api::EventView& event) const;

  std::shared_ptr<Flags> flags_;
  // Of all copies of this.
  const std::shared_ptr<std::unique_ptr<LocalController>> local_ = std::make_shared<std::unique_ptr<LocalController>>();
};

void Administration::print_event(const std::string& line, const api::EventView& event) const {
  if (flags_->output == "json") {
    std::printf("%s\n", line.c_str());
    return;
  }
  std::string text = text_of(event.time()) + "  " + event.function() + "  " + event.kind();
  if (!event.decision().empty()) text += "  " + event.decision();
  if (!event.reason().empty()) text += " " + event.reason();
  if (!event.host().empty() || !event.path().empty()) {
    text += "  " + (event.method().empty() ? "" : event.method() + " ") + event.host() + event.path();
  }
  if (!event.action().empty()) text += " (" + event.action() + ")";
  if (event.status() != 0) text += "  " + std::to_string(event.status());
  if (!event.text().empty()) text += "  " + event.text();
  print_line(text);
}

int Administration::print_traces() const {
  const std::string filter = flags_->function.empty() ? "" : "&function=" + percent_encoded(flags_->function);
  for (std::string row = "0";;) {
    const auto reply = call({.target = of_application("/traces?after=" + row + filter)});
    if (const int wrong = judge(reply); wrong != 0) return wrong;
    std::fwrite(reply->body.data(), 1, reply->body.size(), stdout);
    if (reply->row.empty() || reply->row == row) return 0;
    row = reply->row;
  }
}

int Administration::show_events() const {
  std::string filter;
  const auto add = [&filter](std::string_view name, const std::string& value) {
    if (!value.empty()) filter += "&" + std::string(name) + "=" + percent_encoded(value);
  };
  add("function", flags_->function);
  add("decision", flags_->decision);
  add("kind", flags_->kind);
  add("execution", flags_->execution);
  add("since", flags_->since);
  add("until", flags_->until);
  std::uint64_t row = 0;
  for (;;) {
    const auto reply = call({.target = of_application("/events?after=" + std::to_string(row) + filter)});
    if (const int wrong = judge(reply); wrong != 0) return wrong;
    std::string_view rest = reply->body;
    const bool some = !rest.empty();
    while (!rest.empty()) {
      const std::string line(rest.substr(0, rest.find('\n')));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      api::EventView event;
      if (!read(line, event)) return complain("the controller's answer can't be read");
      row = std::max(row, event.row());
      print_event(line, event);
    }
    std::fflush(stdout);
    if (some) continue;  // there may be more
    if (!flags_->follow) return 0;
    std::this_thread::sleep_for(kFollowEvery);
  }
}

// How the commands are called, on top of what they do.
class Commands {
 public:
  Commands(CLI::App& app, int& exit_code)
      : app_(app), exit_code_(exit_code), flags_(std::make_shared<Flags>()), administration_(flags_) {}

  void add() {
    add_controller();
    add_app();
    add_function();
    add_policy();
    add_secret();
    add_token();
    add_limit();
    CLI::App* guard = group("guard", "The guards that a controller knows");
    CLI::App* guards = command(*guard, "list", "List them", [](const Administration& to) { return to.list_guards(); });
    guards->add_option("-a,--application", flags_->application, "Only of this application")->type_name("NAME");
    CLI::App* one = command(*guard, "show", "Show one", [](const Administration& to) { return to.show_guard(); });
    one->add_option("ID", flags_->name, "Its id, or how that begins")->required();
    CLI::App* alarm = group("alarm", "What a person should look at");
    CLI::App* alarms =
        command(*alarm, "list", "List alarms", [](const Administration& to) { return to.list_alarms(); });
    need_application(alarms);
    add_since(alarms);
    CLI::App* events =
        command(app_, "events", "What guards have told", [](const Administration& to) { return to.show_events(); });
    need_application(events);
    events->add_option("-f,--function", flags_->function, "Only of this function")->type_name("NAME");
    events->add_option("--decision", flags_->decision, "Only these exchanges")
        ->check(CLI::IsMember({"allow", "deny", "would-deny", "error"}));
    events->add_option("--kind", flags_->kind, "Only events of this kind: exchange, inbound, execution-ended …");
    events->add_option("--execution", flags_->execution, "Only of this execution")->type_name("ID");
    add_since(events);
    events->add_option("--until", flags_->until, "Up to this time")->type_name("TIME");
    events->add_flag("--follow", flags_->follow, "Go on with what comes");
    events->footer("Example:\n  sallyport events -a shop --follow --function checkout --decision deny -o json");
    add_since(command(app_, "audit", "Who has changed what", [](const Administration& to) { return to.list_audit(); }));
  }

 private:
  using Act = std::function<int(const Administration&)>;

  CLI::App* group(const std::string& name, const std::string& text) {
    CLI::App* made = app_.add_subcommand(name, text);
    made->require_subcommand(1);
    return made;
  }

  CLI::App* command(CLI::App& parent, const std::string& name, const std::string& text, Act act) {
    CLI::App* made = parent.add_subcommand(name, text);
    made->add_option("--controller", flags_->url,
                     "The admin API; default: $SALLYPORT_ADMIN_URL, else https://127.0.0.1:7444")
        ->type_name("https://HOST:PORT");
    made->add_option("--ca", flags_->ca_file,
                     "What verifies its certificate (PEM); default: $SALLYPORT_ADMIN_CA, else the system's roots")
        ->type_name("FILE");
    made->add_option("--token-file", flags_->token_file,
                     "The administrator's token; default: $SALLYPORT_ADMIN_TOKEN_FILE")
        ->type_name("FILE");
    made->add_option("--data", flags_->data, "Instead of a controller: the folder of one that does not run now")
        ->type_name("DIR");
    made->add_option("-o,--output", flags_->output, "table or json")->check(CLI::IsMember({"table", "json"}));
    made->callback([this_administration = administration_, act = std::move(act), &exit_code = exit_code_] {
      exit_code = act(this_administration);
    });
    return made;
  }

  void need_application(CLI::App* command) {
    command->add_option("-a,--application", flags_->application, "The application")->type_name("NAME")->required();
  }
  void need_function(CLI::App* command) {
    need_application(command);
    command->add_option("-f,--function", flags_->function, "The function")->type_name("NAME")->required();
  }
  void need_file(CLI::App* command) {
    command->add_option("FILE", flags_->file, "The document; - reads standard input")->required();
    command->add_option("--if-version", flags_->version, "Only if this is still the newest version");
  }
  void add_since(CLI::App* command) {
    command->add_option("--since", flags_->since, "From this time on, as 2026-01-31T12:00:00Z")->type_name("TIME");
  }

  // put, get, history, rollback and drop of a document.
  template <class Need, class Target>
  void add_document(CLI::App& parent, const std::string& suffix, const std::string& noun, Need need, Target target) {
    CLI::App* put = command(parent, "put" + suffix, "Put " + noun + " in force",
                            [target](const Administration& to) { return to.put_document(target(to)); });
    need(put);
    need_file(put);
    CLI::App* get = command(parent, "get" + suffix, "Print " + noun,
                            [target](const Administration& to) { return to.get_document(target(to)); });
    need(get);
    get->add_option("--version", flags_->version, "This one; default: the newest");
    need(command(parent, "history" + suffix, "List the versions of " + noun,
                 [target](const Administration& to) { return to.list_versions(target(to)); }));
    CLI::App* back = command(parent, "rollback" + suffix, "Put an older version of " + noun + " in force again",
                             [target](const Administration& to) { return to.roll_back(target(to)); });
    need(back);
    back->add_option("--version", flags_->version, "This one; default: the one before the newest");
    need(command(parent, "drop" + suffix, "Take " + noun + " away",
                 [target](const Administration& to) { return to.drop_document(target(to)); }));
  }

  // The program beside this one, with all that follows.
  void add_controller() {
    CLI::App* controller = group("controller", "The controller itself");
    CLI::App* run = controller->add_subcommand("run", "Run sallyport-controller, which has --help");
    run->prefix_command();
    run->set_help_flag();
    run->callback([run, &exit_code = exit_code_] {
      std::error_code error;
      const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
      const std::string program = error ? "sallyport-controller" : self.parent_path() / "sallyport-controller";
      const std::vector<std::string> words = run->remaining();
      std::vector<char*> arguments = {const_cast<char*>(program.c_str())};
      for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
      arguments.push_back(nullptr);
      ::execv(program.c_str(), arguments.data());
      exit_code = complain(program + ": " + std::strerror(errno));
    });
  }

  void add_app() {
    CLI::App* app = group("app", "Applications of a controller");
    command(*app, "list", "List them", [](const Administration& to) { return to.list_applications(); });
    CLI::App* create = command(*app, "create", "Make one", [](const Administration& to) {
      return to.change("PUT", to.of_application(), "the application " + to.flags().application + " is there");
    });
    create->add_option("NAME", flags_->application, "Its name")->required();
    CLI::App* remove =
        command(*app, "delete", "Forget one and all that is of it but the audit trail", [](const Administration& to) {
          return to.change("DELETE", to.of_application(), "the application " + to.flags().application + " is gone");
        });
    remove->add_option("NAME", flags_->application, "Its name")->required();
    CLI::App* show = command(*app, "show", "Show one", [](const Administration& to) { return to.show_application(); });
    show->add_option("NAME", flags_->application, "Its name")->required();
    CLI::App* rotate = command(*app, "rotate-key", "Make a new key for its tags", [](const Administration& to) {
      return to.change("POST", to.of_application("/tag-key"),
                       "the new key verifies tags now, and makes them when all guards have it");
    });
    rotate->add_option("NAME", flags_->application, "Its name")->required();
    CLI::App* traces =
        command(*app, "traces", "Print the traces that its guards have collected, as flow learn reads them",
                [](const Administration& to) { return to.print_traces(); });
    need_application(traces);
    traces->add_option("-f,--function", flags_->function, "Only of this function")->type_name("NAME");
    need_application(command(*app, "get-ca", "Print what its functions have to trust (PEM)",
                             [](const Administration& to) { return to.get_ca(); }));
    CLI::App* put_ca = command(*app, "put-ca", "Give it another CA, below which its guards' certificates are made",
                               [](const Administration& to) { return to.put_ca(); });
    need_application(put_ca);
    put_ca->add_option("FILE", flags_->file,
                       "The CA's certificate and what leads to its root (PEM); default: a new one");
    put_ca->add_option("--key", flags_->key_file, "Its private key (PEM)")->type_name("FILE");
    put_ca->add_flag("--drop-old", flags_->drop_old,
                     "After a compromise: it signs at once, and none before it is trusted any more");
    const auto need = [this](CLI::App* command) { need_application(command); };
    add_document(*app, "-graph", "the application graph", need,
                 [](const Administration& to) { return to.of_application("/graph"); });
    add_document(*app, "-settings", "the application's settings", need,
                 [](const Administration& to) { return to.of_application("/settings"); });
  }

  void add_function() {
    CLI::App* function = group("function", "Functions of an application");
    need_application(
        command(*function, "list", "List them", [](const Administration& to) { return to.list_functions(); }));
    need_function(command(*function, "show", "Show one, and its guards",
                          [](const Administration& to) { return to.show_function(); }));
    const auto need = [this](CLI::App* command) { need_function(command); };
    add_document(*function, "-graph", "the function's flow graph", need,
                 [](const Administration& to) { return to.of_function("/graph"); });
  }

  void add_policy() {
    CLI::App* policy = app_.get_subcommand("policy");
    need_application(command(*policy, "list", "List which functions have one, and its version",
                             [](const Administration& to) { return to.list_policies(); }));
    const auto need = [this](CLI::App* command) { need_function(command); };
    add_document(*policy, "", "the function's policy", need,
                 [](const Administration& to) { return to.of_function("/policy"); });
  }

  void add_limit() {
    CLI::App* limit =
        group("limit", "Limits that the functions of an application share; app put-settings changes them");
    need_application(command(*limit, "list", "List them", [](const Administration& to) { return to.list_limits(); }));
    CLI::App* show =
        command(*limit, "show", "Show what is used of one", [](const Administration& to) { return to.show_limit(); });
    need_application(show);
    show->add_option("NAME", flags_->name, "Its name")->required();
  }

  void add_secret() {
    CLI::App* secret = group("secret", "Secrets of an application, which guards inject and functions never hold");
    CLI::App* put = command(*secret, "put", "Keep one; the value is read from a file or standard input",
                            [](const Administration& to) { return to.put_secret(); });
    need_application(put);
    put->add_option("NAME", flags_->name, "As policies name it")->required();
    put->add_option("--file", flags_->file, "Where the value is; default: standard input");
    CLI::App* drop = command(*secret, "drop", "Forget one", [](const Administration& to) {
      return to.change("DELETE", to.of_application("/secrets/" + percent_encoded(to.flags().name)),
                       "the secret " + to.flags().name + " is gone");
    });
    need_application(drop);
    drop->add_option("NAME", flags_->name, "Its name")->required();
  }

  void add_token() {
    CLI::App* token = group("token", "Join tokens, by which guards are believed");
    CLI::App* create = command(*token, "create", "Make one; it is shown once",
                               [](const Administration& to) { return to.make_token(); });
    need_application(create);
    create->add_option("-f,--function", flags_->function, "Only for this function")->type_name("NAME");
    create->add_option("--for", flags_->ends_after, "How long it is good, as 90m, 24h or 30d; default: until revoked")
        ->type_name("TIME");
    need_application(command(*token, "list", "List them", [](const Administration& to) { return to.list_tokens(); }));
    CLI::App* revoke = command(*token, "revoke", "Believe one no more; guards that came with it are cut off",
                               [](const Administration& to) {
                                 return to.change("DELETE", "/v1/tokens/" + percent_encoded(to.flags().name),
                                                  "the join token " + to.flags().name + " is revoked");
                               });
    revoke->add_option("ID", flags_->name, "As token list has it")->required();
  }

  CLI::App& app_;
  int& exit_code_;
  std::shared_ptr<Flags> flags_;
  Administration administration_;
};

}  // namespace

void add_administer_commands(CLI::App& app, int& exit_code) { Commands(app, exit_code).add(); }

}  // namespace sallyport::cli
