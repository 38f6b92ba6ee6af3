#include "proxy/http2/client_exchange.h"

#include "base/limits.h"
#include "proxy/http2/client_connection.h"

namespace sallyport::http2 {

using http::BodyInfo;
using http::Chunk;
using http::UpstreamHead;

namespace {

bool is_informational(const HeaderBlock& block) {
  for (std::size_t i = 0; i < block.size(); ++i) {
    if (block[i].name == ":status") return block[i].value.starts_with('1');
  }
  return false;
}

// A call of gRPC ends with a DATA frame, be it an empty one: servers (grpc-go) wait for that for ever when END_STREAM
// stands on the head.
bool is_grpc(const request::RequestHead& head) {
  const request::Header* type = head.headers.find("content-type");
  return type != nullptr && type->value.starts_with("application/grpc");
}

}  // namespace

ClientExchange::ClientExchange(std::shared_ptr<ClientConnection> connection)
    : Stream(*connection, ErrorSource::upstream), client_(std::move(connection)) {
  client_->enter(*this);
}

ClientExchange::~ClientExchange() {
  // What is not complete is of no use to anybody any more.
  if (!closed() && !(sent_all() && remote_ended())) {
    reset(NGHTTP2_CANCEL, {ErrorSource::upstream, ErrorKind::cancelled, "given up by this program"});
  }
  detach();
  client_->leave(*this);  // nothing but this may hold the connection: with client_ it may go
}

net::Task<Result<void>> ClientExchange::send(const Request& request, Chunk first) {
  head_request_ = request.head->method == "HEAD";
  std::optional<std::uint64_t> length;
  if (request.body.kind == BodyInfo::Kind::sized) length = request.body.length;
  FieldWriter& writer = connection().writer();
  FieldWriter::Target target{request.head->method, request.authority, request.target};
  websocket_ = request.websocket;
  if (websocket_) target.protocol = "websocket";
  if (!writer.request(target, request.head->headers, length, request.te_trailers)) {
    co_return fail(ErrorSource::internal, ErrorKind::malformed, "a request head that can't be sent");
  }
  const bool has_trailers = request.trailers != nullptr && !request.trailers->empty();
  const bool framed = has_trailers || websocket_ || is_grpc(*request.head);
  const bool bodyless = first.end && first.data.empty() && !framed;
  const nghttp2_data_provider source = body_source();
  const std::int32_t stream =
      nghttp2_submit_request(connection().session(), nullptr, writer.fields().data(), writer.fields().size(),
                             bodyless ? nullptr : &source, static_cast<Stream*>(this));
  writer.wipe();  // it may hold a credential
  if (stream < 0) {
    fail_with({ErrorSource::upstream, ErrorKind::closed, "the server takes no more requests on this connection"});
    co_return std::unexpected(*error());
  }
  open(stream);
  if (bodyless) {
    sent_without_body();
    connection().flush();
    co_return Result<void>();
  }
  if (websocket_ || (first.data.empty() && !first.end)) {
    connection().flush();
    co_return Result<void>();
  }
  // Not until the server's window has room for all of it: the server may answer first, and who calls must hear that.
  begin_send(first.data, first.end, first.end ? request.trailers : nullptr);
  held_ = unsent();
  show_again(held_);
  co_return Result<void>();
}

net::Task<Result<void>> ClientExchange::write_body(Chunk chunk) {
  Result<void> before = co_await sent();
  if (!before || chunk.data.empty()) co_return before;
  co_return co_await Stream::send(chunk.data, false, nullptr);
}

net::Task<Result<void>> ClientExchange::finish(const request::HeaderList* trailers) {
  Result<void> before = co_await sent();
  if (!before) co_return before;
  co_return co_await Stream::send({}, true, trailers);
}

bool ClientExchange::on_headers(std::unique_ptr<HeaderBlock> block, bool end) {
  response_started_ = true;
  if (final_came_) return end && accept_trailers(std::move(block));
  if (heads_.size() > limits::kInformationalResponsesMax) return false;
  if (!is_informational(*block)) {
    final_came_ = true;
    ended_with_head_ = end;
  }
  heads_.push_back(std::move(block));
  arrived().set();
  return true;
}

BodyInfo ClientExchange::body_of(const ResponseInfo& info, int status) const {
  BodyInfo body;
  if (head_request_ || status == 204 || status == 304) {
    body.length_without_body = info.content_length.has_value();
    body.length = info.content_length.value_or(0);
  } else if (info.content_length) {
    body = {BodyInfo::Kind::sized, *info.content_length, false};
  } else if (!ended_with_head_) {
    body.kind = BodyInfo::Kind::streamed;
  }
  return body;
}

net::Task<Result<UpstreamHead>> ClientExchange::read_head(request::ResponseHead& head, net::Deadline deadline) {
  while (heads_.empty()) {
    if (error()) co_return std::unexpected(*error());
    arrived().reset();
    const net::Wait wait = co_await arrived().wait(deadline);
    if (wait != net::Wait::ready) {
      co_return fail(ErrorSource::upstream, ErrorKind::timeout, "the server did not answer in time");
    }
  }
  if (error() && error()->kind == ErrorKind::cancelled) co_return std::unexpected(*error());
  head.headers.clear();
  head_block_ = std::move(heads_.front());
  heads_.pop_front();
  ResponseInfo info;
  http1::ParseError wrong;
  if (!parse_response(*head_block_, info, head, wrong)) {
    co_return fail(ErrorSource::upstream, ErrorKind::malformed,
                   "the server's response is malformed: " + std::string(wrong.text));
  }
  if (websocket_ && head.status / 100 == 2) {
    // Another status of success, or an end together with the head, is no answer that frames could follow.
    if (head.status != 200 || ended_with_head_) {
      co_return fail(ErrorSource::upstream, ErrorKind::malformed,
                     "the server's answer to the CONNECT of a WebSocket is no 200 with an open stream");
    }
    head.status = 101;
    head.reason = "Switching Protocols";
  }
  UpstreamHead result{head.status, {}};
  if (head.status >= 200) result.body = body_of(info, head.status);
  co_return result;
}

void ClientExchange::cancel() {
  reset(NGHTTP2_CANCEL, {ErrorSource::upstream, ErrorKind::cancelled, "given up by this program"});
}

}  // namespace sallyport::http2
