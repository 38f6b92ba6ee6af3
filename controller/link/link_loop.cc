#include "controller/link/link_loop.h"

#include <sys/ioctl.h>

#include <algorithm>

#include "base/limits.h"
#include "proxy/http1/websocket_opening.h"
#include "proxy/net/tls_kdf.h"

namespace sallyport::controller {

using http1::WebSocketEndpoint;
using net::Deadline;
using net::Task;
using v1alpha1::Envelope;
using v1alpha1::Refused;
using v1alpha1::RefusedReason;

namespace {

constexpr std::uint16_t kGoingAway = 1001, kPolicyViolation = 1008;
constexpr std::string_view kTicketsName = "link";  // tickets are bound to it

// One number for all servers of the process, so that no link is taken for an earlier one of another server.
std::uint64_t next_serial() {
  static std::atomic<std::uint64_t> last = 0;
  return ++last;
}

}  // namespace

// One guard's connection. It enters the tables of its loop when it is made and leaves them when it goes, whatever ends
// it, and so does what the handler and the counts know of it.
class LinkLoop::Connection {
 public:
  Connection(LinkLoop& owner, UniqueFd fd, net::ConnectionSlot taken)
      : loop(owner),
        serial(next_serial()),
        stream(owner.loop_, std::move(fd), ErrorSource::downstream),
        place(std::move(taken)),
        opened(owner.loop_.now()),
        heard(opened),
        answered(owner.loop_),
        writer(owner.loop_) {
    loop.connections_.emplace(serial, this);
    in_unregistered = loop.unregistered_.insert(loop.unregistered_.end(), this);
    ++loop.parts_.counts->open;
    ++loop.parts_.counts->opened;
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    leave_unregistered();
    loop.connections_.erase(serial);
    loop.held_ -= held;
    --loop.parts_.counts->open;
    if (is_guard) --loop.parts_.counts->guards;
    if (told) loop.parts_.handler->closed(id(), why.empty() ? "the controller stops" : why);
  }

  LinkId id() const { return LinkId{loop.parts_.index << kSerialBits | serial}; }
  void leave_unregistered() {
    if (in_unregistered) loop.unregistered_.erase(*in_unregistered);
    in_unregistered.reset();
  }
  // Looks whether something has come. What has come and is not read yet counts, and so does waiting for the handler.
  void notice() {
    int unread = 0;
    const bool waits = ::ioctl(stream.socket().fd(), FIONREAD, &unread) == 0 && unread > 0;
    const std::uint64_t received = stream.bytes_received();
    if (waits || stage == Stage::asked || received != noticed) heard = loop.loop_.now();
    noticed = received;
  }
  // The first reason counts: what follows is its consequence.
  void end(std::string reason) {
    stage = Stage::ending;
    if (why.empty()) why = std::move(reason);
    answered.set();
  }

