// HTTP/2 towards the function: a client that sends whatever the input says, over a socket, to a ServerConnection whose
// exchanges read, answer and give up in the ways that the input says. What comes back is HTTP/2; no stream gets an
// answer that it did not ask for, nor one that looks complete and is not; what an exchange has read is what its stream
// has brought; and the run ends. An input begins with a byte of options and four bytes of ways to serve; steps follow
// (http2_wire.h).

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "proxy/http2/server_connection.h"
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

// What one exchange has seen and said.
struct Account {
  std::string method, path, received, sent;
  bool failed_head = false;  // the request was refused: its parts may be missing
  bool received_all = false;
  bool ended = false;  // the end of the response was handed over
};

struct Run {
  explicit Run(net::Loop& made)
      : loop(made), client(Trust::fuzzed_client, nullptr), guard(Trust::guard_as_server, &client) {}
  net::Loop& loop;
  Wire client, guard;
  std::array<std::uint8_t, 8> ways{};
  std::deque<Account> accounts;
  ServerConnection* connection = nullptr;
  bool over = false;
};

enum class Way : std::uint8_t {
  read_then_answer,
  answer_at_once,
  stream_with_trailers,
  inform_first,
  break_off,
  leave_unanswered,
  answer_large,
  wait_for_loss,
  echo,
  end_early,
  no_content,
  too_much,
  forbidden_field,
  give_up,
  throw_exception,
  late,
};

net::Deadline soon(Run& run) { return run.loop.in(std::chrono::seconds(60)); }

// Reads one piece; false when there is no more.
net::Task<bool> read_piece(Run& run, ServerExchange& exchange, Account& account) {
  const Result<Chunk> chunk = co_await exchange.read_body(soon(run));
  if (!chunk) co_return false;
  account.received += chunk->data;
  account.received_all = chunk->end;
  co_return !chunk->end;
}

net::Task<void> read_all(Run& run, ServerExchange& exchange, Account& account) {
  bool more = true;
  while (more) more = co_await read_piece(run, exchange, account);
}

struct Answer {
  int status = 200;
  BodyInfo body;
  std::string_view first;
  bool end = false;
};

net::Task<bool> answer(Run& run, ServerExchange& exchange, Account& account, Answer response) {
  request::ResponseHead head;
  head.status = response.status;
  for (std::size_t i = 0; i < run.accounts.size(); ++i) {
    if (&run.accounts[i] == &account) head.headers.add_owned("account", std::to_string(i));
  }
  account.sent += response.first;
  account.ended = response.end;
  const Result<void> done = co_await exchange.respond(head, response.body, {response.first, response.end});
  co_return done.has_value();
}

net::Task<bool> write(ServerExchange& exchange, Account& account, std::string_view data, bool end) {
  account.sent += data;
  account.ended = account.ended || end;
  const Result<void> done = co_await exchange.write_body({data, end});
  co_return done.has_value();
}

net::Task<void> stream_with_trailers(Run& run, ServerExchange& exchange, Account& account, bool echo) {
  bool good = co_await answer(run, exchange, account, {200, {BodyInfo::Kind::streamed, 0, false}, "", false});
  bool more = true;
  for (int i = 0; good && more && (echo || i < 3); ++i) {
    const std::size_t before = account.received.size();
    more = co_await read_piece(run, exchange, account);
    // A copy: writing lets the account grow.
    const std::string piece = echo ? account.received.substr(before) : "a piece";
    good = co_await write(exchange, account, piece, false);
  }
  if (!good) co_return;
  request::HeaderList trailers;
  trailers.add("x-sum", "1");
  account.ended = true;
  co_await exchange.finish(&trailers);
}

