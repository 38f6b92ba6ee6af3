#pragma once
// The controller (SecLambda, section IV): who the guards are, what each of them is given, what they tell, and what the
// state of their applications allows. Guards come in over links (controller/link), administration by calls.
//
// What has to be kept is in the Store before anybody is told of it: an id, that events are taken, an answer that uses
// something up. So a controller that is killed loses and doubles nothing.

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/limits.h"
#include "controller/core/alarm_book.h"
#include "controller/core/catalog.h"
#include "controller/core/clock.h"
#include "controller/core/member.h"
#include "controller/core/signing_budget.h"
#include "controller/core/tenant_ca.h"
#include "controller/core/tracker.h"
#include "controller/link/links.h"
#include "controller/registry/guard_table.h"
#include "controller/registry/join_token.h"
#include "controller/registry/token_review.h"
#include "controller/store/journal_writer.h"

namespace sallyport::controller {

struct ControllerOptions {
  std::chrono::milliseconds beat = limits::kBeatInterval;
  std::chrono::hours retention{30 * 24};  // of events and alarms
  std::uint64_t store_bytes_max = limits::kStoreBytesMax;
  Tracker::Budgets budgets = {};
  SigningBudget::Rates signing = {};
  std::function<void(const std::string&)> say;  // a line for a person, from any thread
  // What asks Kubernetes about service accounts' tokens; null: they are not believed. Stopped before any link ends.
  TokenReviewer* reviewer = nullptr;
};

class Controller final : public LinkHandler {
 public:
  // Reads what is stored, and builds the state of each application up again.
  static Result<std::unique_ptr<Controller>> start(Store& store, ControllerOptions options);
  // Every link of it has ended.
  ~Controller() override;

  void connected(Links& way, LinkId link, v1alpha1::Register&& wanted) override;
  void received(LinkId link, v1alpha1::Envelope&& envelope) override;
  void closed(LinkId link, const std::string& why) override;

  // Administration: any thread, and each waits for the store. `who` goes into the audit trail. ErrorKind::invalid: a
  // name that is none; unresolved: there is no such thing; refused: there is one already, or it has changed meanwhile.
  Result<void> create_application(const std::string& name, const std::string& who);
  // Forgets everything that is of it but the audit trail. Refused while a guard of it is connected.
  Result<void> delete_application(const std::string& name, const std::string& who);
  std::vector<std::string> applications() const;
  struct FunctionFigures {
    std::string name;
    std::size_t instances = 0;
    std::uint32_t instances_max = 0;  // 0: as many as there are
    Catalog::Versions versions;
  };
  std::vector<FunctionFigures> functions(const std::string& application) const;

  struct LimitFigures {
    ApplicationSettings::Limit limit;
    std::vector<Tracker::Bucket> buckets;
  };
  Result<std::vector<LimitFigures>> limits(const std::string& application) const;

  struct Put {
    std::uint64_t version = 0;  // 0: nothing was put, as there are errors
    std::vector<document::Diagnostic> diagnostics;
  };
  // `after`: the version that it replaces, or 0 for whatever there is.
  Result<Put> put_document(Document document, std::uint64_t after, const std::string& who);
  // Puts an older version again; 0: the one before the newest.
  Result<Put> roll_back(const Document& which, std::uint64_t version, const std::string& who);
  // The newest first.
  Result<std::vector<Document>> versions(const Document& which) const;

  Result<void> put_secret(const std::string& application, const std::string& name, std::string_view value,
                          const std::string& who);
  Result<void> drop_secret(const std::string& application, const std::string& name, const std::string& who);
  Result<std::vector<std::string>> secrets(const std::string& application) const;
  struct TagKeyFigures {
    std::uint64_t number = 0;
    Time made{};
    bool makes = false;
  };
  std::vector<TagKeyFigures> tag_keys(const std::string& application) const;
  Result<void> rotate_tag_key(const std::string& application, const std::string& who);
  // What the application's functions have to trust, in PEM.
  Result<std::string> trusted(const std::string& application) const;
  // Another CA for it, which signs in limits::kTenantCaSettle; the one before is trusted until nothing of it is good.
  // Or, after a compromise, at once: nothing before it is trusted any more, and guards ask for certificates of it.
  enum class OldCa : std::uint8_t { keep, drop };
  // Both empty: one is made. PEM: its certificate and what leads to its root, and its key.
  Result<void> put_ca(const std::string& application, std::string_view certificates, std::string_view key, OldCa old,
                      const std::string& who);
  Result<MadeToken> make_token(const std::string& application, const std::string& function, std::optional<Time> ends,
                               const std::string& who);
  // A token that nobody but this process knows, for a guard in it: it is not stored.
  Result<std::string> believe_this_process(const std::string& application, const std::string& function);
  Result<void> revoke_token(const std::string& id, const std::string& who);

