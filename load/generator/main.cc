// sallyport-load: the client side of the benchmark in load/bench.py. One mode a run; the figures go to stdout as one
// line of JSON. Any error ends the run with exit code 1: a measurement with errors in it is none.

#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <iostream>
#include <string>
#include <vector>

#include "load/generator/client.h"
#include "load/generator/figures.h"
#include "load/generator/http2.h"

namespace sallyport::load {
namespace {

struct Options {
  Target target;
  std::string ca_file;
  std::string path = "/1k";
  std::size_t connections = 1;
  std::size_t requests = 1;
  std::uint64_t bytes = 0;
  bool resume = false;
  bool no_delay = false;
  std::string domain;
  std::size_t first = 0;
  Http2Load http2;
};

// A closed loop on `connections` kept-alive connections: each sends its next request when it has its answer.
Result<Figures> keep_alive(SSL_CTX* context, const Options& options) {
  struct Slot {
    Client client;
    Clock::time_point sent;
  };
  std::vector<Slot> slots;
  UniqueFd poll(::epoll_create1(EPOLL_CLOEXEC));
  for (std::size_t i = 0; i < options.connections; ++i) {
    Result<Client> client = Client::connect(context, options.target, nullptr);
    if (!client) return std::unexpected(client.error());
    epoll_event event{.events = EPOLLIN, .data = {.u64 = i}};
    ::epoll_ctl(poll.get(), EPOLL_CTL_ADD, client->descriptor(), &event);
    slots.push_back({std::move(*client), Clock::now()});
  }
  Figures figures;
  figures.latencies_us.reserve(options.requests);
  const Clock::time_point start = Clock::now();
  std::size_t unsent = options.requests;
  for (Slot& slot : slots) {
    if (unsent == 0) break;
    --unsent;
    slot.sent = Clock::now();
    if (const Result<void> sent = slot.client.send(options.path); !sent) return std::unexpected(sent.error());
  }
  std::array<epoll_event, 64> events{};
  while (figures.latencies_us.size() < options.requests) {
    const int ready = ::epoll_wait(poll.get(), events.data(), static_cast<int>(events.size()), 30'000);
    if (ready <= 0) return fail(ErrorSource::upstream, ErrorKind::timeout, "no answer in 30 seconds");
    for (int i = 0; i < ready; ++i) {
      Slot& slot = slots[events[static_cast<std::size_t>(i)].data.u64];
      // An answer that has begun to arrive is read to its end: it is one record, or the benchmark measures a stall.
      const Result<std::uint64_t> got = slot.client.receive();
      if (!got) return std::unexpected(got.error());
      figures.bytes += *got;
      figures.latencies_us.push_back(microseconds_since(slot.sent));
      if (unsent == 0) continue;
      --unsent;
      slot.sent = Clock::now();
      if (const Result<void> sent = slot.client.send(options.path); !sent) return std::unexpected(sent.error());
    }
  }
  figures.seconds = microseconds_since(start) / 1e6;
  return figures;
}

// One connection after the other, each with one request; with `resume` each offers the session of the one before.
Result<Figures> connections(SSL_CTX* context, const Options& options) {
  Figures figures;
  Session session;
  const Clock::time_point start = Clock::now();
  for (std::size_t i = 0; i < options.requests; ++i) {
    const Clock::time_point begun = Clock::now();
    Result<Client> client = Client::connect(context, options.target, session.get());
    if (!client) return std::unexpected(client.error());
    if (options.no_delay) client->send_at_once();
    if (const Result<void> sent = client->send(options.path); !sent) return std::unexpected(sent.error());
    const Result<std::uint64_t> got = client->receive();
    if (!got) return std::unexpected(got.error());
    figures.latencies_us.push_back(microseconds_since(begun));
    figures.bytes += *got;
    figures.resumed += client->resumed() ? 1 : 0;
    Session newest = client->close();
    if (options.resume) session = std::move(newest);
  }
  figures.seconds = microseconds_since(start) / 1e6;
  return figures;
}

// The first connection and request to each of many names: n0.DOMAIN, n1.DOMAIN and so on.
Result<Figures> names(SSL_CTX* context, const Options& options) {
  Figures figures;
  const Clock::time_point start = Clock::now();
  for (std::size_t i = options.first; i < options.first + options.requests; ++i) {
    Options one = options;
    one.target.name = "n" + std::to_string(i) + "." + options.domain;
    one.requests = 1;
    const Result<Figures> got = connections(context, one);
    if (!got) return got;
    figures.bytes += got->bytes;
    figures.latencies_us.push_back(got->latencies_us.front());
  }
  figures.seconds = microseconds_since(start) / 1e6;
  return figures;
}

// Streams on one HTTP/2 connection.
Result<Figures> streams(SSL_CTX* context, const Options& options) {
  if (const Result<void> offered = offer_http2(context); !offered) return std::unexpected(offered.error());
  Http2Load load = options.http2;
  load.path = options.path;
  load.requests = options.requests;
  return http2_requests(context, options.target, load);
}

// One large body, down or (with `bytes`) up.
Result<Figures> bulk(SSL_CTX* context, const Options& options, bool up) {
  Result<Client> client = Client::connect(context, options.target, nullptr);
  if (!client) return std::unexpected(client.error());
  Figures figures;
  const Clock::time_point start = Clock::now();
  if (up) {
    if (const Result<void> done = client->upload(options.path, options.bytes); !done)
      return std::unexpected(done.error());
    figures.bytes = options.bytes;
  } else {
    if (const Result<void> sent = client->send(options.path); !sent) return std::unexpected(sent.error());
    const Result<std::uint64_t> got = client->receive();
    if (!got) return std::unexpected(got.error());
    figures.bytes = *got;
  }
  figures.latencies_us.push_back(microseconds_since(start));
  figures.seconds = figures.latencies_us.back() / 1e6;
  return figures;
}

// Connections that have each had one answer and now do nothing, until stdin ends. A few are opened at a time: all at
// once would make a pooling proxy open as many upstream connections, and that is not what idle clients cost.
Result<Figures> idle(SSL_CTX* context, const Options& options) {
  constexpr std::size_t kOpenedAtOnce = 16;
  std::vector<Client> clients;
  Figures figures;
  while (clients.size() < options.connections) {
    const std::size_t answered = clients.size();
    while (clients.size() < std::min(answered + kOpenedAtOnce, options.connections)) {
      Result<Client> client = Client::connect(context, options.target, nullptr);
      if (!client) return std::unexpected(client.error());
      if (const Result<void> sent = client->send(options.path); !sent) return std::unexpected(sent.error());
      clients.push_back(std::move(*client));
    }
    for (std::size_t i = answered; i < clients.size(); ++i) {
      if (const Result<std::uint64_t> got = clients[i].receive(); !got) return std::unexpected(got.error());
    }
  }
  figures.latencies_us.resize(clients.size());
  print(std::move(figures));
  std::array<char, 64> ignored{};
  while (::read(STDIN_FILENO, ignored.data(), ignored.size()) > 0) {
  }
  return Figures{};
}

void raise_descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Loads one TLS server or intercepting proxy and prints what it saw as JSON.", "sallyport-load");
  app.require_subcommand(1);
  app.add_option("--address", options.target.address, "IPv4 address to dial")->required();
  app.add_option("--port", options.target.port, "port to dial");
  app.add_option("--name", options.target.name, "host name to ask for and to find in the certificate")->required();
  app.add_option("--ca", options.ca_file, "file of the roots to trust")->required();
  app.add_option("--path", options.path, "path to request");
  CLI::App* keep = app.add_subcommand("keepalive", "requests over kept-alive connections");
  keep->add_option("--connections", options.connections, "how many at once");
  keep->add_option("--requests", options.requests, "how many in all");
  CLI::App* fresh = app.add_subcommand("connections", "one request per new connection, one after the other");
  fresh->add_option("--requests", options.requests, "how many");
  fresh->add_flag("--resume", options.resume, "offer the session of the connection before");
  fresh->add_flag("--no-delay", options.no_delay, "set TCP_NODELAY before the request");
  CLI::App* down = app.add_subcommand("download", "one large answer");
  CLI::App* up = app.add_subcommand("upload", "one large request body");
  up->add_option("--bytes", options.bytes, "its size")->required();
  CLI::App* quiet = app.add_subcommand("idle", "hold connections open until stdin ends");
  quiet->add_option("--connections", options.connections, "how many");
  CLI::App* many = app.add_subcommand("names", "one request to each of many names, each on a new connection");
  many->add_option("--domain", options.domain, "the names are n0, n1 and so on in this domain")->required();
  many->add_option("--first", options.first, "the number of the first");
  many->add_option("--requests", options.requests, "how many names");
  CLI::App* h2 = app.add_subcommand("streams", "requests on one HTTP/2 connection");
  h2->add_option("--streams", options.http2.streams, "how many at once");
  h2->add_option("--requests", options.requests, "how many in all");
  CLI::Option* message =
      h2->add_option("--grpc", options.http2.message_bytes, "unary gRPC calls with a message of so many bytes");
  CLI11_PARSE(app, argc, argv);

  options.http2.grpc = message->count() > 0;
  raise_descriptor_limit();
  Result<Context> context = make_context(options.ca_file);
  Result<Figures> figures = !context ? std::unexpected(context.error())
                            : *keep  ? keep_alive(context->get(), options)
                            : *fresh ? connections(context->get(), options)
                            : *down  ? bulk(context->get(), options, false)
                            : *up    ? bulk(context->get(), options, true)
                            : *many  ? names(context->get(), options)
                            : *h2    ? streams(context->get(), options)
                                     : idle(context->get(), options);
  if (!figures) {
    std::cerr << "sallyport-load: " << figures.error().text << "\n";
    return 1;
  }
  if (!*quiet) print(std::move(*figures));
  return 0;
}

}  // namespace
}  // namespace sallyport::load

int main(int argc, char** argv) { return sallyport::load::run(argc, argv); }
