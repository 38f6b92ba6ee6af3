#pragma once
// The guard as a member of an application: what its controller says is put in force here, and what happens is told from
// here. The link itself is proxy/link's.

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "policy-engine/tag/tag.h"
#include "proxy/guard/execution_table.h"
#include "proxy/guard/member_certificate.h"
#include "proxy/guard/update.h"
#include "proxy/link/controller_link.h"

namespace sallyport::guard {

// What is in force: of one Update, or while that has expired, what stands in its place.
struct InForce {
  std::shared_ptr<const document::Snapshot> policy;
  std::shared_ptr<const flow::Graph> graph;
  std::shared_ptr<const Terms> terms;
};

class Membership {
 public:
  struct Options {
    MemberOf of;
    PolicyContext context;
    std::string controller;  // how errors name it
  };
  using Put = std::function<void(const InForce&)>;
  using PutCertificate = std::function<void(std::shared_ptr<const std::string> pem)>;  // with what leads to its root
  using PutTrusted = std::function<void(const std::string& pem)>;
  using Say = std::function<void(const std::string& text)>;

  // Without a certificate the guard has a CA of its own, and none is asked for.
  explicit Membership(Options options, std::optional<MemberCertificate> certificate = std::nullopt)
      : options_(std::move(options)), certificate_(std::move(certificate)) {}
  Membership(const Membership&) = delete;
  Membership& operator=(const Membership&) = delete;
  ~Membership() { stop(); }

  // The link is made with the handlers, and attached before anything else is called. It outlives the guard, and the
  // membership outlives it.
  link::LinkHandlers handlers();
  void attach(link::ControllerLink& link) { link_ = &link; }

  // Waits for the first policy that can be used, and for a certificate that is for its hosts. ErrorSource::controller:
  // which controller, and why there is none.
  Result<PolicyFile> first_policy(std::chrono::milliseconds at_most);
  // After that, and before start(): the CA that the controller has given, in the context of its key, and what functions
  // have to trust.
  Result<ca::Authority> authority() const;
  std::string trusted() const;
  // Told when that changes, from start() on, on the membership's thread; before the certificate that it is for.
  void on_trusted(PutTrusted put) { put_trusted_ = std::move(put); }
  // From now on: what comes is put in force, or refused, on a thread of the membership's, and so is the end of its
  // lifetime. A policy is put in force once there is a certificate for its hosts. Until stop(), which returns when that
  // thread has ended.
  void start(Put put, Say say, PutCertificate put_certificate = {});
  void stop();

  link::ControllerLink& link() { return *link_; }
  const MemberOf& of() const { return options_.of; }
  std::shared_ptr<const Terms> terms() const;
  // For metrics.
  struct Figures {
    link::LinkFigures link;
    bool connected = false;
    std::uint64_t generation = 0, offered_generation = 0;  // in force, and of the last update that came; 0: none
    std::uint64_t updates_refused = 0;
    std::optional<ca::TimePoint> certificate_end;  // nothing: it has none of the controller's
  };
  Figures figures() const;
  // As the controller knows it: tags name it. It may change when the controller is another one.
  tag::GuardId guard_id() const;

  // Any thread.
  // For a Register; empty: the guard has a certificate that need not be renewed yet, or wants none.
  std::string certificate_request();
  struct Began {
    ExecutionId execution{};
    ExecutionId request{};
    const flow::v1alpha1::Operation* inbound = nullptr;
    const tag::Tag* tag = nullptr;
    bool asked = false;
  };
  void execution_began(const Began& began);
  // What the controller has allowed has not begun after all.
  void entry_given_up(const ExecutionId& execution, const ExecutionId& request);
  void flow_began(const Record& record);
  void ended(const Record& record);
  // Blocks until the controller has taken all that was told; false: it has not, in that time.
  bool flush(std::chrono::milliseconds at_most) { return link_->flush(at_most); }

 private:
  void on_state(const link::LinkStatus& status);
  void on_halt(const link_api::Halt& halt);
  void on_registered(const link_api::Registered& message);
  std::shared_ptr<HaltSwitch> halt_of(const std::string& limit);
  UpdateLoad read(link_api::Update&& update);
  void run();
  void read_pending(std::unique_lock<std::mutex>& lock);
  void look_after_certificate(std::unique_lock<std::mutex>& lock);
  bool held_is_ready() const;
  void take(UpdateLoad&& load);
  void put(bool expired);
  net::Deadline next_look() const;
  std::optional<net::Deadline> expires_at() const;
  void forget_halts();
  Error none_came() const;

  const Options options_;
  link::ControllerLink* link_ = nullptr;
  Put put_;
  PutCertificate put_certificate_;
  PutTrusted put_trusted_;
  Say say_;

  mutable std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::optional<link_api::Update> pending_;  // the last that has come
  std::optional<UpdateLoad> held_;           // the last that can be used; it waits for a certificate for its hosts
  std::optional<MemberCertificate> certificate_;
  bool certificate_came_ = false, certificate_over_ = false;
  std::optional<net::Deadline> lost_since_;
  bool stopping_ = false;
  bool expired_ = false;
  std::string refusal_;  // of the last update that was refused
  std::uint64_t offered_generation_ = 0, updates_refused_ = 0;
  InForce known_;  // of the last that was taken
  tag::GuardId guard_id_{};
  std::map<std::string, std::shared_ptr<HaltSwitch>, std::less<>> halts_;
  std::thread thread_;
};

}  // namespace sallyport::guard
