// HTTP/2 towards servers: a server that sends whatever the input says, over a socket, to a ClientConnection with
// several exchanges. What the guard sends is HTTP/2 and is what the exchanges have said; what an exchange gets is what
// the server has sent on its stream, and nothing that was broken off looks complete; and the run ends. An input begins
// with a byte of options and four bytes of ways to ask; steps follow (http2_wire.h), of which a signal begins the next
// exchange.

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "proxy/http2/client_connection.h"
#include "proxy/http2/client_exchange.h"
#include "proxy/net/concurrent.h"
#include "proxy/net/loop.h"
#include "proxy/net/stream.h"
#include "tests/fuzz/http2_wire.h"
#include "tests/fuzz/require.h"

namespace sallyport::http2 {
namespace {

using fuzz::Peer;
using fuzz::require;
using fuzz::Step;
using fuzz::Trust;
using fuzz::Wire;
using http::BodyInfo;
using http::Chunk;

constexpr std::size_t kExchangesMax = 8;

enum class Way : std::uint8_t {
  get,
  post_sized,
  post_streamed,
  head,
  leave_after_head,
  post_large,
  cancel,
  leave_at_once
};

// What one exchange has said and heard.
struct Account {
  Way way;
  std::string method, path, intended;  // the body that it wants to send
  bool trailers_intended = false;
  std::vector<int> informational;
  int status = 0;
  std::uint64_t length = 0;
  bool has_length = false;
  std::string received;
  bool received_all = false, got_trailers = false;
  std::string fields;
  bool over = false;
};

struct Run {
  explicit Run(net::Loop& made)
      : loop(made), server(Trust::fuzzed_server, nullptr), guard(Trust::guard_as_client, &server) {}
  net::Loop& loop;
  Wire server, guard;
  std::array<std::uint8_t, kExchangesMax> ways{};
  std::deque<Account> accounts;
  std::weak_ptr<ClientConnection> connection;
  bool over = false;
  std::size_t under_way = 0;
};

net::Deadline soon(Run& run) { return run.loop.in(std::chrono::seconds(60)); }

std::string flat(const request::HeaderList& headers) {
  std::string text;
  for (const request::Header& field : headers) text.append(field.name).append(":").append(field.value).append("\n");
  return text;
}

net::Task<void> send_rest(ClientExchange& exchange, const Account& account, std::size_t sent) {
  constexpr std::size_t kPiece = 16'000;
  for (std::size_t at = sent; at < account.intended.size(); at += kPiece) {
    const Result<void> done =
        co_await exchange.write_body({std::string_view(account.intended).substr(at, kPiece), false});
    if (!done) co_return;
  }
  request::HeaderList trailers;
  if (account.trailers_intended) trailers.add("x-sum", "1");
  co_await exchange.finish(&trailers);
}

net::Task<bool> read_final_head(Run& run, ClientExchange& exchange, Account& account) {
  while (true) {
    request::ResponseHead head;
    const Result<http::UpstreamHead> read = co_await exchange.read_head(head, soon(run));
    if (!read) co_return false;
    require(read->status == head.status && head.status >= 100 && head.status <= 599, "a status is one");
    if (read->status < 200) {
      require(account.informational.size() <= limits::kInformationalResponsesMax, "1xx are bounded");
      account.informational.push_back(read->status);
      continue;
    }
    account.status = read->status;
    account.fields = flat(head.headers);
    account.has_length = read->body.kind == BodyInfo::Kind::sized;
    account.length = read->body.length;
    co_return true;
  }
}

net::Task<void> read_body(Run& run, ClientExchange& exchange, Account& account, bool cancel_early) {
  while (true) {
    const Result<Chunk> chunk = co_await exchange.read_body(soon(run));
    if (!chunk) co_return;
    account.received += chunk->data;
    account.received_all = chunk->end;
    if (chunk->end) account.got_trailers = !exchange.trailers().empty();
    if (chunk->end) co_return;
    if (cancel_early) exchange.cancel();
  }
}

net::Task<void> converse(Run& run, ClientExchange& exchange, Account& account) {
  request::RequestHead head;
  head.method = account.method;
  head.headers.add("x-a", "b");
  ClientExchange::Request request;
  request.head = &head;
  request.target = account.path;
  request.authority = "server.example.com";
  const std::string_view body = account.intended;
  if (account.way == Way::post_sized) request.body = {BodyInfo::Kind::sized, body.size(), false};
  if (account.way == Way::post_large || account.way == Way::post_streamed) request.body.kind = BodyInfo::Kind::streamed;
  const bool whole = account.way != Way::post_large && account.way != Way::post_streamed;
  const Result<void> sent = co_await exchange.send(request, {whole ? body : body.substr(0, 10), whole});
  if (!sent || account.way == Way::leave_at_once) co_return;
  net::Concurrent rest(run.loop);
  if (!whole) rest.start(send_rest(exchange, account, 10));
  const bool answered = co_await read_final_head(run, exchange, account);
  if (answered && account.way != Way::leave_after_head) {
    co_await read_body(run, exchange, account, account.way == Way::cancel);
  }
  if (!whole) {
    // As whoever relays does: when the answer is over, nobody wants the rest of the request.
    exchange.cancel();
    co_await rest.join(soon(run));
    require(!rest.running(), "a request that is given up ends");
  }
}

net::Task<void> exchange_once(Run& run, std::shared_ptr<ClientConnection> connection, Account& account) {
  ++run.under_way;
  {
    ClientExchange exchange(std::move(connection));
    co_await converse(run, exchange, account);
  }
  account.over = true;
  --run.under_way;
}

void begin_exchange(Run& run) {
  const std::shared_ptr<ClientConnection> connection = run.connection.lock();
  if (!connection || !connection->usable() || run.accounts.size() == kExchangesMax) return;
  const std::size_t turn = run.accounts.size();
  const auto way = static_cast<Way>(run.ways[turn] & 7);
  Account& account = run.accounts.emplace_back();
  account.way = way;
  account.path = "/exchange/" + std::to_string(turn);
  const bool posts = way == Way::post_sized || way == Way::post_streamed || way == Way::post_large;
  account.method = way == Way::head ? "HEAD" : posts ? "POST" : "GET";
  if (way == Way::post_sized) account.intended = "sized body";
  if (way == Way::post_streamed) account.intended = "a body whose length nobody says";
  if (way == Way::post_large) account.intended = std::string(200'000, 'l');
  account.trailers_intended = way == Way::post_streamed;
  run.loop.spawn(exchange_once(run, connection, account));
}

net::Task<void> guard_side(Run& run, std::shared_ptr<ClientConnection> connection) {
  co_await connection->run();
  require(!connection->usable(), "what has ended takes no more");
  run.over = true;
}

net::Task<void> server_side(Run& run, UniqueFd fd, std::string_view input, bool half_close, std::size_t& peak) {
  Peer peer(run.loop, fd.get(), run.server, run.guard);
  while (!input.empty() && !run.over) {
    const Step step = fuzz::next_step(input);
    if (step.kind == Step::Kind::bytes) co_await peer.say(step.bytes);
    if (step.kind == Step::Kind::pause) co_await peer.settle();
    if (step.kind == Step::Kind::toggle_reading) peer.reading = !peer.reading;
    if (step.kind == Step::Kind::signal) begin_exchange(run);
  }
  peer.reading = true;
  co_await peer.settle();
  ::shutdown(fd.get(), half_close ? SHUT_WR : SHUT_RDWR);
  for (int turn = 0; !run.over || run.under_way > 0; ++turn) {
    require(turn < 1'000'000, "the run ends");
    peer.listen();
    co_await run.loop.yield();
  }
  while (peer.listen()) {
  }
  peak = peer.peak();
  run.loop.stop();
}

const Wire::Stream* find(const Wire& wire, std::uint32_t id) {
  const auto found = wire.streams().find(id);
  return found == wire.streams().end() ? nullptr : &found->second;
}

void check_request(const Account& account, const Wire::Stream& stream) {
  require(fuzz::value_of(stream.head, ":method") == account.method &&
              fuzz::value_of(stream.head, ":scheme") == "https" &&
              fuzz::value_of(stream.head, ":authority") == "server.example.com",
          "a request is what it was");
  require(account.intended.starts_with(stream.body), "a request has the bytes of its exchange");
  require(!stream.ended || stream.body == account.intended, "what looks complete is complete");
  require(!stream.ended || stream.has_trailers == account.trailers_intended, "trailers end what has them");
}

void check_response(const Account& account, const Wire::Stream& stream) {
  require(fuzz::value_of(stream.head, ":status") == std::to_string(account.status), "a status is that of its stream");
  require(stream.body.starts_with(account.received), "a body is that of its stream");
  require(!account.received_all || stream.ended, "what looks complete has an end");
  if (!account.received_all) return;
  require(stream.body == account.received, "what looks complete is complete");
  require(!account.has_length || account.received.size() == account.length, "a body is as long as it was said to be");
  require(!account.got_trailers || stream.has_trailers, "trailers come from the server");
}

void check(const Run& run) {
  std::vector<bool> seen(run.accounts.size());
  for (const auto& [id, stream] : run.guard.streams()) {
    if (!stream.has_head) continue;
    const std::string_view path = fuzz::value_of(stream.head, ":path");
    const std::size_t at = path.starts_with("/exchange/") ? static_cast<std::size_t>(path.back() - '0') : seen.size();
    require(at < seen.size() && !seen[at], "a request is that of one exchange");
    seen[at] = true;
    check_request(run.accounts[at], stream);
    const Account& account = run.accounts[at];
    if (account.status == 0) continue;
    const Wire::Stream* answer = find(run.server, id);
    require(answer != nullptr, "an answer was sent");
    check_response(account, *answer);
  }
  for (std::size_t i = 0; i < seen.size(); ++i) {
    require(seen[i] || run.accounts[i].status == 0, "nothing is answered that was not sent");
    require(run.accounts[i].over, "every exchange ends");
  }
}

// What may be held at one time: the windows of all streams, and heads that nobody has read yet.
constexpr std::size_t kBytesMax = 24 << 20;

}  // namespace
}  // namespace sallyport::http2

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  using namespace sallyport::http2;
  if (size < 5) return 0;
  int ends[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0, "there are sockets");
  const std::size_t before = fuzz::allocated_bytes();
  std::size_t peak = 0;
  net::Loop loop;
  Run run(loop);
  for (std::size_t i = 0; i < kExchangesMax; ++i) run.ways[i] = data[1 + i / 2] >> (i % 2 * 4) & 15;
  {
    net::Stream stream(loop, UniqueFd(ends[0]), ErrorSource::upstream);
    const std::string_view input(reinterpret_cast<const char*>(data) + 5, size - 5);
    auto connection = std::make_shared<ClientConnection>(stream);
    run.connection = connection;
    loop.spawn(guard_side(run, std::move(connection)));
    begin_exchange(run);
    loop.spawn(server_side(run, UniqueFd(ends[1]), input, (data[0] & 1) != 0, peak));
    loop.run();
    loop.drop_tasks();
  }
  require(peak < before + kBytesMax + size, "memory is bounded");
  check(run);
  return 0;
}
