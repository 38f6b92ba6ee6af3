#include "proxy/net/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <system_error>

#include "base/limits.h"
#include "proxy/net/tls_error.h"

namespace sallyport::net {

namespace {

constexpr std::string_view kHandshaking = "the TLS handshake";
constexpr std::string_view kReading = "reading";
constexpr std::string_view kWriting = "writing";

// What clients say when they don't know the issuer; Go and Java have words of their own for it.
bool says_untrusted(int alert) {
  return alert == SSL_AD_UNKNOWN_CA || alert == SSL_AD_BAD_CERTIFICATE || alert == SSL_AD_CERTIFICATE_UNKNOWN;
}

constexpr std::string_view kTrustHint =
    ": it does not trust the guard's CA; give it the CA bundle by its own setting (SSL_CERT_FILE, NODE_EXTRA_CA_CERTS, "
    "REQUESTS_CA_BUNDLE …), unless it pins certificates: then declare the host with `inspection: none`";

// Before each call: OpenSSL looks into the queue to see why one failed. Clearing an empty queue costs ten times as much
// as looking.
void forget_errors() {
  if (ERR_peek_error() != 0) ERR_clear_error();
}

// The next piece to give to TLS: at most one record, and the end of `first` together with the beginning of `second`.
// The same arguments give the same bytes, so that a call that blocked can be repeated.
std::string_view next_piece(std::string_view first, std::string_view second) {
  constexpr std::size_t kRecord = limits::kBufferBytes;
  if (first.empty()) return second.substr(0, kRecord);
  if (second.empty() || first.size() >= kRecord) return first.substr(0, kRecord);
  // On the heap: what threads have for themselves is written over with zeros when each of them starts.
  static thread_local const auto scratch = std::make_unique_for_overwrite<char[]>(kRecord);
  first.copy(scratch.get(), first.size());
  const std::size_t more = second.copy(scratch.get() + first.size(), kRecord - first.size());
  return {scratch.get(), first.size() + more};
}

}  // namespace

Stream::Stream(Loop& loop, UniqueFd fd, ErrorSource source) : socket_(loop, std::move(fd)), source_(source) {
  transport_.fd = socket_.fd();
}

Stream::~Stream() { let_go_of_ssl(); }

void Stream::let_go_of_ssl() {
  if (!ssl_) return;
  // Without it SSL_free takes a session that was not shut down for a broken one, and it could not be resumed.
  if (SSL_is_init_finished(ssl_.get())) SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  ssl_.reset();
}

// A client waits for the ticket, which OpenSSL has to make a session of.
void Stream::take_over() {
  const bool due = watch_ && watch_->application_records() > 0 && !write_blocked_ && !write_broken_ &&
                   SSL_is_init_finished(ssl_.get()) && SSL_get_shutdown(ssl_.get()) == 0 &&
                   SSL_has_pending(ssl_.get()) == 0;
  if (!due) return;
  constexpr std::uint64_t kNoTicketAfter = 4;
  if (!SSL_is_server(ssl_.get()) && !watch_->ticket_came() && watch_->application_records() < kNoTicketAfter) return;
  records_ = TlsRecords::take_over(ssl_.get(), *watch_);
  if (!records_) SSL_set_msg_callback(ssl_.get(), nullptr);  // it stays with OpenSSL
  if (records_) {
    alpn_ = alpn();
    let_go_of_ssl();
  }
  watch_.reset();
}

void Stream::take_over_if_used() {
  if (watch_ && watch_->application_records() > 1) take_over();
}

std::string_view Stream::alpn() const {
  if (!ssl_) return alpn_;
  const unsigned char* name = nullptr;
  unsigned int size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &name, &size);
  return {reinterpret_cast<const char*>(name), size};
}

