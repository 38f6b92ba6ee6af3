#include "load/generator/http2.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sallyport::load {
namespace {

constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::int32_t kWindow = 16 << 20;  // never what is waited for
constexpr std::size_t kGrpcPrefixBytes = 5;

struct SessionFree {
  void operator()(nghttp2_session* session) const { nghttp2_session_del(session); }
};

nghttp2_nv field(std::string_view name, std::string_view value) {
  const auto bytes = [](std::string_view text) {
    return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));
  };
  return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

// A gRPC message: not compressed, its length, and its bytes.
std::string grpc_message(std::size_t bytes) {
  std::string message(kGrpcPrefixBytes, '\0');
  for (std::size_t i = 0; i < 4; ++i) message[4 - i] = static_cast<char>(bytes >> (8 * i) & 0xff);
  return message.append(bytes, 'm');
}

class Run {
 public:
  Run(Client client, const Target& target, const Http2Load& load)
      : client_(std::move(client)), load_(load), authority_(target.name), message_(grpc_message(load.message_bytes)) {}

  Result<Figures> run();

 private:
  struct Stream {
    Clock::time_point sent;
    std::uint64_t body_bytes = 0;
    std::size_t body_sent = 0;
    bool answered = false;   // with status 200
    bool succeeded = false;  // with grpc-status 0
  };

  static Run& of(void* user) { return *static_cast<Run*>(user); }
  static ssize_t message_part(nghttp2_session*, std::int32_t id, std::uint8_t* to, std::size_t bytes,
                              std::uint32_t* flags, nghttp2_data_source*, void* user);
  static int header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_bytes,
                    const std::uint8_t* value, std::size_t value_bytes, std::uint8_t, void* user);
  static int data(nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t*, std::size_t bytes, void* user);
  static int closed(nghttp2_session*, std::int32_t id, std::uint32_t code, void* user);

  Result<void> start();
  Result<void> submit();
  Result<void> flush();
  Result<void> receive();
  bool as_it_should(const Stream& stream) const;

  Client client_;
  const Http2Load& load_;
  std::string authority_;
  std::string message_;
  std::unique_ptr<nghttp2_session, SessionFree> session_;
  std::unordered_map<std::int32_t, Stream> streams_;
  std::size_t unsent_ = 0;
  std::string fault_;  // the first answer that was not as it should be
  Figures figures_;
};

ssize_t Run::message_part(nghttp2_session*, std::int32_t id, std::uint8_t* to, std::size_t bytes, std::uint32_t* flags,
                          nghttp2_data_source*, void* user) {
  Run& run = of(user);
  Stream& stream = run.streams_[id];
  const std::size_t part = std::min(bytes, run.message_.size() - stream.body_sent);
  std::copy_n(run.message_.data() + stream.body_sent, part, to);
  stream.body_sent += part;
  if (stream.body_sent == run.message_.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(part);
}

int Run::header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_bytes,
                const std::uint8_t* value, std::size_t value_bytes, std::uint8_t, void* user) {
  const std::string_view called(reinterpret_cast<const char*>(name), name_bytes);
  const std::string_view said(reinterpret_cast<const char*>(value), value_bytes);
  Stream& stream = of(user).streams_[frame->hd.stream_id];
  if (called == ":status") stream.answered = said == "200";
  if (called == "grpc-status") stream.succeeded = said == "0";
  return 0;
}

int Run::data(nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t*, std::size_t bytes, void* user) {
  of(user).streams_[id].body_bytes += bytes;
  return 0;
}

int Run::closed(nghttp2_session*, std::int32_t id, std::uint32_t code, void* user) {
  Run& run = of(user);
  const auto found = run.streams_.find(id);
  if (found == run.streams_.end()) return 0;
  const Stream stream = found->second;
  run.streams_.erase(found);
  if (run.fault_.empty() && (code != NGHTTP2_NO_ERROR || !run.as_it_should(stream))) {
    run.fault_ = "answer " + std::to_string(run.figures_.latencies_us.size()) + " with code " + std::to_string(code) +
                 ", status 200: " + std::to_string(stream.answered) +
                 ", grpc-status 0: " + std::to_string(stream.succeeded) +
                 ", body: " + std::to_string(stream.body_bytes);
  }
  run.figures_.bytes += stream.body_bytes;
  run.figures_.latencies_us.push_back(microseconds_since(stream.sent));
  return 0;
}

