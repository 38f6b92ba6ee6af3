#include "controller/registry/token_review.h"

#include <google/protobuf/util/json_util.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <deque>
#include <future>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/read_file.h"
#include "controller/api/token_review.pb.h"
#include "policy-engine/document/names.h"

namespace sallyport::controller {

namespace {

constexpr std::string_view kPath = "/apis/authentication.k8s.io/v1/tokenreviews";
constexpr std::string_view kAccountPrefix = "system:serviceaccount:";

std::unexpected<Error> refused(std::string text) {
  return fail(ErrorSource::controller, ErrorKind::refused, std::move(text));
}

std::unexpected<Error> unavailable(std::string text) {
  return fail(ErrorSource::controller, ErrorKind::unavailable, std::move(text));
}

std::string hash_of(std::string_view token) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(),
         reinterpret_cast<unsigned char*>(out.data()));
  return out;
}

std::string first_of(const v1alpha1::TokenReviewUser& user, const char* name) {
  const auto found = user.extra().find(name);
  return found == user.extra().end() || found->second.values_size() != 1 ? std::string()
                                                                         : found->second.values(0).string_value();
}

}  // namespace

std::string review_request(std::string_view token, std::string_view audience) {
  v1alpha1::TokenReview review;
  review.set_api_version("authentication.k8s.io/v1");
  review.set_kind("TokenReview");
  review.mutable_spec()->set_token(std::string(token));
  review.mutable_spec()->add_audiences(std::string(audience));
  std::string out;
  const auto written = google::protobuf::util::MessageToJsonString(review, &out);
  return written.ok() ? out : std::string();
}

Result<ReviewedToken> read_review(std::string_view json, std::string_view audience) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  v1alpha1::TokenReview review;
  if (!google::protobuf::util::JsonStringToMessage(std::string(json), &review, options).ok()) {
    return fail(ErrorSource::controller, ErrorKind::malformed, "the API server's answer is no TokenReview");
  }
  const v1alpha1::TokenReviewStatus& status = review.status();
  if (!status.authenticated()) {
    return refused("Kubernetes does not know the service account's token" +
                   (status.error().empty() ? std::string() : ": " + status.error()));
  }
  // One that knows no audiences answers without: any token of the cluster would do.
  if (std::ranges::find(status.audiences(), audience) == status.audiences().end()) {
    return refused("the service account's token is not for the audience " + std::string(audience));
  }
  std::string_view name = status.user().username();
  if (!name.starts_with(kAccountPrefix)) return refused("the token is not of a service account");
  name.remove_prefix(kAccountPrefix.size());
  const std::size_t colon = name.find(':');
  const std::string_view space = name.substr(0, colon);
  const std::string_view account = colon == name.npos ? std::string_view() : name.substr(colon + 1);
  if (!document::is_label(space) || !document::is_subdomain(account)) {
    return refused("the token is not of a service account");
  }
  return ReviewedToken{std::string(space) + "/" + std::string(account),
                       first_of(status.user(), "authentication.kubernetes.io/pod-name"),
                       first_of(status.user(), "authentication.kubernetes.io/pod-uid")};
}

struct TokenReviewer::Impl {
  struct Known {
    ReviewedToken token;
    net::Deadline until;
  };
  struct Asked {
    std::string token;
    std::vector<Done> done;
  };

  const TokenReviewOptions options;
  net::Loop loop;
  std::unique_ptr<http1::HttpsClient> client;
  std::thread thread;

  // All of it on the loop's thread. By the hash of a token.
  std::unordered_map<std::string, Known> known;
  std::unordered_map<std::string, Asked> asked;
  std::deque<std::string> waiting;  // of those asked about, the ones whose turn has not come
  std::size_t running = 0;

  explicit Impl(TokenReviewOptions given) : options(std::move(given)) {}

  void take(std::string token, Done done);
  void answer(const std::string& hash, const Result<ReviewedToken>& result);
  void go_on();
  void keep(const std::string& hash, const ReviewedToken& token);
  static net::Task<void> ask(Impl& self, std::string hash);
  net::Task<Result<ReviewedToken>> call(std::string_view token);
};