Task<Result<void>> Stream::handshake(SslPtr ssl, std::string_view already_read, Deadline deadline) {
  ssl_ = std::move(ssl);
  BIO* bio = new_socket_bio(transport_);
  if (!ssl_ || bio == nullptr) {
    BIO_free(bio);
    co_return fail(ErrorSource::internal, ErrorKind::unavailable, "out of memory for a TLS connection");
  }
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_mode(ssl_.get(),
               SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_set_read_ahead(ssl_.get(), 1);
  watch_ = HandshakeWatch::over(ssl_.get());
  transport_.sniffed = already_read;
  Result<void> result = co_await handshake_steps(deadline);
  if (result && !transport_.sniffed.empty()) {
    // Nobody can have sent the end of a handshake before its middle was answered. Fails closed.
    result =
        std::unexpected(Error{source_, ErrorKind::malformed, sentence(kHandshaking, "bytes after the ClientHello")});
  }
  transport_.sniffed = {};
  if (!result) {
    write_broken_ = true;
    co_return result;
  }
  secured_ = true;
  // A server that says nothing after the client's Finished leaves its acknowledgement to a timer of 40 ms, and a client
  // without TCP_NODELAY holds its request back until then.
  if (SSL_is_server(ssl_.get()) && !transport_.spoke_last) {
    const int on = 1;
    ::setsockopt(socket_.fd(), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
  }
  co_return result;
}

Task<Result<void>> Stream::handshake_steps(Deadline deadline) {
  for (;;) {
    const Want want = handshake_step();
    if (want == Want::nothing) co_return Result<void>{};
    if (want == Want::failed) co_return std::unexpected(failure(kHandshaking));
    Result<void> waited = co_await wait_for(want, kHandshaking, deadline);
    if (!waited) co_return waited;
  }
}

Stream::Want Stream::handshake_step() {
  forget_errors();
  const int result = SSL_do_handshake(ssl_.get());
  if (watch_) HandshakeWatch::look_away(ssl_.get());
  return after_tls_call(result);
}

Stream::Want Stream::after_tls_call(int result) {
  starved_ = false;
  if (result > 0) return Want::nothing;
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      starved_ = true;
      return Want::read;
    case SSL_ERROR_WANT_WRITE:
      return Want::write;
    default:
      // close_notify among them, which only a read takes for an answer.
      return Want::failed;
  }
}

Stream::Step Stream::step_read(std::span<char> buffer) {
  Step step;
  if (records_) return records_read(buffer);
  if (ssl_) {
    step = tls_read(buffer);
    read_wants_write_ = step.want == Want::write;
    return step;
  }
  const auto count = transport_.receive(buffer);
  if (count >= 0) {
    step.count = static_cast<std::size_t>(count);
  } else {
    step.want = transport_.receive_error != 0 ? Want::failed : Want::read;
  }
  return step;
}

Stream::Step Stream::tls_read(std::span<char> buffer) {
  // The peer has asked for new keys, and our answer waits behind half a record. Should a second message of that kind be
  // read now, OpenSSL 3.0 would answer the first one in the middle of that record, and fail. So the record goes first;
  // a peer that does not take it stalls itself, until the deadline.
  if (write_blocked_ && SSL_get_key_update_type(ssl_.get()) != SSL_KEY_UPDATE_NONE) return {.want = Want::write};
  Step step;
  forget_errors();
  step.want = after_tls_call(SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &step.count));
  if (step.want == Want::failed && SSL_get_error(ssl_.get(), 0) == SSL_ERROR_ZERO_RETURN) step.want = Want::nothing;
  return step;
}

Stream::Step Stream::records_read(std::span<char> buffer) {
  Step step;
  switch (records_->read(transport_, buffer, step.count)) {
    case TlsRecords::Outcome::data:
    case TlsRecords::Outcome::ended:
      break;
    case TlsRecords::Outcome::starved:
      step.want = Want::read;
      break;
    case TlsRecords::Outcome::failed:
      step.want = Want::failed;
      break;
  }
  return step;
}

Stream::Step Stream::records_write(std::string_view first, std::string_view second) {
  // What is sealed is kept until it has been sent: no more than one record of it.
  if (transport_.holds() && !transport_.flush())
    return {.want = transport_.send_error != 0 ? Want::failed : Want::write};
  first = first.substr(0, TlsRecords::kRecordPlainMax);
  second = second.substr(0, TlsRecords::kRecordPlainMax - first.size());
  if (!records_->write(transport_, first, second) || transport_.send_error != 0) return {.want = Want::failed};
  return {.count = first.size() + second.size()};
}