net::Task<void> answer_large(Run& run, ServerExchange& exchange, Account& account) {
  static const std::string piece(16'000, 'l');
  constexpr int kPieces = 12;
  bool good =
      co_await answer(run, exchange, account, {200, {BodyInfo::Kind::sized, kPieces * piece.size(), false}, "", false});
  for (int i = 1; good && i <= kPieces; ++i) good = co_await write(exchange, account, piece, i == kPieces);
}

net::Task<void> wait_for_loss(Run& run, ServerExchange& exchange) {
  net::Event gone(run.loop);
  exchange.watch_peer([&gone] { gone.set(); });
  co_await gone.wait(soon(run));
  exchange.watch_peer({});
}

net::Task<void> answer_wrongly(Run& run, ServerExchange& exchange, Account& account, Way way) {
  if (way == Way::break_off) {
    co_await answer(run, exchange, account, {200, {BodyInfo::Kind::streamed, 0, false}, "a part", false});
    exchange.abort();
  } else if (way == Way::too_much) {
    const bool good =
        co_await answer(run, exchange, account, {200, {BodyInfo::Kind::sized, 10, false}, "12345", false});
    const bool more = co_await write(exchange, account, "678901", true);
    require(!good || !more || account.method == "HEAD", "a response has no more than it announced");
    account.ended = account.method == "HEAD";
    exchange.abort();
  } else {
    request::ResponseHead head;
    head.status = 200;
    head.headers.add("transfer-encoding", "chunked");
    const Result<void> done = co_await exchange.respond(head, {}, {"", true});
    require(!done.has_value(), "a field of HTTP/1 is not passed on");
    exchange.abort();
  }
}

net::Task<void> inform_and_answer(Run& run, ServerExchange& exchange, Account& account) {
  request::ResponseHead early;
  early.status = 103;
  early.headers.add("link", "</style.css>");
  co_await exchange.inform(early);
  co_await answer(run, exchange, account, {200, {}, "", true});
}

net::Task<void> serve_one(Run& run, ServerExchange& exchange, Account& account, Way way) {
  const Answer small{200, {BodyInfo::Kind::sized, 5, false}, "hello", true};
  switch (way) {
    case Way::late:
      for (int i = 0; i < 20; ++i) co_await run.loop.yield();
      [[fallthrough]];
    case Way::read_then_answer:
      co_await read_all(run, exchange, account);
      [[fallthrough]];
    case Way::answer_at_once:
      co_await answer(run, exchange, account, small);
      break;
    case Way::end_early:
      co_await answer(run, exchange, account, small);
      exchange.end_response();
      co_await read_all(run, exchange, account);
      break;
    case Way::stream_with_trailers:
    case Way::echo:
      co_await stream_with_trailers(run, exchange, account, way == Way::echo);
      break;
    case Way::inform_first:
      co_await inform_and_answer(run, exchange, account);
      break;
    case Way::break_off:
    case Way::too_much:
    case Way::forbidden_field:
      co_await answer_wrongly(run, exchange, account, way);
      break;
    case Way::leave_unanswered:
      co_await read_piece(run, exchange, account);
      break;
    case Way::answer_large:
      co_await answer_large(run, exchange, account);
      break;
    case Way::wait_for_loss:
      co_await wait_for_loss(run, exchange);
      break;
    case Way::no_content:
      co_await answer(run, exchange, account, {204, {}, "", true});
      break;
    case Way::give_up:
      exchange.cancel();
      break;
    case Way::throw_exception:
      throw std::bad_alloc();
  }
}

net::Task<void> serve(Run& run, ServerExchange& exchange) {
  Account& account = run.accounts.emplace_back();
  account.method = exchange.head().method;
  account.path = exchange.head().target;
  const std::size_t turn = run.accounts.size() - 1;
  if (exchange.failure()) {
    require(!exchange.failure()->text.empty(), "who refuses says why");
    account.failed_head = true;
    account.method.clear();  // it was not taken for one
    co_await answer(run, exchange, account, {400, {BodyInfo::Kind::sized, 3, false}, "no\n", true});
    co_return;
  }
  require(account.path.starts_with('/') || account.path == "*", "what is served has a path");
  const std::uint8_t ways = run.ways[turn % run.ways.size() / 2];
  co_await serve_one(run, exchange, account, static_cast<Way>((turn % 2 == 0 ? ways : ways >> 4) & 15));
}

net::Task<void> guard_side(Run& run, net::Stream& stream, std::string early) {
  ServerConnection::Handlers handlers;
  handlers.serve = [&run](ServerExchange& exchange) { return serve(run, exchange); };
  handlers.admit = [&run] { return run.connection->exchanges() < 100; };
  bool busy = false;
  handlers.on_busy = [&busy](bool now) { require(std::exchange(busy, now) != now, "it is said when it changes"); };
  ServerConnection connection(stream, request::Scheme::https, std::move(handlers));
  run.connection = &connection;
  try {
    co_await connection.run(early);
  } catch (const std::bad_alloc&) {
    // That of Way::throw_exception: it comes out where the connection is run.
  }
  require(connection.exchanges() == 0 && !busy, "no exchange is left behind");
  run.connection = nullptr;
  run.over = true;
}

net::Task<void> client_side(Run& run, UniqueFd fd, std::string_view input, bool half_close, std::size_t& peak) {
  Peer peer(run.loop, fd.get(), run.client, run.guard);
  while (!input.empty() && !run.over) {
    const Step step = fuzz::next_step(input);
    if (step.kind == Step::Kind::bytes) co_await peer.say(step.bytes);
    if (step.kind == Step::Kind::pause) co_await peer.settle();
    if (step.kind == Step::Kind::toggle_reading) peer.reading = !peer.reading;
    if (step.kind == Step::Kind::signal && run.connection != nullptr) run.connection->drain();
  }
  co_await peer.settle();
  if (half_close) {
    peer.reading = true;
    co_await peer.settle();
    ::shutdown(fd.get(), SHUT_WR);
  } else {
    while (peer.listen()) {
    }
    fd.reset();
  }
  for (int turn = 0; !run.over; ++turn) {
    require(turn < 1'000'000, "the run ends");
    if (fd) peer.listen();
    co_await run.loop.yield();
  }
  while (fd && peer.listen()) {
  }
  peak = peer.peak();
  run.loop.stop();
}

// A stream that brought what the account says was read.
bool is_of(const Wire::Stream& stream, const Account& account) {
  if (fuzz::value_of(stream.head, ":path") != account.path) return false;
  if (account.received_all) return stream.ended && stream.body == account.received;
  return stream.body.starts_with(account.received);
}

void check_requests(const Run& run) {
  for (const Account& account : run.accounts) {
    if (account.failed_head) continue;
    bool found = false;
    for (const auto& [id, stream] : run.client.streams()) found = found || is_of(stream, account);
    require(found, "what an exchange has read is what a stream has brought");
  }
}

void check_answers(const Run& run) {
  std::vector<bool> used(run.accounts.size());
  for (const auto& [id, stream] : run.guard.streams()) {
    if (!stream.has_head) continue;
    const std::string_view number = fuzz::value_of(stream.head, "account");
    std::size_t at = 0;
    for (const char c : number) at = at * 10 + static_cast<std::size_t>(c - '0');
    require(!number.empty() && at < used.size() && !used[at], "an answer is that of one exchange");
    used[at] = true;
    const Account& account = run.accounts[at];
    const auto asked = run.client.streams().find(id);
    require(asked != run.client.streams().end(), "an answer has a request");
    require(account.failed_head || fuzz::value_of(asked->second.head, ":path") == account.path,
            "an answer is for the request of its stream");
    const bool bodyless = account.method == "HEAD" || fuzz::value_of(stream.head, ":status") == "204";
    const std::string_view intended = bodyless ? std::string_view() : std::string_view(account.sent);
    require(intended.starts_with(stream.body), "an answer has the bytes of its exchange");
    const bool complete = bodyless || (account.ended && stream.body == intended);
    require(!stream.ended || complete, "what looks complete is complete");
  }
}

// What may be held at one time: heads and bodies of all streams, and what waits to be sent.
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
  for (std::size_t i = 0; i < 4; ++i) run.ways[i] = data[1 + i];
  std::string early;
  if ((data[0] & 1) == 0) {
    // Most inputs should get beyond the preface.
    early = std::string(fuzz::kPreface) + fuzz::frame(NGHTTP2_SETTINGS, 0, 0, {});
    run.client.feed(early);
  }
  {
    net::Stream stream(loop, UniqueFd(ends[0]), ErrorSource::downstream);
    const std::string_view input(reinterpret_cast<const char*>(data) + 5, size - 5);
    loop.spawn(guard_side(run, stream, early));
    loop.spawn(client_side(run, UniqueFd(ends[1]), input, (data[0] & 2) != 0, peak));
    loop.run();
    loop.drop_tasks();
  }
  require(peak < before + kBytesMax + size, "memory is bounded");
  check_requests(run);
  check_answers(run);
  return 0;
}
