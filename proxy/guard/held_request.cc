#include "proxy/guard/held_request.h"

#include <openssl/crypto.h>

#include <algorithm>

#include "base/limits.h"

namespace sallyport::guard {
namespace {

constexpr std::size_t kStepBytes = limits::kBufferBytes;  // a small body takes no more than this of the common room

// Grows without leaving a copy behind.
void grow(std::string& text, std::size_t capacity) {
  std::string larger;
  larger.reserve(capacity);
  larger = text;
  OPENSSL_cleanse(text.data(), text.size());
  text.swap(larger);
}

std::unexpected<Error> too_long() {
  return fail(ErrorSource::policy, ErrorKind::limit,
              "the body is longer than " + std::to_string(limits::kActionBodyBytesMax) +
                  " bytes, and the policy needs to look at all of it");
}

}  // namespace

bool HeldBytes::take(std::size_t bytes) {
  if (bytes > limits::kActionBytesHeldMax - taken_) return false;
  taken_ += bytes;
  return true;
}

HeldRequest::~HeldRequest() {
  OPENSSL_cleanse(head_.data(), head_.size());
  OPENSSL_cleanse(body_.data(), body_.size());
  bytes_.give_back(taken_);
}

void HeldRequest::keep_head(request::RequestHead& head) {
  std::size_t size = head.method.size() + head.target.size() + head.authority.size();
  for (const request::Header& field : head.headers) size += field.name.size() + field.value.size();
  head_.reserve(size);  // views into it are handed out while it grows
  const auto kept = [this](std::string_view text) {
    head_ += text;
    return std::string_view(head_).substr(head_.size() - text.size());
  };
  head.method = kept(head.method);
  head.target = kept(head.target);
  head.authority = kept(head.authority);
  std::vector<request::Header> fields;
  fields.reserve(head.headers.size());
  for (const request::Header& field : head.headers) fields.push_back({kept(field.name), kept(field.value)});
  head.headers.clear();
  for (const request::Header& field : fields) head.headers.add(field.name, field.value);
}

Result<void> HeldRequest::append(std::string_view data) {
  if (data.size() > limits::kActionBodyBytesMax - body_.size()) return too_long();
  const std::size_t needed = body_.size() + data.size();
  if (needed > taken_) {
    const std::size_t room = std::min(limits::kActionBodyBytesMax, std::max({needed, 2 * taken_, kStepBytes}));
    // Fails closed, and for a moment only: others that are held now will be sent.
    if (!bytes_.take(room - taken_)) {
      return fail(ErrorSource::internal, ErrorKind::unavailable,
                  "too many requests are held until their bodies are here");
    }
    taken_ = room;
    grow(body_, room);
  }
  body_ += data;
  return {};
}

Result<void> HeldRequest::replace(std::string_view body) {
  std::string old;
  old.swap(body_);
  Result<void> kept = append(body);
  OPENSSL_cleanse(old.data(), old.size());
  return kept;
}

net::Task<Result<void>> HeldRequest::read(http::Exchange& exchange, net::Deadline deadline) {
  keep_head(exchange.head());
  if (exchange.body().kind == http::BodyInfo::Kind::sized && exchange.body().length > limits::kActionBodyBytesMax) {
    co_return too_long();
  }
  if (exchange.expects_continue()) {
    request::ResponseHead go_on;
    go_on.status = 100;
    go_on.reason = "Continue";
    Result<void> informed = co_await exchange.inform(go_on);
    if (!informed) co_return informed;
    exchange.head().headers.erase("expect");
  }
  Result<http::Chunk> chunk = exchange.buffered_body();
  while (true) {
    if (!chunk) co_return std::unexpected(chunk.error());
    Result<void> kept = append(chunk->data);
    if (!kept || chunk->end) {
      held_ = kept.has_value();
      co_return kept;
    }
    chunk = co_await exchange.read_body(deadline);
  }
}

http::BodyInfo HeldRequest::info(const http::Exchange& exchange) const {
  if (!exchange.trailers().empty()) return {http::BodyInfo::Kind::streamed, 0, false};
  return {http::BodyInfo::Kind::sized, body_.size(), false};
}

}  // namespace sallyport::guard
