#pragma once
// The guard's end of a link, whatever it goes over: registering, the spool, asks and their answers, beats. It has a
// thread and a loop of its own; who derives from it connects, and says what has come.

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/limits.h"
#include "proxy/link/controller_link.h"
#include "proxy/link/pending.h"
#include "proxy/link/spool.h"

namespace sallyport::link {

// The Register to send: credential, application, function, instance, request for a certificate. Asked for anew for each
// connection, on the link's thread, as tokens change. The link fills in the rest.
using Registration = std::function<Result<api::Register>()>;

class GuardEnd : public ControllerLink {
 public:
  ~GuardEnd() override;
  net::Task<Result<api::EntryAnswer>> ask(net::Loop& loop, api::EntryAsk ask, net::Deadline deadline) override;
  net::Task<Result<api::Lease>> lease(net::Loop& loop, api::LeaseAsk ask, net::Deadline deadline) override;
  void report(api::Event event) override;
  bool flush(std::chrono::milliseconds at_most) override;
  void update_taken(std::uint64_t generation, std::string refusal) override;
  bool renew(std::string certificate_request) override;
  void set_executions_open(std::uint64_t count) override { executions_open_ = count; }
  LinkStatus status() const override;
  LinkFigures figures() const override;

 protected:
  GuardEnd(Registration registration, LinkHandlers handlers);

  // Of who derives. start() is called last in its constructor, stop() first in its destructor.
  void start();
  void stop();
  // Connects again and again. Ends with the loop.
  virtual net::Task<void> run() = 0;
  // Sends an Envelope that is ready; only while it is up.
  virtual void transmit(std::string_view envelope) = 0;
  // Bytes that were transmitted and are not on their way.
  virtual std::size_t backlog() const = 0;
  // Besides each beat: makes the other end show that it lives.
  virtual void probe() {}
  // Ends the connection in order, if there is one.
  virtual void hang_up() = 0;

  // All on the link's thread.
  net::Loop& loop() { return loop_; }
  Result<api::Envelope> register_envelope();
  // What has come, from the Registered on. An error ends the connection.
  Result<void> received(api::Envelope&& envelope);
  bool up() const { return up_; }
  bool stopping() const { return stopping_; }
  net::Clock::duration silence_max() const;
  // The connection has ended, or there was none.
  void down(const Error& why);
  // Where the controller has said to go instead, if it has; as it came. Forgotten with this.
  std::string take_elsewhere() { return std::exchange(elsewhere_, {}); }
  // How long to wait now before the next attempt.
  net::Clock::duration next_wait();

 private:
  template <class Ask, class Answer>
  struct Asked {
    Ask ask;
    std::shared_ptr<WaitingAsk<Answer>> waiting;
  };
  struct Reported {
    std::string event;
    Worth worth;
  };
  // What other threads have left for the link's.
  struct Inbox {
    std::vector<Reported> events;
    std::vector<Asked<api::EntryAsk, api::EntryAnswer>> asks;
    std::vector<Asked<api::LeaseAsk, api::Lease>> leases;
    std::vector<api::Envelope> others;
    std::size_t event_bytes = 0;
    std::array<std::uint64_t, 3> lost{};  // by Worth: there was no room in here
  };

  template <class Ask, class Answer>
  net::Task<Result<Answer>> wait_for_answer(net::Loop& loop, Ask ask, net::Deadline deadline,
                                            std::vector<Asked<Ask, Answer>> Inbox::* queue);
  template <class Ask, class Answer, class Put>
  void send_asks(std::vector<Asked<Ask, Answer>>& asked, PendingAsks<Answer>& pending, Put put);
  template <class Put>
  void hand_over(bool at_once, Put put);
  void keep(std::string event, Worth worth, Inbox& inbox);
  void send_later(api::Envelope envelope);
  void arm();
  void pump();
  void send_events();
  void publish_figures();
  void set_state(LinkState state, std::string text);
  Result<void> registered(const api::Registered& message);
  Result<void> refused(const api::Refused& message);
  Result<void> take_known(api::Envelope& envelope);
  static net::Task<void> tick(GuardEnd& self);
  static net::Task<void> beat(GuardEnd& self);
  static net::Task<void> finish(GuardEnd& self);

  Registration registration_;
  LinkHandlers handlers_;
  net::Loop loop_;

  // The link's thread.
  Spool spool_;
  std::unique_ptr<net::Socket> timer_;
  std::string guard_id_;
  std::chrono::milliseconds beat_{};
  net::Event beat_now_;
  bool up_ = false;
  bool was_up_ = false;
  std::string elsewhere_;
  bool useless_ = false;  // the controller has said that trying again is
  net::Clock::duration wait_{};
  std::uint64_t number_ = 0;
  PendingAsks<api::EntryAnswer> asks_{limits::kLinkAsksMax};
  PendingAsks<api::Lease> leases_{limits::kLinkAsksMax};
  std::string scratch_;

  std::atomic<std::uint64_t> executions_open_ = 0;
  std::atomic<std::uint64_t> generation_ = 0;
  std::atomic<std::uint64_t> reports_ = 0;
  const AskCount asks_open_ = std::make_shared<std::atomic<std::size_t>>(0);
  std::atomic<std::uint64_t> unknown_ = 0;
  std::atomic<std::uint64_t> registrations_ = 0;
  std::atomic<bool> connected_ = false;
  std::atomic<bool> stopping_ = false;

  mutable std::mutex mutex_;  // held for as long as a push takes
  Inbox inbox_;
  bool timer_wanted_ = false, pump_wanted_ = false;

  mutable std::mutex told_mutex_;  // what others may ask about
  std::condition_variable told_;
  LinkStatus status_;
  LinkFigures figures_;
  std::uint64_t reported_ = 0;  // events that have come into the spool, or were lost before it

  std::thread thread_;
};

}  // namespace sallyport::link
