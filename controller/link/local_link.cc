#include "controller/link/local_link.h"

#include <atomic>

#include "base/limits.h"

namespace sallyport::controller {

using v1alpha1::Envelope;

namespace {

// No loop of a LinkServer has this number, so that its links and these differ.
static_assert(limits::kLinkLoopsMax < 0xFF);
LinkId new_id() {
  static std::atomic<std::uint64_t> serial = 0;
  return LinkId{0xFFULL << 56 | ++serial};
}

}  // namespace

LocalLink::LocalLink(LinkHandler& handler, link::Registration registration, link::LinkHandlers handlers)
    : GuardEnd(std::move(registration), std::move(handlers)), handler_(handler), way_(*this), ended_(loop()) {
  start();
}

LocalLink::~LocalLink() { stop(); }

net::Task<void> LocalLink::run() {
  while (!stopping()) {
    const Result<void> ended = co_await serve();
    down(ended.error());
    co_await loop().sleep_until(loop().in(next_wait()));
  }
}

net::Task<Result<void>> LocalLink::serve() {
  Result<Envelope> hello = register_envelope();
  if (!hello) co_return std::unexpected(std::move(hello.error()));
  id_ = new_id();
  ended_.reset();
  struct Told {
    LocalLink& link;
    ~Told() { link.handler_.closed(link.id_, link.end_.text.empty() ? "the guard ends" : link.end_.text); }
  };
  end_ = {};
  handler_.connected(way_, id_, std::move(*hello->mutable_register_()));
  const Told told{*this};
  const net::Wait wait = co_await ended_.wait(loop().in(limits::kLinkRegisterTimeout));
  if (wait == net::Wait::timeout && !up()) {
    end_ = {ErrorSource::controller, ErrorKind::timeout, "the controller has not registered the guard in time"};
  }
  if (end_.text.empty()) co_await ended_.wait(net::kNoDeadline);  // nothing of it can break unseen
  co_return std::unexpected(end_);
}

void LocalLink::hang_up() {
  if (end_.text.empty()) end_ = {ErrorSource::controller, ErrorKind::closed, "the guard ends"};
  ended_.set();
}

void LocalLink::transmit(std::string_view envelope) {
  Envelope parsed;
  if (!parsed.ParseFromArray(envelope.data(), static_cast<int>(envelope.size()))) return;  // it is our own
  handler_.received(id_, std::move(parsed));
}

// On the link's thread.
void LocalLink::arrive(LinkId link, Envelope envelope) {
  if (link != id_ || !end_.text.empty()) return;
  const Result<void> taken = received(std::move(envelope));
  if (taken) return;
  end_ = taken.error();
  ended_.set();
}

bool LocalLink::Way::send(LinkId link, const Envelope& envelope) {
  if (envelope.ByteSizeLong() > limits::kLinkMessageBytesMax) return false;
  const auto copy = std::make_shared<Envelope>(envelope);
  LocalLink* to = &link_;
  link_.loop().post([to, link, copy] { to->arrive(link, std::move(*copy)); });
  return true;
}

void LocalLink::Way::send_all(std::span<const LinkId> links, const SharedEnvelope& envelope) {
  Envelope parsed;
  const std::string_view payload = envelope.payload();
  if (!parsed.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) return;  // it is our own
  for (const LinkId link : links) send(link, parsed);
}

void LocalLink::Way::close(LinkId link, const v1alpha1::Refused& refused) {
  Envelope envelope;
  *envelope.mutable_refused() = refused;
  send(link, envelope);
}

}  // namespace sallyport::controller
