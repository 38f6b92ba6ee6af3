// The controller as a whole: what it begins with, what functions' guards are given, and its clock. Guards' links are
// in controller_guards.cc, administration in controller_administration.cc.
#include "controller/core/controller.h"

#include <algorithm>
#include <set>
#include <utility>

namespace sallyport::controller {

using v1alpha1::Envelope;

Controller::Controller(Store& store, ControllerOptions options)
    : store_(store),
      options_(std::move(options)),
      alarms_(store,
              [this](const AlarmRow& alarm) {
                std::string text = "alarm " + alarm.kind + " in " + alarm.application;
                if (!alarm.function.empty()) text += "/" + alarm.function;
                if (!alarm.about.empty()) text += " (" + alarm.about + ")";
                say(text + ": " + alarm.text);
              }),
      journal_(store, [this](const std::string& trouble) {
        say(trouble.empty() ? "the store works again"
                            : "the store can't be written: " + trouble +
                                  "; no entry is allowed that would have to be stored, and guards keep their events");
      }) {}

Controller::~Controller() {
  {
    const std::lock_guard lock(clock_mutex_);
    stopping_ = true;
  }
  clock_changed_.notify_all();
  if (clock_thread_.joinable()) clock_thread_.join();
}

Result<std::unique_ptr<Controller>> Controller::start(Store& store, ControllerOptions options) {
  std::unique_ptr<Controller> controller(new Controller(store, std::move(options)));
  if (auto loaded = controller->load(); !loaded) return std::unexpected(loaded.error());
  controller->clock_thread_ = std::thread([raw = controller.get()] { raw->run_clock(); });
  return controller;
}

Result<void> Controller::load() {
  const auto latest = store_.latest();
  if (!latest) return std::unexpected(latest.error());
  if (const auto behind = *latest - clock_.now(); behind.count() > 0) {
    say("the machine's clock is " + std::to_string(behind.count()) +
        " ms behind what has been stored; times go on from there");
  }
  clock_.go_on_from(*latest);
  const Time now = clock_.now();
  generation_ = static_cast<std::uint64_t>(std::max<std::int64_t>(now.time_since_epoch().count(), 0));
  auto documents = store_.documents();
  auto secrets = store_.secrets();
  auto keys = store_.tag_keys();
  auto tokens = store_.tokens();
  auto guards = store_.guards();
  if (!documents) return std::unexpected(documents.error());
  if (!secrets) return std::unexpected(secrets.error());
  if (!keys) return std::unexpected(keys.error());
  if (!tokens) return std::unexpected(tokens.error());
  if (!guards) return std::unexpected(guards.error());
  std::set<std::string> with_ca;
  for (SecretRow& row : *secrets) {
    Application& application = add_application(row.application);
    if (!tenant_ca_number(row.name)) {
      application.catalog.put_secret(row.name, std::move(row.value));
      continue;
    }
    with_ca.insert(row.application);
    // One that has expired, or is damaged: its guards are given nothing of it, and serve nobody. Fails closed.
    auto authority = read_tenant_ca(row, now);
    if (authority) application.ca.put(std::move(*authority));
    if (!authority) say(authority.error().text);
  }
  for (TagKeyRow& row : *keys) {
    Catalog& catalog = add_application(row.application).catalog;
    catalog.put_tag_key(std::move(row));
  }
  for (const JoinToken& token : *tokens) tokens_.put(token);
  guards_.load(std::move(*guards), now);
  // Graphs before the policies that want them.
  for (const bool policies : {false, true}) {
    for (const Document& document : *documents) {
      if ((document.kind == DocumentKind::policy) != policies) continue;
      // One of an older version, by whose rules it was good, may have errors. It is not in force: fails closed.
      Catalog& catalog = add_application(document.application).catalog;
      Catalog::Read read = catalog.read(document);
      for (const auto& diagnostic : read.diagnostics) {
        if (!diagnostic.warning) say("stored " + diagnostic.to_string());
      }
      if (read.good()) catalog.put(document, std::move(read));
    }
  }
  for (const auto& [name, application] : applications_) {
    application->tracker.set_limits(application->catalog.limits(), now);
    application->tracker.begin(application->catalog.application_graph());
    if (with_ca.contains(name)) continue;
    auto made = make_tenant_ca(name, now);
    if (!made) return std::unexpected(made.error());
    if (auto kept = keep_ca(*application, std::move(*made), OldCa::keep); !kept) return kept;
  }
  return store_.replay(now - memory(), [this](Store::Entry&& entry) -> Result<void> {
    const auto application = find(entry.events ? entry.events->application : entry.decided->application);
    return application == nullptr ? Result<void>{} : application->tracker.replay(entry);
  });
}

// How far back in the journal there is what matters for the state of an application.
std::chrono::milliseconds Controller::memory() const {
  std::chrono::milliseconds longest{};
  for (const auto& application : all()) longest = std::max(longest, application->tracker.memory());
  return longest;
}

Controller::Application& Controller::add_application(const std::string& name) {
  const std::unique_lock lock(applications_mutex_);
  auto& application = applications_[name];
  if (!application) application = std::make_shared<Application>(name, journal_, alarms_, options_);
  return *application;
}

std::shared_ptr<Controller::Application> Controller::find(std::string_view application) const {
  const std::shared_lock lock(applications_mutex_);
  const auto found = applications_.find(application);
  return found == applications_.end() ? nullptr : found->second;
}

std::vector<std::shared_ptr<Controller::Application>> Controller::all() const {
  const std::shared_lock lock(applications_mutex_);
  std::vector<std::shared_ptr<Application>> out;
  for (const auto& [name, application] : applications_) out.push_back(application);
  return out;
}

// What is given to guards.

// Under the application's given_mutex.
const Controller::Given& Controller::give(Application& application, const std::string& function, bool anew) {
  Given& given = application.given[function];
  if (anew || !given.envelope) {
    given.generation = ++generation_;
    Envelope envelope;
    *envelope.mutable_update() = application.catalog.update_of(function, given.generation, clock_.now());
    envelope.mutable_update()->set_trusted(application.ca.trusted());
    given.envelope = std::make_shared<const SharedEnvelope>(envelope);
  }
  return given;
}

void Controller::distribute(Application& application, const std::string& function) {
  const std::lock_guard lock(application.given_mutex);
  const std::shared_ptr<const SharedEnvelope> envelope = give(application, function, true).envelope;
  for (const auto& member : members_of(application.catalog.application(), function)) member->send(*envelope);
}

void Controller::distribute_to_all(Application& application) {
  std::vector<std::string> functions = application.catalog.functions();
  {
    // Also to guards of functions that are gone: they are given a policy that allows nothing.
    const std::lock_guard lock(application.given_mutex);
    for (const auto& [function, given] : application.given) functions.push_back(function);
  }
  std::ranges::sort(functions);
  functions.erase(std::ranges::unique(functions).begin(), functions.end());
  for (const std::string& function : functions) distribute(application, function);
}

// The clock.

void Controller::run_clock() {
  std::unique_lock lock(clock_mutex_);
  while (!stopping_) {
    lock.unlock();
    const Time now = clock_.now();
    advance(now);
    std::optional<Time> due;
    for (const auto& application : all()) {
      const auto next = application->tracker.next_due();
      if (next && (!due || *next < *due)) due = next;
    }
    lock.lock();
    wake_ = std::min(due.value_or(Time::max()), now + limits::kControllerTick);
    if (!stopping_) clock_changed_.wait_for(lock, wake_ - std::min(clock_.now(), wake_));
  }
}

void Controller::advance(Time now) {
  std::vector<Tracker::Halted> halted;
  for (const auto& application : all()) {
    application->tracker.advance(now, halted);
    if (!halted.empty()) tell_halted(*application, halted);
    halted.clear();
  }
  if (now < looked_ + limits::kControllerTick) return;
  looked_ = now;
  look_after_guards(now);
  look_after_keys(now);
  look_after_store(now);
  look_after_cas(now);
}

void Controller::look_after_guards(Time now) {
  std::vector<Guard> lost;
  std::vector<GuardId> forgotten;
  {
    const std::lock_guard lock(guards_mutex_);
    lost = guards_.lose(now - limits::kBeatsMissedMax * options_.beat);
    forgotten = guards_.forget(now - limits::kGuardMemory);
    for (const GuardId& id : forgotten) members_.erase(id);
  }
  for (const Guard& guard : lost) {
    raise(guard.row.application, to_string(AlarmKind::lost_instance), guard.row.function, "",
          "the instance " + guard.row.instance + " is silent");
  }
  // One that cannot be forgotten now is forgotten after the next start.
  for (const GuardId& id : forgotten) [[maybe_unused]]
    const auto gone = store_.forget_guard(id);
  if (now < swept_ + std::chrono::minutes(10)) return;
  swept_ = now;
  if (const auto swept = store_.forget(now - options_.retention); !swept) {
    say("old events can't be taken out of the store: " + swept.error().text);
  }
}

// A new key makes tags once guards can have it; an old one goes once no tag of it is good any more.
void Controller::look_after_keys(Time now) {
  for (const auto& application : all()) {
    Catalog& catalog = application->catalog;
    const std::uint64_t making = catalog.making_key(now);
    if (std::exchange(application->making_key, making) != making) distribute_to_all(*application);
    for (const auto& [number, made] : catalog.tag_keys()) {
      if (number >= making) continue;
      const auto keys = catalog.tag_keys();
      const auto newer = std::ranges::find(keys, making, [](const auto& key) { return key.first; });
      if (newer->second + 2 * limits::kTagKeySettle + limits::kTagLifetime + limits::kTagSkew > now) continue;
      if (!store_.drop_tag_key(catalog.application(), number)) continue;
      catalog.drop_tag_key(number);
      distribute_to_all(*application);
    }
  }
}

// Where one function has filled the store with what may not go yet, no more is taken of it: fails closed for that
// function alone. Its guards keep their events, and what it would be allowed has to be told first.
void Controller::look_after_store(Time now) {
  const auto full = store_.make_room(options_.store_bytes_max, now - memory());
  if (!full) return say("the store can't be kept small: " + full.error().text);
  for (const auto& application : all()) {
    const bool holds = *full && (*full)->application == application->catalog.application();
    application->tracker.hold(holds ? (*full)->function : std::string());
  }
  if (!*full) return;
  raise((*full)->application, "store-full", (*full)->function, "",
        "the store is full of its last events: no more of them are taken until the oldest may go; raise storeBytesMax, "
        "or let it send less");
}

void Controller::look_after_cas(Time now) {
  for (const auto& application : all()) {
    const std::string before = application->ca.trusted();
    for (const std::uint64_t number : application->ca.over(now)) {
      const std::string name = tenant_ca_name(number);
      if (store_.drop_secret(application->catalog.application(), name)) application->ca.drop(number);
    }
    if (application->ca.trusted() != before) distribute_to_all(*application);
  }
}

void Controller::raise(const std::string& application, std::string_view kind, const std::string& function,
                       std::string about, std::string text) {
  const Time now = clock_.now();
  alarms_.raise({application, std::string(kind), function, std::move(about), now, now, 1, std::move(text)});
}

void Controller::say(const std::string& text) const {
  if (options_.say) options_.say(text);
}

}  // namespace sallyport::controller