bool Run::as_it_should(const Stream& stream) const {
  if (load_.grpc) return stream.answered && stream.succeeded && stream.body_bytes == message_.size();
  return stream.answered && stream.body_bytes > 0;
}

Result<void> Run::start() {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, closed);
  nghttp2_session* session = nullptr;
  nghttp2_session_client_new(&session, callbacks, this);
  nghttp2_session_callbacks_del(callbacks);
  session_.reset(session);
  const std::array<nghttp2_settings_entry, 2> settings{
      {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}, {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow}}};
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, kWindow);
  return flush();
}

Result<void> Run::submit() {
  std::vector<nghttp2_nv> fields{field(":method", load_.grpc ? "POST" : "GET"), field(":scheme", "https"),
                                 field(":authority", authority_), field(":path", load_.path),
                                 field("user-agent", "sallyport-load")};
  if (load_.grpc) {
    fields.push_back(field("content-type", "application/grpc"));
    fields.push_back(field("te", "trailers"));
  }
  nghttp2_data_provider message{.source = {.ptr = nullptr}, .read_callback = message_part};
  const std::int32_t id = nghttp2_submit_request(session_.get(), nullptr, fields.data(), fields.size(),
                                                 load_.grpc ? &message : nullptr, nullptr);
  if (id < 0) return fail(ErrorSource::upstream, ErrorKind::refused, nghttp2_strerror(id));
  streams_[id].sent = Clock::now();
  return {};
}

Result<void> Run::flush() {
  std::string out;
  const std::uint8_t* bytes = nullptr;
  ssize_t got = 0;
  while ((got = nghttp2_session_mem_send(session_.get(), &bytes)) > 0) {
    out.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(got));
  }
  if (got < 0) return fail(ErrorSource::upstream, ErrorKind::malformed, nghttp2_strerror(static_cast<int>(got)));
  return out.empty() ? Result<void>() : client_.write(out);
}

Result<void> Run::receive() {
  thread_local std::vector<char> buffer(kReadBytes);
  const Result<std::size_t> got = client_.read(buffer.data(), buffer.size());
  if (!got) return std::unexpected(got.error());
  const ssize_t taken =
      nghttp2_session_mem_recv(session_.get(), reinterpret_cast<const std::uint8_t*>(buffer.data()), *got);
  if (taken < 0) return fail(ErrorSource::upstream, ErrorKind::malformed, nghttp2_strerror(static_cast<int>(taken)));
  if (!fault_.empty()) return fail(ErrorSource::upstream, ErrorKind::malformed, fault_);
  return {};
}

Result<Figures> Run::run() {
  client_.send_at_once();
  Result<void> done = start();
  const Clock::time_point begun = Clock::now();
  figures_.latencies_us.reserve(load_.requests);
  unsent_ = load_.requests;
  while (done && figures_.latencies_us.size() < load_.requests) {
    while (done && unsent_ > 0 && streams_.size() < load_.streams) {
      --unsent_;
      done = submit();
    }
    if (done) done = flush();
    if (done) done = receive();
  }
  if (!done) return std::unexpected(done.error());
  figures_.seconds = microseconds_since(begun) / 1e6;
  client_.close();
  return std::move(figures_);
}

}  // namespace

Result<Figures> http2_requests(SSL_CTX* context, const Target& target, const Http2Load& load) {
  Result<Client> client = Client::connect(context, target, nullptr);
  if (!client) return std::unexpected(client.error());
  if (!client->agreed_on_http2()) return fail(ErrorSource::upstream, ErrorKind::refused, "HTTP/2 was not agreed on");
  return Run(std::move(*client), target, load).run();
}

}  // namespace sallyport::load
