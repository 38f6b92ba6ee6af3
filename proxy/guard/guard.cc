#include "proxy/guard/guard.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "base/read_file.h"
#include "ca/trust.h"
#include "proxy/guard/capacity.h"
#include "proxy/guard/start_pages.h"

namespace sallyport::guard {
namespace {

std::string date_text() {
  std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", &parts);
  return text;
}

std::string_view end_text(flow::v1alpha1::ExecutionEnd end) {
  switch (end) {
    case flow::v1alpha1::EXECUTION_END_COMPLETE:
      return "complete";
    case flow::v1alpha1::EXECUTION_END_TIMEOUT:
      return "timeout";
    default:
      return "cut";
  }
}

}  // namespace

Guard::Guard(const GuardOptions& options, const PolicyFile& policy, ca::Authority authority)
    : options_(options),
      policy_(policy.snapshot),
      graph_file_(policy.graph_file),
      function_(policy_->function().empty() ? options_.function : policy_->function()),
      authority_(std::move(authority)),
      names_(net::DnsTable::random_seed()),
      console_(STDERR_FILENO, options.console),
      metrics_(function_, [this] { return totals(); }) {}

Result<std::unique_ptr<Guard>> Guard::create(const GuardOptions& options, const PolicyFile& policy,
                                             ca::Authority authority) {
  std::signal(SIGPIPE, SIG_IGN);  // a peer that went away is an error of one write, not the end of the guard
  std::unique_ptr<Guard> guard(new Guard(options, policy, std::move(authority)));
  if (!options.record_file.empty()) {
    guard->log_.reset(::open(options.record_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    if (!guard->log_) {
      return fail(ErrorSource::internal, ErrorKind::unavailable,
                  "--record " + options.record_file + ": " + std::strerror(errno));
    }
  }
  if (!options.draft_file.empty()) {
    // Better to fail now than to lose at the end what was learned.
    if (::access(options.draft_file.c_str(), F_OK) != 0) {
      UniqueFd probe(::open(options.draft_file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
      if (!probe) {
        return fail(ErrorSource::internal, ErrorKind::unavailable,
                    "--learn " + options.draft_file + ": " + std::strerror(errno));
      }
    } else if (::access(options.draft_file.c_str(), W_OK) != 0) {
      return fail(ErrorSource::internal, ErrorKind::unavailable,
                  "--learn " + options.draft_file + ": " + std::strerror(errno));
    }
  }
  if (!options.trace_file.empty()) {
    auto traces =
        TraceWriter::open(options.trace_file, [raw = guard.get()](const std::string& text) { raw->say(text); });
    if (!traces) return std::unexpected(traces.error());
    guard->traces_ = std::move(*traces);
  }
  if (!options.runtime_api.empty()) {
    auto api = parse_runtime_api(options.runtime_api);
    if (!api) return std::unexpected(api.error());
    guard->runtime_api_ = std::move(*api);
  }
  guard->executions_ = std::make_unique<ExecutionTable>(
      ExecutionTable::Options{.function = guard->function_,
                              .traces = guard->traces_ != nullptr,
                              .messages = guard->runtime_api_ != nullptr || options.inbound,
                              .member = options.membership != nullptr},
      [raw = guard.get()](EndedExecution&& ended) { raw->write_execution(std::move(ended)); });
  guard->executions_->set_graph(policy.graph);
  guard->executions_->set_traces(guard->learns_for_controller(*policy.snapshot));
  guard->recorder_ = std::make_unique<Recorder>(guard->sinks(), [raw = guard.get()] {
    raw->flush_log();
    raw->console_.flush();
  });

  Worker::Parts parts;
  parts.policy = guard->policy_;
  parts.recorder = guard->recorder_.get();
  parts.names = &guard->names_;
  parts.authority = &guard->authority_;
  parts.executions = guard->executions_.get();
  parts.runtime_api = guard->runtime_api_.get();
  parts.membership = options.membership;
  // The command that is guarded was forked before, and keeps its own limit.
  const std::size_t workers = std::max<std::size_t>(options.workers, 1);
  parts.capacity = capacity_per_worker(raise_descriptor_limit(), workers);
  if (!options.upstream_ca_file.empty()) {
    Result<std::string> roots = read_file(options.upstream_ca_file, limits::kTrustBundleBytesMax);
    if (!roots) return fail(roots.error().source, roots.error().kind, "--upstream-ca: " + roots.error().text);
    parts.upstream_ca_pem = std::move(*roots);
    if (ca::certificates_of(parts.upstream_ca_pem).empty()) {
      return fail(ErrorSource::internal, ErrorKind::invalid,
                  "--upstream-ca " + options.upstream_ca_file + ": no certificate in the file; it must be PEM");
    }
  }
  for (std::size_t i = 0; i < workers; ++i) {
    parts.first = i == 0;
    Result<std::unique_ptr<Worker>> worker = Worker::create(parts);
    if (!worker) return std::unexpected(worker.error());
    guard->workers_.push_back(std::move(*worker));
  }
  return guard;
}

Guard::~Guard() { stop(std::chrono::milliseconds(0)); }

void Guard::listen(std::vector<UniqueFd> listening, Listener kind) {
  std::size_t next = 0;
  for (UniqueFd& socket : listening) {
    if (socket) workers_[next++ % workers_.size()]->listen(std::move(socket), kind);
  }
}

void Guard::publish(std::uint16_t port, std::vector<UniqueFd> listening, bool same_addresses) {
  auto made = std::make_unique<InboundPort>(port);
  made->from_this_machine_too = !same_addresses;
  const InboundPort& inbound = *inbound_.emplace_back(std::move(made));
  std::size_t next = 0;
  for (UniqueFd& socket : listening) {
    if (const auto local = net::local_address(socket.get())) own_listeners_.push_back(*local);
    workers_[next++ % workers_.size()]->listen_for(inbound, std::move(socket));
  }
  // Else the function could begin executions of itself, with requests that its policy lets it send to this machine.
  for (auto& worker : workers_) worker->upstream().set_own_listeners(own_listeners_);
}

void Guard::take_sockets_from(UniqueFd channel) { workers_[0]->take_sockets_from(std::move(channel)); }

net::DnsPolicy Guard::dns_policy() {
  Worker& worker = *workers_[0];
  net::DnsPolicy policy;
  policy.decide = [&worker](std::string_view name) {
    if (worker.runtime_api() != nullptr && name == kRuntimeApiHost) return net::DnsDecision::allow;
    const document::Snapshot& snapshot = *worker.policy();
    if (snapshot.resolves(name)) return net::DnsDecision::allow;
    switch (snapshot.mode()) {
      case document::Mode::enforce:
        return net::DnsDecision::deny;
      case document::Mode::audit:
        return net::DnsDecision::would_deny;
      // Without a policy there is nothing to break; with one, what it lacks is worth saying.
      case document::Mode::learn:
        return snapshot.endpoints().empty() ? net::DnsDecision::allow : net::DnsDecision::would_deny;
    }
    return net::DnsDecision::deny;
  };
  policy.on_report = [&worker](const net::DnsReport& report) {
    Record record = worker.new_record();
    record.kind = RecordKind::dns;
    record.outcome = report.decision == net::DnsDecision::would_deny ? Outcome::would_deny : Outcome::deny;
    record.reason = Reason::host_not_allowed;
    record.host = report.name;
    record.text = report.text;
    worker.submit(std::move(record));
  };
  return policy;
}

void Guard::serve_dns(std::vector<UniqueFd> udp, std::vector<UniqueFd> tcp) {
  std::erase_if(udp, [](const UniqueFd& fd) { return !fd; });
  std::erase_if(tcp, [](const UniqueFd& fd) { return !fd; });
  dns_ = std::make_unique<net::DnsService>(workers_[0]->loop(), names_, dns_policy(), std::move(udp), std::move(tcp));
}

Result<void> Guard::start() {
  if (!options_.policy_file.empty()) {
    auto watcher = PolicyWatcher::watch(watched(), options_.context.opened_as, [this] { return reload(); });
    if (!watcher) return std::unexpected(watcher.error());
    watcher_ = std::move(*watcher);
    metrics_.policy_loaded(true);
  }
  if (options_.membership != nullptr) {
    options_.membership->start([this](const InForce& now) { put_in_force(now); },
                               [this](const std::string& text) { say(text); },
                               [this](const std::shared_ptr<const std::string>& pem) {
                                 for (auto& worker : workers_) worker->set_certificates(pem);
                               });
    metrics_.policy_loaded(true);
  }
  if (!options_.admin_socket.empty()) {
    auto admin =
        Admin::serve(options_.admin_socket, {[this] { return metrics_.text(); }, [this] { return ready_.load(); }});
    if (!admin) return std::unexpected(admin.error());
    admin_ = std::move(*admin);
  }
  // The whole process is one execution, or where messages are, what it does before the first. Without randomness for
  // its id there is none: then nothing is told of it, and a flow graph refuses every request.
  const bool messages = runtime_api_ != nullptr || options_.inbound;
  const auto begun = executions_->begin({.process = !messages, .start = messages}, Moment::now());
  // What a function does before its first message begins with no message, and is no execution to the application.
  if (begun && !messages && options_.membership != nullptr) {
    options_.membership->execution_began({.execution = *begun, .request = *begun});
  }
  give_back_start_pages();
  for (auto& worker : workers_) threads_.emplace_back([raw = worker.get()] { raw->run(); });
  ready_ = true;
  return {};
}

void Guard::stop(std::chrono::milliseconds grace, flow::v1alpha1::ExecutionEnd process) {
  if (!recorder_) return;
  ready_ = false;
  watcher_.reset();
  if (options_.membership != nullptr) options_.membership->stop();
  if (dns_) {
    // Belongs to the first worker's thread until that has ended.
    if (!threads_.empty()) workers_[0]->loop().post([this] { dns_->stop(); });
  }
  if (!threads_.empty()) {
    for (auto& worker : workers_) worker->stop(grace);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  admin_.reset();  // it reads the workers' counters
  dns_.reset();
  workers_.clear();
  executions_->end_all(process, net::Clock::now());  // every flow of it has ended
  recorder_.reset();                                 // every record has been written now
  traces_.reset();
  if (options_.membership != nullptr && !options_.membership->flush(limits::kFinalEventsTimeout)) {
    say("the controller has not taken the last events; they are lost");
  }
  write_draft();
  console_.summarise();
}

std::shared_ptr<const document::Snapshot> Guard::policy() {
  std::lock_guard lock(policy_mutex_);
  return policy_;
}

void Guard::say(const std::string& text) const { console_.write("sallyport: " + text + "\n"); }

std::vector<std::string> Guard::watched() const {
  std::vector<std::string> files = {options_.policy_file};
  if (!graph_file_.empty()) files.push_back(graph_file_);
  return files;
}

// Whether another file stands where the command could have put it: who did can't be told.
bool Guard::replaced(const std::string& file) const {
  const auto held = options_.context.opened_as.find(file);
  return held != options_.context.opened_as.end() && !same_file(file, held->second);
}

void Guard::report_policy(const PolicyFile& loaded) const {
  for (const document::Diagnostic& diagnostic : loaded.diagnostics) say(diagnostic.to_string());
  if (!loaded.snapshot) {
    say("the changed policy was refused; the one before stays in force");
  } else if (!options_.quiet) {
    say("the changed policy is in force");
  }
}

// A document with any error changes nothing: the policy that was checked stays in force. Gives back what is watched.
std::vector<std::string> Guard::reload() {
  for (const std::string& file : watched()) {
    if (!replaced(file)) continue;
    say(file +
        " is gone, or another file that the command could have put there: the policy before stays in force. Change "
        "the file in place, or keep it where the command's user can't write");
    return watched();
  }
  PolicyFile loaded = read_policy(options_.policy_file, options_.context, policy().get());
  const bool other_graph = !loaded.graph_file.empty() && loaded.graph_file != graph_file_;
  if (other_graph && options_.context.graph_stays) {
    loaded.snapshot.reset();
    say(loaded.graph_file + ": the command could have put it there: another flow graph takes a new run");
  }
  report_policy(loaded);
  metrics_.policy_loaded(loaded.snapshot != nullptr);
  // Also of a policy that was refused for its graph: it is mended there.
  if (!loaded.graph_file.empty() && !options_.context.graph_stays) graph_file_ = loaded.graph_file;
  if (!loaded.snapshot) return watched();
  {
    std::lock_guard lock(policy_mutex_);
    policy_ = loaded.snapshot;
  }
  executions_->set_graph(loaded.graph);
  for (auto& worker : workers_) worker->set_policy(loaded.snapshot, nullptr);
  return watched();
}

// Of the controller, on the membership's thread.
void Guard::put_in_force(const InForce& now) {
  {
    std::lock_guard lock(policy_mutex_);
    policy_ = now.policy;
  }
  executions_->set_graph(now.graph);
  executions_->set_traces(learns_for_controller(*now.policy));
  for (auto& worker : workers_) worker->set_policy(now.policy, now.terms);
  if (options_.quiet || now.terms->expired) return;
  say("the controller's policy, generation " + std::to_string(now.terms->generation) + ", is in force");
}

// Traces go to the controller where graphs are learned from them.
bool Guard::learns_for_controller(const document::Snapshot& policy) const {
  return options_.membership != nullptr && policy.mode() == document::Mode::learn;
}

std::vector<RecordSink> Guard::sinks() {
  std::vector<RecordSink> sinks;
  sinks.push_back([this](const Record& record) { metrics_.count(record); });
  if (log_) sinks.push_back([this](const Record& record) { write_log(record); });
  if (options_.console.lines || options_.console.summary) {
    sinks.push_back([this](const Record& record) { console_.show(record); });
  }
  if (!options_.draft_file.empty()) sinks.push_back([this](const Record& record) { learn(record); });
  if (options_.membership != nullptr) {
    sinks.push_back([this](const Record& record) { options_.membership->ended(record); });
  }
  if (traces_) {
    sinks.push_back([this](const Record& record) {
      if (record.trace) traces_->write(*record.trace);
    });
  }
  return sinks;
}

void Guard::write_log(const Record& record) {
  append_json(log_pending_, record, function_);
  log_pending_ += '\n';
  if (log_pending_.size() >= limits::kLogWriteBytes) flush_log();
}

void Guard::flush_log() {
  std::string_view rest = log_pending_;
  while (!rest.empty()) {
    ssize_t written = ::write(log_.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      // A full disk must not stop the function's traffic for good, but it must not go unnoticed either.
      say("--record " + options_.record_file + ": " + std::strerror(errno) + "; records are lost");
      break;
    }
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  log_pending_.clear();
}

// On the thread that ended it.
void Guard::write_execution(EndedExecution&& ended) {
  if (!executions_->tracking()) return;
  Record record;
  record.kind = RecordKind::execution;
  record.outcome = ended.end == flow::v1alpha1::EXECUTION_END_COMPLETE ? Outcome::allow : Outcome::error;
  record.mode = policy()->mode();
  record.time = ended.began;
  for (std::size_t i = 0; i < sizeof record.id; ++i) record.id = (record.id << 8) | ended.id[i];
  record.duration = ended.duration;
  record.execution = ended.id;
  record.request = ended.application_request;
  record.end = end_text(ended.end);
  record.flows = ended.flows;
  if (!ended.incomplete.empty()) {  // an alarm: nobody is there any more to be refused anything
    record.outcome = Outcome::would_deny;
    record.reason = Reason::flow_incomplete;
  }
  if (ended.inbound) {
    record.method = ended.inbound->method();
    record.host = ended.inbound->host();
    record.path = ended.inbound->path();
  }
  if (!ended.incomplete.empty()) {
    record.text = "it ended where its flow graph has no end; " + ended.incomplete;
  } else if (ended.left_out > 0) {
    record.text = "its trace lacks the last " + std::to_string(ended.left_out) + " of its requests: there was no room";
  } else if (!ended.attributed) {
    record.text = "others were open at the same time, and it could not be told of each request whose it was";
  }
  record.trace = std::move(ended.trace);
  std::vector<Record> batch;
  batch.push_back(std::move(record));
  recorder_->submit(batch);
}

// Only what worked teaches: a failed lookup or a refused connection says nothing of what the function needs.
void Guard::learn(const Record& record) {
  if (record.kind != RecordKind::exchange && record.kind != RecordKind::connection) return;
  if (record.host.empty()) return;
  if (runtime_api_ && record.host == kRuntimeApiHost) return;  // it needs no policy
  if (record.outcome != Outcome::allow && record.outcome != Outcome::would_deny) return;
  document::Observation observation;
  observation.scheme = record.scheme.value_or(request::Scheme::https);
  observation.host = record.host;
  observation.port = record.port;
  observation.method = record.method;
  observation.path = record.path;
  observation.upstream = record.upstream_address;
  observation.inspected = record.inspected;
  observation.tcp = record.tcp;
  draft_.add(observation);
}

void Guard::write_draft() {
  if (options_.draft_file.empty()) return;
  Result<void> written = write_file(options_.draft_file, draft_.to_yaml(function_, date_text()));
  if (!written) {
    say("--learn: " + written.error().text);
  } else if (options_.console.summary) {
    say("wrote the policy draft " + options_.draft_file + "; read it, then use it with --policy");
  }
}

Totals Guard::totals() const {
  Totals totals;
  for (const auto& worker : workers_) {
    WorkerCounters& counters = worker->counters();
    totals.connections_accepted += counters.connections_accepted.load(std::memory_order_relaxed);
    totals.connections_open += counters.connections_open.load(std::memory_order_relaxed);
    totals.connections_evicted += counters.connections_evicted.load(std::memory_order_relaxed);
    totals.tasks += worker->loop().tasks();
    totals.upstream_connects += counters.upstream_connects.load(std::memory_order_relaxed);
    totals.leaves_minted += counters.leaves_minted.load(std::memory_order_relaxed);
    if (worker->purses() == nullptr) continue;
    const Purses::Counters& leases = worker->purses()->counters();
    totals.leases_granted += leases.granted;
    totals.leases_refused += leases.refused;
    totals.leases_unanswered += leases.unanswered;
    totals.leased_requests += leases.requests;
  }
  if (options_.membership != nullptr) totals.member = options_.membership->figures();
  if (executions_->tracking()) totals.executions_open = executions_->open();
  return totals;
}

}  // namespace sallyport::guard
