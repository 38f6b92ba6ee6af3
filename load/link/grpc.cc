// gRPC's client library against sallyport-grpc-origin, which is made of gRPC's server library and answers with what it
// got. The generic interfaces: nothing of ours parses a message in between.

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <memory>

#include "load/link/link_load.h"
#include "proxy/net/test_certificates.h"
#include "proxy/net/test_peer.h"

namespace sallyport::load {

namespace {

using SteadyClock = std::chrono::steady_clock;

// One call after the other on one channel, until the time is over. The object's address is its tag.
class Caller {
 public:
  Caller(grpc::GenericStub& stub, grpc::CompletionQueue& queue, const grpc::ByteBuffer& request)
      : stub_(stub), queue_(queue), request_(request) {}

  void call() {
    context_ = std::make_unique<grpc::ClientContext>();
    begun_ = SteadyClock::now();
    call_ = stub_.PrepareUnaryCall(context_.get(), "/sallyport.Hello/Say", request_, &queue_);
    call_->StartCall();
    call_->Finish(&answer_, &status_, this);
  }
  double microseconds() const { return std::chrono::duration<double, std::micro>(SteadyClock::now() - begun_).count(); }
  bool good() const { return status_.ok() && answer_.Length() == kPayloadBytes; }

 private:
  grpc::GenericStub& stub_;
  grpc::CompletionQueue& queue_;
  const grpc::ByteBuffer& request_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> call_;
  grpc::ByteBuffer answer_;
  grpc::Status status_;
  SteadyClock::time_point begun_;
};

// Runs the callers until each has ended behind `until`; what took less than that is counted.
Calls run(std::deque<Caller>& callers, grpc::CompletionQueue& queue, double seconds) {
  Calls calls;
  const auto begun = SteadyClock::now();
  const auto until = begun + std::chrono::duration<double>(seconds);
  std::size_t under_way = callers.size();
  for (Caller& caller : callers) caller.call();
  void* tag = nullptr;
  bool ok = false;
  while (under_way > 0 && queue.Next(&tag, &ok)) {
    auto& caller = *static_cast<Caller*>(tag);
    if (!caller.good()) std::abort();
    calls.microseconds.push_back(caller.microseconds());
    if (SteadyClock::now() < until) {
      caller.call();
    } else {
      --under_way;
    }
  }
  calls.seconds = std::chrono::duration<double>(SteadyClock::now() - begun).count();
  return calls;
}

}  // namespace

bool has_grpc() { return true; }

Calls grpc_calls(const std::string& origin, const std::string& certificate_pem, const std::string& key_pem,
                 const std::string& root_pem, unsigned channels, unsigned each, double seconds) {
  const net::testing::TemporaryFile certificate(certificate_pem), key(key_pem);
  const std::string address = "127.0.0.1:" + std::to_string(free_port());
  const Child server({origin, certificate.path(), key.path(), address});
  const std::string payload(kPayloadBytes, 'x');
  const grpc::Slice slice(payload);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::CompletionQueue queue;
  std::deque<grpc::GenericStub> stubs;
  std::deque<Caller> callers;
  for (unsigned i = 0; i < channels; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    const auto channel = grpc::CreateCustomChannel(
        address, grpc::SslCredentials({.pem_root_certs = root_pem, .pem_private_key = {}, .pem_cert_chain = {}}),
        arguments);
    if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(20))) std::abort();
    stubs.emplace_back(channel);
    for (unsigned j = 0; j < each; ++j) callers.emplace_back(stubs.back(), queue, request);
  }
  run(callers, queue, seconds / 10);  // warm
  const double cpu = server.cpu_seconds();
  Calls calls = run(callers, queue, seconds);
  calls.server_cpu_seconds = server.cpu_seconds() - cpu;
  return calls;
}

}  // namespace sallyport::load
