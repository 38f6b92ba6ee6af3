// sallyport-grpc-origin: the benchmark's gRPC server, made of gRPC's own library. Every unary call is answered with the
// message that it sent. One thread, as the benchmark's other origin has one worker.

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <deque>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

namespace {

constexpr std::size_t kCallsAtOnce = 512;

// One call after the other, each from being waited for to its end. The object's address is its tag in the queue.
class Call {
 public:
  Call(grpc::AsyncGenericService& service, grpc::ServerCompletionQueue& queue) : service_(service), queue_(queue) {
    await();
  }

  // The step that was asked for has come, or (`ok` false) it will not: then the call is over.
  void proceed(bool ok) {
    switch (state_->step) {
      case Step::awaited:
        if (!ok) return;  // the server shuts down
        state_->step = Step::reading;
        state_->stream.Read(&state_->message, this);
        return;
      case Step::reading:
        state_->step = Step::finishing;
        if (ok) {
          state_->stream.WriteAndFinish(state_->message, grpc::WriteOptions(), grpc::Status::OK, this);
        } else {
          state_->stream.Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no message"), this);
        }
        return;
      case Step::finishing:
        await();
        return;
    }
  }

 private:
  enum class Step { awaited, reading, finishing };

  struct State {
    State() : stream(&context), step(Step::awaited) {}
    grpc::GenericServerContext context;
    grpc::GenericServerAsyncReaderWriter stream;
    grpc::ByteBuffer message;
    Step step;
  };

  void await() {
    state_ = std::make_unique<State>();
    service_.RequestCall(&state_->context, &state_->stream, &queue_, &queue_, this);
  }

  grpc::AsyncGenericService& service_;
  grpc::ServerCompletionQueue& queue_;
  std::unique_ptr<State> state_;  // anew for each call
};

std::string contents(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: sallyport-grpc-origin CERTIFICATE KEY ADDRESS:PORT…\n";
    return 2;
  }
  grpc::SslServerCredentialsOptions tls;
  tls.pem_key_cert_pairs.push_back({.private_key = contents(argv[2]), .cert_chain = contents(argv[1])});
  grpc::ServerBuilder builder;
  for (int i = 3; i < argc; ++i) builder.AddListeningPort(argv[i], grpc::SslServerCredentials(tls));
  grpc::AsyncGenericService service;
  builder.RegisterAsyncGenericService(&service);
  const std::unique_ptr<grpc::ServerCompletionQueue> queue = builder.AddCompletionQueue();
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!server) {
    std::cerr << "sallyport-grpc-origin: cannot listen\n";
    return 1;
  }
  std::deque<Call> calls;
  while (calls.size() < kCallsAtOnce) calls.emplace_back(service, *queue);
  void* tag = nullptr;
  bool ok = false;
  while (queue->Next(&tag, &ok)) static_cast<Call*>(tag)->proceed(ok);
  return 0;
}
