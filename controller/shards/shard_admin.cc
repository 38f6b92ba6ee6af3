#include "controller/shards/shard_admin.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/limits.h"
#include "controller/admin/admin_views.h"
#include "controller/store/row_text.h"
#include "proxy/http1/https_call.h"

namespace sallyport::controller {

using net::Task;

namespace {

// Which shards an answer is of, for the controller that has passed the call on.
constexpr const char* kShardsHeader = "Sallyport-Shards";

AdminAnswer problem(int status, std::string text) {
  v1alpha1::Problem out;
  out.set_error(std::move(text));
  return {.status = status, .body = to_json(out)};
}

AdminAnswer later(std::string text) {
  AdminAnswer out = problem(503, std::move(text) + "; try again in a second");
  out.headers = {{"Retry-After", "1"}};
  return out;
}

// The application that a call is about; empty: it is about all of them, or about nothing that is known.
std::string application_of(const AdminRequest& request) {
  if (request.path.size() >= 3 && request.path[0] == "v1" && request.path[1] == "applications") return request.path[2];
  const auto named = request.query.find("application");
  const bool guards = request.path == std::vector<std::string>{"v1", "guards"} && named != request.query.end();
  return guards ? named->second : std::string();
}

// What several controllers answer to one call, as one answer.
class Gathered {
 public:
  Gathered(const AdminRequest& request, unsigned shards) : request_(request), asked_(shards) {}

  // False: it is the answer to the whole call.
  bool add(const AdminAnswer& answer, const std::vector<unsigned>& shards) {
    const bool one_has_it = request_.method == "DELETE";  // a token is of one application, and nobody knows which
    if (answer.status != 200 && !(one_has_it && (answer.status == 204 || answer.status == 404))) return false;
    for (const unsigned shard : shards) ++asked_[shard];
    if (answer_.status != 204) answer_ = answer;
    return one_has_it || merge(answer.body);
  }

  bool whole() const {
    return std::ranges::all_of(asked_, [](int times) { return times == 1; });
  }

  AdminAnswer take() {
    AdminAnswer out = std::move(answer_);
    if (request_.method == "DELETE") return out;
    std::ranges::sort(*applications_.mutable_applications());
    sort_audit();
    return {.body = to_json(list())};
  }

 private:
  google::protobuf::Message& list() {
    if (request_.path.back() == "applications") return applications_;
    if (request_.path.back() == "guards") return guards_;
    return audit_;
  }
  // By time, and where that is the same as each controller has it; the last of all.
  void sort_audit() {
    std::vector<std::tuple<std::int64_t, std::int32_t, int>> order;
    for (int i = 0; i < audit_.entries_size(); ++i) {
      order.emplace_back(audit_.entries(i).time().seconds(), audit_.entries(i).time().nanos(), i);
    }
    std::ranges::sort(order);
    if (order.size() > limits::kAdminEventsMax) order.erase(order.begin(), order.end() - limits::kAdminEventsMax);
    v1alpha1::AuditList sorted;
    for (const auto& [seconds, nanos, i] : order) sorted.add_entries()->Swap(audit_.mutable_entries(i));
    audit_ = std::move(sorted);
  }
  bool merge(const std::string& body) {
    const std::unique_ptr<google::protobuf::Message> part(list().New());
    if (!google::protobuf::util::JsonStringToMessage(body, part.get()).ok()) return false;
    list().MergeFrom(*part);
    return true;
  }

