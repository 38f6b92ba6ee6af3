#include "cli/local_controller.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/hex.h"
#include "base/random.h"
#include "controller/admin/admin_api.h"
#include "controller/core/controller.h"
#include "controller/link/local_link.h"
#include "controller/store/sqlite_store.h"

namespace sallyport::cli {
namespace {

using controller::Document;
using controller::DocumentKind;

constexpr const char* kWho = "local";

std::string random_text() {
  std::array<unsigned char, 16> bytes{};
  return random_bytes(bytes) ? to_hex(bytes) : std::string();
}

}  // namespace

struct LocalController::Parts {
  std::unique_ptr<controller::SqliteStore> store;
  std::unique_ptr<controller::Controller> controller;
  std::string admin_token;
  std::unique_ptr<controller::AdminApi> admin;
  std::optional<guard::Membership> membership;
  std::unique_ptr<controller::LocalLink> link;
};

LocalController::LocalController(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
LocalController::~LocalController() = default;

Result<std::unique_ptr<LocalController>> LocalController::open(const std::string& folder, Say say) {
  auto parts = std::make_unique<Parts>();
  auto store = controller::SqliteStore::open(folder);
  if (!store) return std::unexpected(store.error());
  parts->store = std::move(*store);
  auto controller = controller::Controller::start(*parts->store, {.say = std::move(say)});
  if (!controller) return std::unexpected(controller.error());
  parts->controller = std::move(*controller);
  parts->admin_token = random_text();
  auto editor = controller::make_administrator(kWho, controller::Role::editor, parts->admin_token);
  if (!editor) return std::unexpected(editor.error());
  parts->admin = std::make_unique<controller::AdminApi>(std::vector{*editor});
  return std::unique_ptr<LocalController>(new LocalController(std::move(parts)));
}

Result<ControllerReply> LocalController::call(const ControllerCall& call) {
  controller::AdminRequest request;
  request.method = call.method;
  request.token = parts_->admin_token;
  request.if_match = call.if_match;
  request.body = call.body;
  if (!controller::read_target(call.target, request)) {
    return fail(ErrorSource::controller, ErrorKind::invalid, "a name is empty, or can't stand in a call");
  }
  controller::AdminAnswer answer = parts_->admin->answer(*parts_->controller, request);
  ControllerReply reply{.status = answer.status, .etag = {}, .row = {}, .body = std::move(answer.body)};
  for (auto& [name, value] : answer.headers) {
    if (name == "ETag") {
      reply.etag = std::move(value);
    } else if (name == "Sallyport-Row") {
      reply.row = std::move(value);
    }
  }
  return reply;
}

Result<std::vector<document::Diagnostic>> LocalController::put(const guard::MemberOf& of, const Documents& documents) {
  controller::Controller& controller = *parts_->controller;
  std::vector<document::Diagnostic> diagnostics;
  const std::vector<std::string> known = controller.applications();
  if (std::ranges::find(known, of.application) == known.end()) {
    if (auto made = controller.create_application(of.application, kWho); !made) return std::unexpected(made.error());
  }
  const auto put_one = [&](DocumentKind kind, const std::string& file, const std::string& text) -> Result<void> {
    Document wanted;
    wanted.application = of.application;
    wanted.function = of.function;
    wanted.kind = kind;
    wanted.text = text;
    const auto versions = controller.versions(wanted);
    if (!versions) return std::unexpected(versions.error());
    if (!versions->empty() && versions->front().text == text) return {};
    auto put = controller.put_document(std::move(wanted), 0, kWho);
    if (!put) return std::unexpected(put.error());
    for (document::Diagnostic& each : put->diagnostics) {
      each.file = file;
      diagnostics.push_back(std::move(each));
    }
    return {};
  };
  // The graph first, as a policy that wants one is refused without.
  if (!documents.graph.empty()) {
    if (auto put = put_one(DocumentKind::graph, documents.graph_file, documents.graph); !put) {
      return std::unexpected(put.error());
    }
  }
  if (auto put = put_one(DocumentKind::policy, documents.policy_file, documents.policy); !put) {
    return std::unexpected(put.error());
  }
  return diagnostics;
}

Result<guard::Membership*> LocalController::join(const guard::MemberOf& of, const guard::PolicyContext& context) {
  auto token = parts_->controller->believe_this_process(of.application, of.function);
  if (!token) return std::unexpected(token.error());
  const std::string instance = random_text();
  if (instance.empty()) {
    return fail(ErrorSource::internal, ErrorKind::unavailable, "no random bytes for the name of this instance");
  }
  const link::Registration registration = [of, context, instance,
                                           token = std::move(*token)]() -> Result<link::api::Register> {
    link::api::Register out;
    out.set_application(of.application);
    out.set_function(of.function);
    out.set_instance(instance);
    out.set_image_digest(context.image_digest);
    out.set_join_token(token);
    return out;
  };
  parts_->membership.emplace(guard::Membership::Options{of, context, "of this process"});
  parts_->link =
      std::make_unique<controller::LocalLink>(*parts_->controller, registration, parts_->membership->handlers());
  parts_->membership->attach(*parts_->link);
  return &*parts_->membership;
}

}  // namespace sallyport::cli
