#include "cli/policy.h"

#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/read_file.h"
#include "policy-engine/document/evaluate.h"
#include "policy-engine/document/load.h"
#include "proxy/guard/json.h"
#include "proxy/guard/policy_source.h"

namespace sallyport::cli {

namespace {

using document::Evaluation;
using document::Snapshot;

struct Flags {
  std::string file;
  std::vector<std::string> requests;
  std::string output = "text";
};

std::string name_of(const std::string& file) { return file == "-" ? "stdin" : file; }

// Null after the diagnostics have been printed. Secrets are not read: whether a policy is right does not depend on
// them.
std::shared_ptr<const Snapshot> load(const std::string& file) {
  const auto text = read_file(file, limits::kPolicyBytesMax);
  if (!text) {
    std::cerr << "sallyport: " << text.error().text << "\n";
    return nullptr;
  }
  document::LoadResult result = document::load_policy(*text, name_of(file), nullptr);
  const bool names_graph = result.snapshot && result.snapshot->flow() != nullptr;
  if (names_graph &&
      !guard::read_graph(file, *result.snapshot, {}, std::chrono::system_clock::now(), result.diagnostics)) {
    result.snapshot.reset();
  }
  for (const document::Diagnostic& diagnostic : result.diagnostics) std::cerr << diagnostic.to_string() << "\n";
  return result.snapshot;
}

int check(const Flags& flags) {
  const auto snapshot = load(flags.file);
  if (!snapshot) return kExitBadPolicy;
  std::cout << name_of(flags.file) << ": good: " << snapshot->summary() << "\n";
  return 0;
}

struct Answer {
  std::string request;  // as it was given
  Evaluation evaluation;
  Snapshot::RuleText rule;
};

Answer answer_of(const Snapshot& snapshot, const std::string& request, Evaluation evaluation) {
  Answer answer{request, std::move(evaluation), {}};
  const document::RequestDecision& decision = answer.evaluation.decision;
  if (decision.allowed) answer.rule = snapshot.rule_text(*decision.endpoint, decision.rule);
  return answer;
}

void print_text(const Answer& answer, const std::string& file) {
  const document::RequestDecision& decision = answer.evaluation.decision;
  std::cout << (decision.allowed ? "allow  " : "deny   ") << answer.request << "\n";
  if (!decision.allowed) {
    std::cout << "       " << to_string(decision.reason) << ": " << answer.evaluation.text << "\n";
  } else if (answer.evaluation.tcp) {
    std::cout << "       endpoint " << decision.endpoint->name << " (" << file << ":" << decision.endpoint->line
              << "): protocol: tcp, the connection is relayed unread\n";
  } else if (decision.rule < 0) {
    std::cout << "       endpoint " << decision.endpoint->name << " (" << file << ":" << decision.endpoint->line
              << "): inspection: none, the connection is passed through\n";
  } else {
    std::cout << "       endpoint " << decision.endpoint->name << ", rule " << decision.rule + 1 << " (" << file << ":"
              << answer.rule.line << "): " << answer.rule.text << "\n";
  }
  const std::string url = answer.evaluation.url();
  const std::string action = answer.evaluation.action.empty() ? "" : " " + answer.evaluation.action;
  if (!url.empty() && answer.request != answer.evaluation.method + " " + url + action) {
    std::cout << "       " << (decision.allowed ? "sent as " : "understood as ") << url << "\n";
  }
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  out += out.ends_with('{') ? "\"" : ", \"";
  out += name;
  out += "\": ";
  guard::append_json_string(out, value);
}

void append_field(std::string& out, std::string_view name, int value) {
  out += ", \"";
  out += name;
  out += "\": " + std::to_string(value);
}

std::string to_json(const Answer& answer) {
  const document::RequestDecision& decision = answer.evaluation.decision;
  std::string out = "{";
  append_field(out, "request", answer.request);
  append_field(out, "decision", decision.allowed ? "allow" : "deny");
  append_field(out, "reason", to_string(decision.reason));
  append_field(out, "url", answer.evaluation.url());
  if (decision.endpoint != nullptr) append_field(out, "endpoint", decision.endpoint->name);
  if (decision.rule >= 0) {
    append_field(out, "rule", decision.rule);
    append_field(out, "line", answer.rule.line);
    append_field(out, "match", answer.rule.text);
  }
  append_field(out, "text", answer.evaluation.text);
  return out + "}";
}

void print_json(const std::vector<Answer>& answers, const Snapshot& snapshot, const std::string& file) {
  std::string out = "{";
  append_field(out, "policy", file);
  append_field(out, "mode", to_string(snapshot.mode()));
  out += ", \"requests\": [";
  for (const Answer& answer : answers) {
    out += (out.ends_with('[') ? "\n  " : ",\n  ") + to_json(answer);
  }
  std::cout << out << "\n]}\n";
}

int test(const Flags& flags) {
  const auto snapshot = load(flags.file);
  if (!snapshot) return kExitBadPolicy;
  std::vector<Answer> answers;
  bool denied = false;
  for (const std::string& request : flags.requests) {
    auto evaluation = document::evaluate(*snapshot, request);
    if (!evaluation) {
      std::cerr << "sallyport: --request " << evaluation.error().text << "\n";
      return kExitBadRequest;
    }
    denied |= !evaluation->decision.allowed;
    answers.push_back(answer_of(*snapshot, request, std::move(*evaluation)));
  }
  if (flags.output == "json") {
    print_json(answers, *snapshot, name_of(flags.file));
  } else {
    for (const Answer& answer : answers) print_text(answer, name_of(flags.file));
    if (denied && snapshot->mode() != document::Mode::enforce) {
      std::cout << "The mode is " << to_string(snapshot->mode()) << ": what is denied here passes, and is recorded.\n";
    }
  }
  return denied ? kExitDenied : 0;
}

}  // namespace

void add_policy_command(CLI::App& app, int& exit_code) {
  CLI::App* policy = app.add_subcommand("policy", "Check policies and try requests against them");
  policy->require_subcommand(1);
  const auto flags = std::make_shared<Flags>();

  CLI::App* check_command = policy->add_subcommand("check", "Say everything that is wrong with a policy");
  check_command->add_option("FILE", flags->file, "The policy; - reads standard input")->required();
  check_command->callback([flags, &exit_code] { exit_code = check(*flags); });
  check_command->footer("Example:\n  sallyport policy check policy.yaml\nExit code: 0, or 1 if there is an error.");

  CLI::App* test_command = policy->add_subcommand("test", "Say what a policy decides about requests, and why");
  test_command->add_option("FILE", flags->file, "The policy; - reads standard input")->required();
  test_command
      ->add_option("--request", flags->requests,
                   "A method and a URL, and its API action if it has one; or tcp://HOST:PORT; repeatable")
      ->required()
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  test_command->add_option("-o,--output", flags->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  test_command->callback([flags, &exit_code] { exit_code = test(*flags); });
  test_command->footer(
      "Example:\n  sallyport policy test policy.yaml --request 'POST https://api.stripe.com/v1/charges'\n"
      "Exit code: 0 if every request is allowed, 3 if one is denied, 1 if the policy is wrong, 2 if a request is.");
}

}  // namespace sallyport::cli