Stream::Step Stream::step_write(std::string_view first, std::string_view second) {
  Step step;
  if (records_) return records_write(first, second);
  if (ssl_) {
    const std::string_view piece = next_piece(first, second);
    forget_errors();
    const bool starved = starved_;  // of the reading side, which may be waiting meanwhile
    step.want = after_tls_call(SSL_write_ex(ssl_.get(), piece.data(), piece.size(), &step.count));
    starved_ = starved;
    return step;
  }
  const auto count = transport_.send(first, second);
  if (count >= 0) {
    step.count = static_cast<std::size_t>(count);
  } else {
    step.want = transport_.send_error != 0 ? Want::failed : Want::write;
  }
  return step;
}

// Whether a read could do anything but find out that it must wait.
bool Stream::may_read() const {
  if (!transport_.drained || transport_.ended || transport_.receive_error != 0) return true;
  return has_pending() || (ssl_ && (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0);
}

Task<Result<std::size_t>> Stream::read_some(std::span<char> buffer, Deadline deadline) {
  for (;;) {
    const Step step = may_read() ? step_read(buffer) : Step{.want = Want::read};
    if (step.want == Want::nothing) co_return step.count;
    if (step.want == Want::failed) co_return std::unexpected(failure(kReading));
    Result<void> waited = co_await wait_for(step.want, kReading, deadline);
    if (!waited) co_return std::unexpected(std::move(waited.error()));
  }
}

std::optional<Result<std::size_t>> Stream::try_read(std::span<char> buffer) {
  if (!may_read()) return std::nullopt;
  const Step step = step_read(buffer);
  switch (step.want) {
    case Want::nothing:
      return step.count;
    case Want::failed:
      return std::unexpected(failure(kReading));
    case Want::read:
    case Want::write:
      break;
  }
  return std::nullopt;
}

Task<Wait> Stream::wait_readable(Deadline deadline) {
  if (read_wants_write_) {
    read_wants_write_ = false;
    const Wait writable = co_await socket_.wait_writable(deadline);
    co_return writable;
  }
  if (may_read()) co_return Wait::ready;
  take_over_if_used();
  if (watch_) {  // who ends after one exchange does so at once
    const Deadline soon = std::min(deadline, loop().in(limits::kTlsTakeOverAfter));
    const Wait early = co_await socket_.wait_readable(soon);
    if (early == Wait::ready) transport_.drained = false;
    if (early != Wait::timeout || soon == deadline) co_return early;
    take_over();
  }
  const Wait outcome = co_await socket_.wait_readable(deadline);
  if (outcome == Wait::ready) transport_.drained = false;
  co_return outcome;
}

bool Stream::still_idle(bool ask) {
  if (ask) transport_.drained = false;
  char byte;
  return !try_read({&byte, 1}).has_value();
}

bool Stream::reusable() const {
  if (write_broken_ || socket_.cancelled() || transport_.ended || transport_.receive_error != 0) return false;
  if (records_) return records_->at_rest() && !transport_.holds();
  if (!ssl_) return true;
  return SSL_is_init_finished(ssl_.get()) && SSL_get_shutdown(ssl_.get()) == 0 && SSL_pending(ssl_.get()) == 0;
}

Task<Result<void>> Stream::write_all(std::string_view first, std::string_view second, Deadline deadline) {
  if (write_broken_) {
    co_return fail(source_, ErrorKind::closed, sentence(kWriting, "an earlier write or the handshake has failed"));
  }
  const bool several = tls() && first.size() + second.size() > limits::kBufferBytes;
  if (several) transport_.gather();
  while (!first.empty() || !second.empty()) {
    const Step step = step_write(first, second);
    if (step.want == Want::nothing) {
      const std::size_t of_first = std::min(step.count, first.size());
      first.remove_prefix(of_first);
      second.remove_prefix(step.count - of_first);
      continue;
    }
    write_broken_ = true;  // until the rest is through: a caller that gives up leaves half a record behind
    if (several) transport_.flush();
    if (step.want == Want::failed) co_return std::unexpected(failure(kWriting));
    Result<void> waited = co_await wait_to_write(step.want, deadline);
    if (!waited) co_return waited;
    write_broken_ = false;
  }
  while ((several || transport_.holds()) && !transport_.flush()) {
    write_broken_ = true;
    if (transport_.send_error != 0) co_return std::unexpected(failure(kWriting));
    Result<void> waited = co_await wait_to_write(Want::write, deadline);
    if (!waited) co_return waited;
    write_broken_ = false;
  }
  co_return Result<void>{};
}

Task<Result<void>> Stream::wait_to_write(Want want, Deadline deadline) {
  struct Blocked {
    bool& flag;
    ~Blocked() { flag = false; }  // also when this coroutine is given up
  };
  write_blocked_ = true;
  const Blocked blocked{write_blocked_};
  Result<void> waited = co_await wait_for(want, kWriting, deadline);
  // A peer that takes nothing would not take a FIN either: the kernel would keep what is unsent for a quarter of an
  // hour. A reset ends that, and tells the peer that something is missing, should it ever look.
  if (!waited) break_off(true);
  co_return waited;
}

Task<Result<void>> Stream::wait_for(Want want, std::string_view doing, Deadline deadline) {
  Wait outcome;
  if (want == Want::read) {
    take_over_if_used();
    outcome = co_await socket_.wait_readable(deadline);
    if (outcome == Wait::ready) transport_.drained = false;
  } else {
    outcome = co_await socket_.wait_writable(deadline);
  }
  switch (outcome) {
    case Wait::ready:
      break;
    case Wait::timeout:
      co_return fail(source_, ErrorKind::timeout, sentence(doing, "nothing moved before the deadline"));
    case Wait::cancelled:
      co_return fail(source_, ErrorKind::cancelled, sentence(doing, "given up by this program"));
  }
  co_return Result<void>{};
}

void Stream::acknowledge_now() {
  int on = 1;
  ::setsockopt(socket_.fd(), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

void Stream::break_off(bool reset) {
  broken_off_ = true;
  const linger none{.l_onoff = 1, .l_linger = 0};
  if (reset) ::setsockopt(socket_.fd(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

void Stream::shutdown_write() {
  if (broken_off_) return;
  if (records_ && !write_broken_) {
    records_->end(transport_);
  } else if (ssl_ && !write_broken_ && SSL_is_init_finished(ssl_.get())) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }
  ::shutdown(socket_.fd(), SHUT_WR);
}

// "the TLS handshake with the client failed: …", "reading from the server failed: …"
std::string Stream::sentence(std::string_view doing, std::string_view what) const {
  std::string text(doing);
  text += doing == kReading ? " from" : doing == kWriting ? " to" : " with";
  text += source_ == ErrorSource::downstream ? " the client" : " the server";
  return text.append(" failed: ").append(what);
}

// Why the last call failed. Sockets first: what TLS says about a connection that broke under it helps nobody.
Error Stream::failure(std::string_view doing) {
  const int error = doing == kWriting
                        ? transport_.send_error
                        : (transport_.receive_error != 0 ? transport_.receive_error : transport_.send_error);
  const bool told = records_ ? records_->failure().has_value() : ssl_ && ERR_peek_error() != 0;
  if (error != 0 && !told) {
    return {source_, ErrorKind::reset, sentence(doing, std::generic_category().message(error))};
  }
  if (transport_.ended && doing != kWriting) {
    ERR_clear_error();
    return {source_, ErrorKind::closed, sentence(doing, "the connection was closed without the end of TLS")};
  }
  if (records_ && records_->failure()) {
    return {source_, records_->failure()->kind, sentence(doing, records_->failure()->text)};
  }
  TlsFailure tls = take_tls_failure();
  std::string text = sentence(doing, tls.text);
  if (doing == kHandshaking && source_ == ErrorSource::downstream && tls.alert && says_untrusted(*tls.alert)) {
    text += kTrustHint;
  }
  return {source_, tls.kind, std::move(text)};
}

}  // namespace sallyport::net
