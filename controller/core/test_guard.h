#pragma once
// For tests: a guard of the application `shop` as its controller sees it, over a real link.

#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "controller/link/test_controller.h"

namespace sallyport::controller::testing {

// A guard's end of a real link, and what has come over it.
class TestGuard {
 public:
  TestGuard(std::uint16_t port, const std::string& ca_file, const std::string& function, const std::string& instance,
            const std::string& token) {
    link::LinkHandlers handlers;
    handlers.on_update = [this](v1alpha1::Update&& update) {
      const std::lock_guard lock(mutex_);
      updates_.push_back(std::move(update));
    };
    handlers.on_registered = [this](const v1alpha1::Registered& registered) {
      const std::lock_guard lock(mutex_);
      ids_.push_back(registered.guard_id());
    };
    auto registration = [=]() -> Result<v1alpha1::Register> {
      v1alpha1::Register wanted;
      wanted.set_join_token(token);
      wanted.set_application("shop");
      wanted.set_function(function);
      wanted.set_instance(instance);
      return wanted;
    };
    auto made = link::RemoteLink::start({.host = "127.0.0.1", .port = port, .ca_file = ca_file}, registration,
                                        std::move(handlers));
    EXPECT_TRUE(made) << made.error().text;
    link_ = std::move(*made);
  }

  link::ControllerLink& link() { return *link_; }
  bool connected() const { return link_->status().state == link::LinkState::connected; }
  std::vector<v1alpha1::Update> updates() {
    const std::lock_guard lock(mutex_);
    return updates_;
  }
  v1alpha1::Update update() { return updates().back(); }
  std::vector<std::string> ids() {
    const std::lock_guard lock(mutex_);
    return ids_;
  }

  Result<v1alpha1::EntryAnswer> ask(v1alpha1::EntryAsk wanted) {
    std::promise<Result<v1alpha1::EntryAnswer>> answer;
    net::Loop loop;
    std::thread thread([&] {
      loop.spawn(ask_and_stop(*link_, loop, wanted, answer));
      loop.run();
      loop.drop_tasks();
    });
    auto result = answer.get_future().get();
    thread.join();
    return result;
  }

  // m_in, answered or not, and then one flow.
  void tell_execution(const std::string& execution, const std::string& request, bool asked) {
    v1alpha1::Event event;
    event.mutable_execution_began()->set_execution(execution);
    event.mutable_execution_began()->set_request_id(request);
    event.mutable_execution_began()->set_asked(asked);
    link_->report(event);
  }
  void tell_flow(const std::string& execution, const std::string& request, std::uint64_t id) {
    v1alpha1::Event event;
    v1alpha1::FlowBegan& flow = *event.mutable_flow_began();
    flow.set_execution(execution);
    flow.set_request_id(request);
    flow.set_id(id);
    flow.mutable_operation()->set_method("PUT");
    flow.mutable_operation()->set_host("queue.example.com");
    flow.mutable_operation()->set_path("/one");
    link_->report(event);
  }

 private:
  static net::Task<void> ask_and_stop(link::ControllerLink& link, net::Loop& loop, v1alpha1::EntryAsk wanted,
                                      std::promise<Result<v1alpha1::EntryAnswer>>& answer) {
    answer.set_value(co_await link.ask(loop, std::move(wanted), loop.in(5s)));
    loop.stop();
  }

  std::mutex mutex_;
  std::vector<v1alpha1::Update> updates_;
  std::vector<std::string> ids_;
  std::unique_ptr<link::RemoteLink> link_;  // last: its thread calls back
};

inline std::string id_of(char byte) { return std::string(16, byte); }

inline v1alpha1::EntryAsk ask_of(char execution) {
  v1alpha1::EntryAsk out;
  out.set_execution(id_of(execution));
  out.mutable_inbound()->set_method("POST");
  return out;
}

}  // namespace sallyport::controller::testing