  const AdminRequest& request_;
  std::vector<int> asked_;  // for each shard, how often
  AdminAnswer answer_ = problem(404, "there is no such token");
  v1alpha1::ApplicationList applications_;
  v1alpha1::GuardList guards_;
  v1alpha1::AuditList audit_;
};

bool is_of_all(const AdminRequest& request) {
  if (request.path.empty() || request.path[0] != "v1") return false;
  if (request.path.size() == 3) return request.path[1] == "tokens";
  return request.path.size() == 2 &&
         (request.path[1] == "applications" || request.path[1] == "guards" || request.path[1] == "audit");
}

std::string text_of(const std::vector<unsigned>& shards) {
  std::string out;
  for (const unsigned shard : shards) out += (out.empty() ? "" : " ") + std::to_string(shard);
  return out;
}

// As another controller has said it. Nothing: it is not what a controller says.
std::optional<std::vector<unsigned>> shards_of(const AdminAnswer& answer, unsigned count) {
  const auto found = std::ranges::find(answer.headers, kShardsHeader, [](const auto& each) { return each.first; });
  if (found == answer.headers.end()) return std::nullopt;
  std::vector<unsigned> out;
  for (std::string_view rest = found->second; !rest.empty();) {
    const std::string_view word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    std::uint64_t shard = 0;
    if (!read_row_number(word, shard) || shard >= count) return std::nullopt;
    out.push_back(static_cast<unsigned>(shard));
  }
  return out;
}

}  // namespace

Task<AdminAnswer> ShardAdmin::answer(net::Loop& loop, const AdminRequest& request) const {
  if (std::string application = application_of(request); !application.empty()) {
    return answer_of(loop, request, std::move(application));
  }
  return answer_of_all(loop, request);
}

Task<AdminAnswer> ShardAdmin::answer_of(net::Loop& loop, const AdminRequest& request, std::string application) const {
  const unsigned shard = shards_.of(application);
  {
    const auto here = shards_.use(shard);
    // What it has in memory may be old, if it was paused: fails closed.
    if (here && !(*here)->store().ours()) co_return later("another controller may have the application " + application);
    if (here) co_return api_.answer(**here, request);
  }
  auto holder = shards_.holder(shard);
  if (!holder || request.passed_on) {
    co_return later("no controller has the application " + application + " at the moment");
  }
  AdminAnswer passed = co_await pass_on(loop, request, *std::move(holder));
  co_return passed;
}

Task<AdminAnswer> ShardAdmin::answer_of_all(net::Loop& loop, const AdminRequest& request) const {
  if (!is_of_all(request)) co_return problem(404, "there is no such call; docs/controller.md lists them");
  Gathered gathered(request, shards_.count());
  std::vector<unsigned> here;
  for (const unsigned shard : shards_.held()) {
    const auto use = shards_.use(shard);
    if (!use || !(*use)->store().ours()) continue;
    AdminAnswer part = api_.answer(**use, request);
    here.push_back(shard);
    if (!gathered.add(part, {shard})) co_return part;
  }
  if (request.passed_on) {
    AdminAnswer part = gathered.take();
    part.headers = {{kShardsHeader, text_of(here)}};
    co_return part;
  }
  for (const Replica& other : shards_.others()) {
    AdminAnswer part = co_await pass_on(loop, request, other);
    const auto shards = shards_of(part, shards_.count());
    if (!shards || !gathered.add(part, *shards)) co_return part;
  }
  if (!gathered.whole()) co_return later("not every application has a controller at the moment");
  co_return gathered.take();
}

// With the caller's token: the other decides by itself what that may do.
Task<AdminAnswer> ShardAdmin::pass_on(net::Loop& loop, const AdminRequest& request, Replica to) const {
  auto server = http1::parse_https_url(to.admin_url);
  if (!server) co_return later("the controller at " + to.admin_url + " can't be asked");
  server->ca_file = ca_file_;
  http1::HttpsCall call{.method = request.method, .target = request.target, .body = request.body};
  call.headers = {{"Authorization", "Bearer " + request.token}, {std::string(kPassedOnHeader), "1"}};
  if (!request.if_match.empty()) call.headers.emplace_back("If-Match", request.if_match);
  auto client = http1::HttpsClient::create(loop);
  if (!client) co_return later(client.error().text);
  const auto reply =
      co_await (*client)->call(*server, call, limits::kAdminAnswerBytesMax * 2, loop.in(limits::kPassedOnTimeout));
  // It may have been done, as far as anybody here knows.
  if (!reply) co_return later("the controller that has it does not answer: " + reply.error().text);
  AdminAnswer out{
      .status = reply->status, .content_type = std::string(reply->header("content-type")), .body = reply->body};
  for (const char* const name : {"ETag", "Sallyport-Row", "Retry-After", kShardsHeader}) {
    const bool there = std::ranges::any_of(reply->headers,
                                           [name](const auto& each) { return request::name_equals(each.first, name); });
    if (there) out.headers.emplace_back(name, reply->header(name));
  }
  co_return out;
}

}  // namespace sallyport::controller