void TokenReviewer::Impl::take(std::string token, Done done) {
  const std::string hash = hash_of(token);
  if (const auto found = known.find(hash); found != known.end()) {
    if (net::Clock::now() < found->second.until) return done(found->second.token);
    known.erase(found);
  }
  if (const auto found = asked.find(hash); found != asked.end()) return found->second.done.push_back(std::move(done));
  if (asked.size() >= limits::kTokenReviewsMax) return done(unavailable("too many tokens wait to be reviewed"));
  Asked& fresh = asked[hash];
  fresh.token = std::move(token);
  fresh.done.push_back(std::move(done));
  waiting.push_back(hash);
  go_on();
}

void TokenReviewer::Impl::go_on() {
  while (running < limits::kTokenReviewsAtOnce && !waiting.empty()) {
    ++running;
    std::string next = std::move(waiting.front());
    waiting.pop_front();
    loop.spawn(ask(*this, std::move(next)));
  }
}

net::Task<void> TokenReviewer::Impl::ask(Impl& self, std::string hash) {
  const Result<ReviewedToken> result = co_await self.call(self.asked.at(hash).token);
  if (result) self.keep(hash, *result);
  self.answer(hash, result);
  --self.running;
  self.go_on();
}

net::Task<Result<ReviewedToken>> TokenReviewer::Impl::call(std::string_view token) {
  Result<std::string> own = read_file(options.token_file, limits::kJoinTokenBytesMax);
  if (!own) co_return unavailable("the controller's own token can't be read: " + own.error().text);
  while (own->ends_with('\n')) own->pop_back();
  http1::HttpsCall wanted{
      .method = "POST", .target = std::string(kPath), .body = review_request(token, options.audience)};
  wanted.headers = {
      {"Authorization", "Bearer " + *own}, {"Content-Type", "application/json"}, {"Accept", "application/json"}};
  OPENSSL_cleanse(own->data(), own->size());
  const auto reply = co_await client->call(options.api_server, wanted, limits::kTokenReviewBytesMax,
                                           loop.in(limits::kTokenReviewTimeout));
  if (!reply) co_return std::unexpected(reply.error());
  if (reply->status == 401 || reply->status == 403) {
    co_return unavailable("the API server lets the controller review no tokens (" + std::to_string(reply->status) +
                          "); its service account needs the cluster role system:auth-delegator");
  }
  if (reply->status != 200 && reply->status != 201) {
    co_return unavailable("the API server answered " + std::to_string(reply->status));
  }
  co_return read_review(reply->body, options.audience);
}

void TokenReviewer::Impl::answer(const std::string& hash, const Result<ReviewedToken>& result) {
  auto node = asked.extract(hash);
  OPENSSL_cleanse(node.mapped().token.data(), node.mapped().token.size());
  for (const Done& done : node.mapped().done) done(result);
}

void TokenReviewer::Impl::keep(const std::string& hash, const ReviewedToken& token) {
  const net::Deadline now = net::Clock::now();
  if (known.size() >= limits::kTokenReviewsKeptMax) {
    std::erase_if(known, [now](const auto& each) { return each.second.until <= now; });
  }
  // Without room it is asked about again.
  if (known.size() < limits::kTokenReviewsKeptMax) known[hash] = {token, now + limits::kTokenReviewKept};
}

TokenReviewer::TokenReviewer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<TokenReviewer>> TokenReviewer::start(TokenReviewOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  // The client begins and ends on its thread: OpenSSL keeps for each thread what it needs of a context.
  std::promise<Result<void>> made;
  impl->thread = std::thread([raw = impl.get(), &made] {
    auto client = http1::HttpsClient::create(raw->loop);
    if (!client) return made.set_value(std::unexpected(std::move(client.error())));
    raw->client = std::move(*client);
    made.set_value({});
    raw->loop.run();
    raw->loop.drop_tasks();
    raw->client.reset();
  });
  if (const Result<void> result = made.get_future().get(); !result) {
    impl->thread.join();
    return std::unexpected(result.error());
  }
  return std::unique_ptr<TokenReviewer>(new TokenReviewer(std::move(impl)));
}

TokenReviewer::~TokenReviewer() { stop(); }

void TokenReviewer::review(std::string token, Done done) {
  Impl* const impl = impl_.get();
  impl->loop.post([impl, token = std::move(token), done = std::move(done)]() mutable {
    impl->take(std::move(token), std::move(done));
  });
}

void TokenReviewer::stop() {
  if (!impl_->thread.joinable()) return;
  impl_->loop.stop();
  impl_->thread.join();
}

}  // namespace sallyport::controller