  std::vector<Guard> guards() const;
  Result<Tracker::Figures> figures(const std::string& application) const;
  AlarmBook::Counts alarm_counts() const { return alarms_.counts(); }
  bool store_works() const { return journal_.working(); }
  Time now() const { return clock_.now(); }
  Store& store() { return store_; }

 private:
  // What a function's guards have been given last.
  struct Given {
    std::uint64_t generation = 0;
    std::shared_ptr<const SharedEnvelope> envelope;
  };
  struct Application {
    Application(const std::string& name, JournalWriter& journal, AlarmBook& alarms, const ControllerOptions& options)
        : catalog(name), signing(options.signing), tracker(name, journal, alarms, options.budgets) {}
    Catalog catalog;
    TenantCa ca;
    SigningBudget signing;
    Tracker tracker;
    std::mutex given_mutex;  // held while it is sent: nobody gets an older one after a newer one
    std::map<std::string, Given, std::less<>> given;
    std::uint64_t making_key = 0;  // as the clock has seen it last
    bool ending = false;           // under guards_mutex_: no guard of it is let in any more
  };
  struct Session {
    std::shared_ptr<Member> member;
    std::shared_ptr<Application> application;
  };

  Controller(Store& store, ControllerOptions options);
  Result<void> load();
  std::chrono::milliseconds memory() const;
  Application& add_application(const std::string& name);
  std::shared_ptr<Application> find(std::string_view application) const;
  std::vector<std::shared_ptr<Application>> all() const;
  const Given& give(Application& application, const std::string& function, bool anew);
  void distribute(Application& application, const std::string& function);
  void distribute_to_all(Application& application);
  void run_clock();
  void advance(Time now);
  void look_after_guards(Time now);
  void look_after_keys(Time now);
  void look_after_store(Time now);
  void look_after_cas(Time now);
  void raise(const std::string& application, std::string_view kind, const std::string& function, std::string about,
             std::string text);
  void say(const std::string& text) const;

  // controller_guards.cc
  std::optional<Session> session(LinkId link) const;
  void review(Links& way, LinkId link, v1alpha1::Register&& wanted);
  Result<std::string> judge(const Result<ReviewedToken>& token, const v1alpha1::Register& wanted) const;
  void admit(Links& way, LinkId link, const v1alpha1::Register& wanted, const std::string& subject);
  std::optional<v1alpha1::Renewed> certify(Application& application, Member& member, const std::string& request);
  void welcome(const std::shared_ptr<Member>& member, Application& application,
               const std::optional<v1alpha1::Renewed>& certificate);
  void take_events(const Session& session, v1alpha1::Events&& events);
  void note_update(const Session& session, LinkId link, const v1alpha1::UpdateTaken& taken);
  void note_beat(LinkId link, const v1alpha1::Beat& beat);
  void say_goodbye(LinkId link);
  void tell_halted(const Application& application, const std::vector<Tracker::Halted>& halted);
  std::vector<std::shared_ptr<Member>> members_of(const std::string& application, const std::string& function) const;
  void drop_guards_of(const std::string& subject);

  // controller_administration.cc
  Result<std::shared_ptr<Application>> need(std::string_view application) const;
  Result<Put> put_checked(Document document, std::uint64_t after, const std::string& who);
  Result<void> take_effect(Application& application, const Document& document);
  Result<void> put_new_key(const std::string& application);
  Result<void> keep_ca(Application& application, ca::Authority authority, OldCa old);
  Result<void> audit(const std::string& who, const std::string& what, const std::string& about,
                     const std::string& detail = {});

  Store& store_;
  const ControllerOptions options_;
  Clock clock_;
  AlarmBook alarms_;
  JoinTokens tokens_;
  std::atomic<std::uint64_t> generation_ = 0;

  std::mutex admin_mutex_;  // one change after the other
  mutable std::shared_mutex applications_mutex_;
  std::map<std::string, std::shared_ptr<Application>, std::less<>> applications_;

  mutable std::mutex guards_mutex_;
  GuardTable guards_;
  std::map<GuardId, std::shared_ptr<Member>> members_;
  mutable std::shared_mutex sessions_mutex_;
  std::unordered_map<LinkId, Session> sessions_;
  std::unordered_set<LinkId> reviewed_;  // links whose token Kubernetes is being asked about
  JournalWriter journal_;                // behind what it tells, when it has written, that it has

  std::mutex clock_mutex_;
  std::condition_variable clock_changed_;
  Time wake_{};  // when the clock looks next
  bool stopping_ = false;
  Time looked_{}, swept_{};  // of the clock's thread
  std::thread clock_thread_;
};

}  // namespace sallyport::controller
