// What one exchange costs in the codec: both heads parsed, both written again.

#include <benchmark/benchmark.h>

#include <string>

#include "proxy/http1/chunked.h"
#include "proxy/http1/parser.h"
#include "proxy/http1/serialize.h"

namespace sallyport::http1 {
namespace {

// Twelve fields, as a client library of a payment service sends them.
constexpr std::string_view kRequest =
    "POST /v1/charges?expand[]=customer HTTP/1.1\r\n"
    "Host: api.example.com\r\n"
    "User-Agent: Payments/v1 PythonBindings/7.8.0\r\n"
    "Accept: */*\r\n"
    "Accept-Encoding: gzip, deflate\r\n"
    "Connection: keep-alive\r\n"
    "Authorization: Bearer sallyport-placeholder-0123456789abcdef0123456789abcdef\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\n"
    "Content-Length: 62\r\n"
    "Idempotency-Key: 3c1dfd5c-1a3d-4f0b-9a52-6f6f2f9f3a11\r\n"
    "X-Client-User-Agent: {\"bindings_version\": \"7.8.0\", \"lang\": \"python\", \"publisher\": \"example\"}\r\n"
    "X-Amzn-Trace-Id: Root=1-67891233-abcdef012345678912345678;Sampled=1\r\n"
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
    "\r\n";

constexpr std::string_view kResponse =
    "HTTP/1.1 200 OK\r\n"
    "Server: nginx\r\n"
    "Date: Sat, 21 Nov 2026 22:00:00 GMT\r\n"
    "Content-Type: application/json\r\n"
    "Content-Length: 812\r\n"
    "Connection: keep-alive\r\n"
    "Access-Control-Allow-Origin: *\r\n"
    "Cache-Control: no-cache, no-store\r\n"
    "Request-Id: req_0123456789abcd\r\n"
    "Strict-Transport-Security: max-age=63072000; includeSubDomains; preload\r\n"
    "\r\n";

void count_bytes(benchmark::State& state, std::string_view text) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

void parse_request_head(benchmark::State& state) {
  RequestInfo info;
  request::RequestHead head;
  ParseError error;
  for (auto _ : state) {
    std::size_t scanned = 0;
    if (parse_request(kRequest, scanned, info, head, error) != Parse::complete) state.SkipWithError("not complete");
    benchmark::DoNotOptimize(head.headers.size());
  }
  count_bytes(state, kRequest);
}
BENCHMARK(parse_request_head);

void parse_response_head(benchmark::State& state) {
  ResponseInfo info;
  request::ResponseHead head;
  ParseError error;
  for (auto _ : state) {
    std::size_t scanned = 0;
    if (parse_response(kResponse, scanned, false, info, head, error) != Parse::complete)
      state.SkipWithError("not complete");
    benchmark::DoNotOptimize(head.headers.size());
  }
  count_bytes(state, kResponse);
}
BENCHMARK(parse_response_head);

void serialize_request_head(benchmark::State& state) {
  RequestInfo info;
  request::RequestHead head;
  ParseError error;
  std::size_t scanned = 0;
  if (parse_request(kRequest, scanned, info, head, error) != Parse::complete) state.SkipWithError("not complete");
  const Framing framing{.body = info.body, .content_length = info.content_length};
  std::string out;
  for (auto _ : state) {
    out.clear();
    if (!serialize_request(out, head.method, head.target, head.authority, head.headers, framing)) {
      state.SkipWithError("refused");
    }
    benchmark::DoNotOptimize(out.data());
  }
  count_bytes(state, kRequest);
}
BENCHMARK(serialize_request_head);

// Chunks of the given size, as they come out of one TLS record.
void decode_chunks(benchmark::State& state) {
  const std::string chunk(static_cast<std::size_t>(state.range(0)), 'x');
  std::string body;
  while (body.size() < 16'384) body.append(ChunkLine(chunk.size()).view()).append(chunk).append(kChunkEnd);
  body += kLastChunk;
  ChunkDecoder decoder;
  for (auto _ : state) {
    decoder.reset();
    std::string_view input = body;
    std::string_view data;
    ChunkDecoder::Event event;
    while ((event = decoder.next(input, data)) == ChunkDecoder::Event::data) benchmark::DoNotOptimize(data.data());
    if (event != ChunkDecoder::Event::done) state.SkipWithError("not done");
  }
  count_bytes(state, body);
}
BENCHMARK(decode_chunks)->Arg(16)->Arg(1'024)->Arg(16'000);

}  // namespace
}  // namespace sallyport::http1