  LinkLoop& loop;
  const std::uint64_t serial;
  net::Stream stream;
  std::optional<WebSocketEndpoint> socket;
  net::ConnectionSlot place;  // until it is registered
  std::optional<std::list<Connection*>::iterator> in_unregistered;
  Stage stage = Stage::opening;
  bool told = false;  // the handler knows of it
  bool is_guard = false;
  std::string why;
  Deadline opened;
  Deadline heard;                                               // as make_room() has noticed
  std::uint64_t noticed = 0;                                    // bytes
  net::Event answered;                                          // registered, or ending
  net::Clock::duration silence = limits::kLinkRegisterTimeout;  // that is too long
  std::size_t held = 0;                                         // of the loop's held_
  net::Concurrent writer;                                       // last: it refers to the others
};

Result<std::unique_ptr<LinkLoop>> LinkLoop::create(Parts parts, const LinkServerOptions& options) {
  std::unique_ptr<LinkLoop> loop(new LinkLoop(std::move(parts)));
  // Of its own: inside one context OpenSSL 3.0 does not scale.
  loop->lib_.reset(OSSL_LIB_CTX_new());
  if (!loop->lib_) return fail(ErrorSource::internal, ErrorKind::limit, "out of memory for OpenSSL");
  net::provide_key_schedule(loop->lib_);
  auto identity = ServerIdentity::load(loop->lib_.get(), options.certificates_pem, options.key_pem);
  if (!identity) return std::unexpected(std::move(identity.error()));
  loop->identity_.emplace(std::move(*identity));
  auto tls = net::ServerTls::create(loop->lib_.get(), {"http/1.1"});
  if (!tls) return std::unexpected(std::move(tls.error()));
  loop->tls_ = std::move(*tls);
  return loop;
}

LinkLoop::~LinkLoop() { join(); }

void LinkLoop::start(UniqueFd listening) {
  net::Acceptor::Handlers handlers{
      .on_connection = [this](UniqueFd fd, net::ConnectionSlot place) { accept(std::move(fd), std::move(place)); },
      .on_trouble = parts_.on_trouble,
      .on_full = [this] { make_room(); }};
  acceptor_.emplace(loop_, std::move(listening), net::ConnectionLimit(limits::kLinkUnregisteredPerLoopMax),
                    std::move(handlers));
  thread_ = std::thread([this] {
    thread_id_ = std::this_thread::get_id();
    loop_.run();
    loop_.drop_tasks();  // here, as what goes with them belongs to this thread
  });
}

Result<void> LinkLoop::show(const std::string& certificates_pem, const std::string& key_pem) {
  auto identity = ServerIdentity::load(lib_.get(), certificates_pem, key_pem);
  if (!identity) return std::unexpected(std::move(identity.error()));
  loop_.post([this, fresh = std::make_shared<ServerIdentity>(std::move(*identity))] { identity_ = std::move(*fresh); });
  return {};
}

void LinkLoop::ask_to_stop() {
  if (!thread_.joinable()) return;
  loop_.post([this] { loop_.spawn(drain(*this)); });
}

void LinkLoop::join() {
  if (thread_.joinable()) thread_.join();
}

// Guards are told that the controller goes, so that they try another at once.
Task<void> LinkLoop::drain(LinkLoop& self) {
  self.draining_ = true;
  self.acceptor_->cancel();
  std::vector<Connection*> open;
  for (const auto& [serial, connection] : self.connections_) open.push_back(connection);
  for (Connection* connection : open) {
    connection->end("the controller stops");
    if (connection->socket) {
      connection->socket->close(kGoingAway, "the controller stops");
    } else {
      connection->stream.cancel();
    }
  }
  const Deadline last = net::Clock::now() + limits::kLinkCloseTimeout / 2;
  while (!self.connections_.empty() && self.loop_.now() < last) {
    co_await self.loop_.sleep_until(self.loop_.in(limits::kDrainTick));
  }
  self.loop_.stop();
}

void LinkLoop::accept(UniqueFd fd, net::ConnectionSlot place) {
  if (!draining_) loop_.spawn(serve(*this, std::move(fd), std::move(place)));
}

// Who has connected and is no guard yet is nobody: where they take all places, the one that is silent for longest goes.
// Age alone may not decide, or a controller that gets little of its machine would give all of them up half done.
void LinkLoop::make_room() {
  Connection* silent = nullptr;
  for (Connection* connection : unregistered_) {
    connection->notice();
    if (silent == nullptr || connection->heard < silent->heard) silent = connection;
  }
  if (silent == nullptr || loop_.now() - silent->heard < limits::kLinkEvictionSilenceMin) return;
  ++parts_.counts->evicted;
  silent->end("others wanted to connect, and it had not registered");
  silent->stream.cancel();
}

Task<void> LinkLoop::serve(LinkLoop& self, UniqueFd fd, net::ConnectionSlot place) {
  Connection connection(self, std::move(fd), std::move(place));
  {
    net::ReadBuffer buffer;
    const Result<void> opened = co_await open(self, connection, buffer);
    if (!opened) {
      ++self.parts_.counts->refused;
      // What it sent is read away, so that it gets to read what it was told.
      connection.socket.emplace(connection.stream, http1::FrameSender::server, 0);
      if (opened.error().kind == ErrorKind::malformed)
        co_await connection.socket->read_away(self.loop_.in(limits::kLinkCloseTimeout));
      co_return;
    }
    connection.socket.emplace(connection.stream, http1::FrameSender::server, limits::kLinkRegisterBytesMax,
                              buffer.unread());
  }
  connection.writer.start(write(self, connection));
  co_await talk(self, connection);
  connection.end("it was closed");
  if (!connection.socket->closing()) co_return;
  // The writer bounds it.
  co_await connection.socket->read_away(net::kNoDeadline);
}

Task<Result<void>> LinkLoop::open(LinkLoop& self, Connection& connection, net::ReadBuffer& buffer) {
  const Deadline deadline = connection.opened + limits::kLinkRegisterTimeout;
  auto ssl = self.tls_->accept_for(self.identity_->leaf(), kTicketsName);
  if (!ssl) co_return std::unexpected(std::move(ssl.error()));
  // Both ends are ours, and only these records can be taken over from OpenSSL, which makes an idle link small.
  SSL_set_min_proto_version(ssl->get(), TLS1_3_VERSION);
  Result<void> shaken = co_await connection.stream.handshake(std::move(*ssl), {}, deadline);
  if (!shaken) co_return shaken;
  self.tls_->completed(connection.stream.ssl());
  Result<void> opened = co_await http1::accept_websocket(connection.stream, buffer, std::string(kLinkPath), deadline);
  co_return opened;
}

// Ends a while after what there was to say has been written: who does not answer a close frame is not waited for.
Task<void> LinkLoop::write(LinkLoop& self, Connection& connection) {
  const Result<void> written = co_await connection.socket->write_queued();
  if (!written) {
    ++self.parts_.counts->cut;
    connection.end("it takes nothing of what is sent: " + written.error().text);
    co_return;
  }
  co_await self.loop_.sleep_until(self.loop_.in(limits::kLinkCloseTimeout));
  connection.stream.cancel();
}

Task<void> LinkLoop::talk(LinkLoop& self, Connection& connection) {
  WebSocketEndpoint& socket = *connection.socket;
  const Deadline register_by = connection.opened + limits::kLinkRegisterTimeout;
  Deadline heard = self.loop_.now(), whole_by = net::kNoDeadline;
  for (std::size_t messages = 1; connection.stage != Stage::ending; ++messages) {
    // Who asks and does not read the answers is not read from either. The writer ends it if that lasts.
    if (!socket.room().is_set()) {
      co_await socket.room().wait(net::kNoDeadline);
      continue;
    }
    const auto message = socket.try_receive();
    if (socket.heard()) heard = self.loop_.now();
    if (!message) {
      if (message.error().kind == ErrorKind::malformed) ++self.parts_.counts->refused;
      connection.end(message.error().text);
      co_return;
    }
    if (!self.hold(connection)) continue;
    if (*message) {
      whole_by = net::kNoDeadline;
      self.take(connection, **message);
      if (connection.stage == Stage::asked) co_await connection.answered.wait(register_by);
      if (connection.stage == Stage::asked) {
        self.refuse(connection, v1alpha1::REFUSED_REASON_OVERLOADED, "it could not be registered in time");
      }
      if (messages % limits::kLinkMessagesPerTurn == 0) co_await self.loop_.yield();
      continue;
    }
    if (!socket.in_message()) whole_by = net::kNoDeadline;
    if (socket.in_message() && whole_by == net::kNoDeadline) whole_by = self.loop_.in(limits::kLinkMessageTimeout);
    const Deadline silent = connection.stage == Stage::opening ? register_by : heard + connection.silence;
    const net::Wait wait = co_await socket.wait_readable(std::min(silent, whole_by));
    if (wait == net::Wait::cancelled) co_return connection.end("it was given up");
    if (wait == net::Wait::timeout && connection.stage == Stage::opening) {
      self.refuse(connection, v1alpha1::REFUSED_REASON_MALFORMED, "no Register came in time");
    } else if (wait == net::Wait::timeout) {
      connection.end("nothing came from it in time");
      connection.stream.abort();
    }
  }
}

// Counts the memory for what is under way; false if it is too much.
bool LinkLoop::hold(Connection& connection) {
  const std::size_t now = connection.socket->held();
  held_ = held_ - connection.held + now;
  connection.held = now;
  if (held_ <= limits::kLinkHeldBytesMax || now <= limits::kLinkRegisterBytesMax) return true;
  refuse(connection, v1alpha1::REFUSED_REASON_OVERLOADED, "too many large messages are under way");
  return false;
}

void LinkLoop::take(Connection& connection, std::string_view message) {
  Envelope envelope;
  if (!envelope.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    return refuse(connection, v1alpha1::REFUSED_REASON_MALFORMED, "a message is no Envelope");
  }
  if (connection.stage == Stage::opening) return take_register(connection, envelope);
  if (connection.stage != Stage::registered) return;
  switch (speaker_of(envelope)) {
    case Speaker::unknown:
      ++parts_.counts->unknown;
      return;
    case Speaker::controller:
      return refuse(connection, v1alpha1::REFUSED_REASON_MALFORMED, "a guard does not say that");
    case Speaker::guard:
      break;
  }
  if (envelope.has_register_()) {
    return refuse(connection, v1alpha1::REFUSED_REASON_MALFORMED, "it is registered already");
  }
  parts_.handler->received(connection.id(), std::move(envelope));
}

void LinkLoop::take_register(Connection& connection, Envelope& envelope) {
  if (!envelope.has_register_()) {
    return refuse(connection, v1alpha1::REFUSED_REASON_MALFORMED, "a guard speaks first with Register");
  }
  if (envelope.register_().version() != kLinkVersion) {
    return refuse(connection, v1alpha1::REFUSED_REASON_VERSION,
                  "this controller speaks version " + std::to_string(kLinkVersion) + ", the guard version " +
                      std::to_string(envelope.register_().version()) + ": bring the older one up to date");
  }
  if (connections_.size() - unregistered_.size() >= limits::kLinkGuardsPerLoopMax) {
    return refuse(connection, v1alpha1::REFUSED_REASON_OVERLOADED, "this controller has as many guards as it takes");
  }
  connection.stage = Stage::asked;
  connection.told = true;
  parts_.handler->connected(*parts_.way, connection.id(), std::move(*envelope.mutable_register_()));
}

void LinkLoop::registered(Connection& connection, std::uint32_t beat_ms) {
  if (connection.stage != Stage::asked) return;
  const auto beat = std::clamp(std::chrono::milliseconds(beat_ms), limits::kLinkBeatMin, limits::kLinkBeatMax);
  connection.silence = limits::kLinkBeatsMissedMax * beat;
  connection.stage = Stage::registered;
  connection.is_guard = true;
  connection.leave_unregistered();
  {
    const net::ConnectionSlot given_back = std::move(connection.place);
  }
  connection.socket->set_message_bytes_max(limits::kLinkMessageBytesMax);
  ++parts_.counts->guards;
  ++parts_.counts->registered;
  connection.answered.set();
}

void LinkLoop::refuse(Connection& connection, RefusedReason reason, std::string text) {
  Refused refused;
  refused.set_reason(reason);
  refused.set_text(std::move(text));
  refuse(connection, refused);
}

void LinkLoop::refuse(Connection& connection, const Refused& refused) {
  if (connection.stage == Stage::ending) return;
  ++parts_.counts->refused;
  Envelope envelope;
  *envelope.mutable_refused() = refused;
  connection.socket->queue(envelope.SerializeAsString());
  connection.socket->close(kPolicyViolation, "refused");
  connection.end("it was refused: " + refused.text());
}

// A peer that does not read what it is sent is cut: it would hold the memory of all that others get.
bool LinkLoop::may_queue(Connection& connection, std::size_t bytes) {
  if (connection.stage == Stage::ending || !connection.socket) return false;
  if (bytes <= limits::kLinkQueuedBytesMax - std::min(connection.socket->queued(), limits::kLinkQueuedBytesMax)) {
    return true;
  }
  cut(connection);
  return false;
}

void LinkLoop::cut(Connection& connection) {
  if (connection.stage == Stage::ending) return;
  ++parts_.counts->cut;
  connection.end("too much waits to be sent to it");
  connection.stream.abort();
}

LinkLoop::Connection* LinkLoop::find(LinkId link) {
  const auto found = connections_.find(static_cast<std::uint64_t>(link) & ((1ULL << kSerialBits) - 1));
  return found == connections_.end() ? nullptr : found->second;
}

bool LinkLoop::send(LinkId link, const Envelope& envelope) {
  const std::size_t size = envelope.ByteSizeLong();
  if (size > limits::kLinkMessageBytesMax) return false;
  const auto put = [&](char* to) { envelope.SerializeWithCachedSizesToArray(reinterpret_cast<std::uint8_t*>(to)); };
  if (!here()) {
    Handed handed{.link = link};
    http1::append_frame_header(handed.frame, http1::Opcode::binary, size, nullptr);
    handed.frame.resize(handed.frame.size() + size);
    put(handed.frame.data() + handed.frame.size() - size);
    if (envelope.has_registered()) handed.registered_beat = envelope.registered().beat_ms();
    return hand(std::move(handed));
  }
  take_handed();  // what others said before comes before
  Connection* connection = find(link);
  if (connection == nullptr) return true;
  if (!may_queue(*connection, size)) return false;
  connection->socket->queue(size, put);
  if (envelope.has_registered()) registered(*connection, envelope.registered().beat_ms());
  return true;
}

void LinkLoop::send(LinkId link, const SharedEnvelope& envelope) { hand({.link = link, .shared = envelope.frame()}); }

void LinkLoop::close(LinkId link, const Refused& refused) { hand({.link = link, .refused = refused}); }

// False if too much is on its way to this thread: then the link is cut, as nothing may be missing in between.
bool LinkLoop::hand(Handed handed) {
  // What is shared is there once, however often it is handed over; what one link has of it may_queue() bounds.
  const std::size_t bytes = sizeof(Handed) + handed.frame.size();
  bool first = false, fits = true;
  {
    const std::lock_guard lock(mutex_);
    first = handed_.empty() && to_cut_.empty();
    fits = handed_bytes_ + bytes <= limits::kLinkHandedBytesMax;
    if (fits) {
      handed_bytes_ += bytes;
      handed_.push_back(std::move(handed));
    } else {
      to_cut_.insert(handed.link);
    }
  }
  if (first) loop_.post([this] { take_handed(); });
  return fits;
}

void LinkLoop::take_handed() {
  std::vector<Handed> all;
  std::set<LinkId> to_cut;
  {
    const std::lock_guard lock(mutex_);
    if (handed_.empty() && to_cut_.empty()) return;
    all.swap(handed_);
    to_cut.swap(to_cut_);
    handed_bytes_ = 0;
  }
  for (const LinkId link : to_cut) {
    if (Connection* connection = find(link)) cut(*connection);
  }
  for (Handed& handed : all) {
    if (Connection* connection = find(handed.link)) deliver(*connection, handed);
  }
}

void LinkLoop::deliver(Connection& connection, Handed& handed) {
  if (handed.refused) {
    if (connection.socket) refuse(connection, *handed.refused);
    return;
  }
  auto frame = handed.shared ? std::move(handed.shared) : std::make_shared<const std::string>(std::move(handed.frame));
  if (!may_queue(connection, frame->size())) return;
  connection.socket->queue_shared(std::move(frame));
  if (handed.registered_beat) registered(connection, *handed.registered_beat);
}

}  // namespace sallyport::controller
