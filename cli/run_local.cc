#include "cli/run_local.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/limits.h"
#include "base/read_file.h"
#include "policy-engine/document/diagnostics.h"

namespace sallyport::cli {
namespace {

std::unexpected<Error> invalid(std::string text) {
  return fail(ErrorSource::policy, ErrorKind::invalid, std::move(text));
}

// Whether there are none but warnings.
bool tell(const std::vector<document::Diagnostic>& diagnostics, const LocalController::Say& say) {
  for (const document::Diagnostic& diagnostic : diagnostics) say(diagnostic.to_string());
  return std::ranges::all_of(diagnostics, [](const document::Diagnostic& each) { return each.warning; });
}

struct Files {
  LocalController::Documents documents;
  std::string function;
};

Result<Files> read_files(const std::string& policy_file, const LocalController::Say& say) {
  Files out;
  out.documents.policy_file = policy_file;
  Result<std::string> policy = read_file(policy_file, limits::kPolicyBytesMax);
  if (!policy) return std::unexpected(policy.error());
  out.documents.policy = std::move(*policy);
  // For the function and the graph's name alone: whether it can be used the controller says, and at last the guard.
  const document::LoadResult loaded = document::load_policy(out.documents.policy, policy_file, nullptr);
  if (!loaded.snapshot) {
    tell(loaded.diagnostics, say);
    return invalid("the policy can't be used");
  }
  out.function = loaded.snapshot->function();
  if (loaded.snapshot->flow() == nullptr) return out;
  out.documents.graph_file = guard::graph_file_of(policy_file, *loaded.snapshot->flow());
  Result<std::string> graph = read_file(out.documents.graph_file, limits::kPolicyBytesMax);
  if (!graph) return std::unexpected(graph.error());
  out.documents.graph = std::move(*graph);
  return out;
}

}  // namespace

Result<LocalMember> begin_local(const LocalRun& run, const guard::PolicyContext& context,
                                const LocalController::Say& say) {
  LocalMember out;
  out.of = {run.application.empty() ? kLocalApplication : run.application, run.function};
  Files files;
  if (!run.policy_file.empty()) {
    Result<Files> read = read_files(run.policy_file, say);
    if (!read) return std::unexpected(read.error());
    files = std::move(*read);
    if (out.of.function.empty()) out.of.function = files.function;
  }
  auto controller = LocalController::open(run.folder, say);
  if (!controller) return fail(ErrorSource::policy, controller.error().kind, "--data: " + controller.error().text);
  out.controller = std::move(*controller);
  if (!run.policy_file.empty()) {
    auto put = out.controller->put(out.of, files.documents);
    if (!put) return std::unexpected(put.error());
    if (!tell(*put, say)) return invalid("the policy can't be used");
  }
  auto membership = out.controller->join(out.of, context);
  if (!membership) return std::unexpected(membership.error());
  out.membership = *membership;
  return out;
}

}  // namespace sallyport::cli
