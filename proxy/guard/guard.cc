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

Guard::Guard(const GuardOptions& options, std::shared_ptr<const document::Snapshot> policy, ca::Authority authority)
    : options_(options),
      policy_(std::move(policy)),
      function_(policy_->function().empty() ? options_.function : policy_->function()),
      authority_(std::move(authority)),
      names_(net::DnsTable::random_seed()),
      console_(STDERR_FILENO, options.console),
      metrics_(function_, [this] { return totals(); }) {}

Result<std::unique_ptr<Guard>> Guard::create(const GuardOptions& options,
                                             std::shared_ptr<const document::Snapshot> policy,
                                             ca::Authority authority) {
  std::signal(SIGPIPE, SIG_IGN);  // a peer that went away is an error of one write, not the end of the guard
  std::unique_ptr<Guard> guard(new Guard(options, std::move(policy), std::move(authority)));
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
    guard->executions_ = std::make_unique<ExecutionTable>(
        ExecutionTable::Options{.function = guard->function_, .traces = true},
        [raw = guard.get()](EndedExecution&& ended) { raw->write_execution(std::move(ended)); });
  }
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

net::DnsPolicy Guard::dns_policy() {
  Worker& worker = *workers_[0];
  net::DnsPolicy policy;
  policy.decide = [&worker](std::string_view name) {
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
    auto watcher = PolicyWatcher::watch(options_.policy_file, [this] { reload(); }, policy_opened_as());
    if (!watcher) return std::unexpected(watcher.error());
    watcher_ = std::move(*watcher);
    metrics_.policy_loaded(true);
  }
  if (!options_.admin_socket.empty()) {
    auto admin =
        Admin::serve(options_.admin_socket, {[this] { return metrics_.text(); }, [this] { return ready_.load(); }});
    if (!admin) return std::unexpected(admin.error());
    admin_ = std::move(*admin);
  }
  // The whole process is one execution. Without randomness for its id nothing is told of it, and nothing depends on it.
  if (executions_) {
    [[maybe_unused]] const auto begun = executions_->begin({.process = true}, Moment::now());
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
  if (executions_) executions_->end_all(process, Moment::now());  // every flow of it has ended
  recorder_.reset();                                              // every record has been written now
  traces_.reset();
  write_draft();
  console_.summarise();
}

std::shared_ptr<const document::Snapshot> Guard::policy() {
  std::lock_guard lock(policy_mutex_);
  return policy_;
}

void Guard::say(const std::string& text) const { console_.write("sallyport: " + text + "\n"); }

std::string Guard::policy_opened_as() const {
  return options_.policy_opened_as.empty() ? options_.policy_file : options_.policy_opened_as;
}

// A document with any error changes nothing: the policy that was checked stays in force.
void Guard::reload() {
  const std::string opened_as = policy_opened_as();
  if (!options_.policy_opened_as.empty() && !same_file(options_.policy_file, opened_as)) {
    // Fails closed: who put it there can't be told, and the command has the same rights in that directory.
    say(options_.policy_file +
        " is gone, or another file that the command could have put there: the policy before stays in force. Change "
        "the file in place, or keep it where the command's user can't write");
    return;
  }
  PolicyFile loaded = read_policy(options_.policy_file, opened_as, options_.mode, policy().get());
  for (const document::Diagnostic& diagnostic : loaded.diagnostics) say(diagnostic.to_string());
  metrics_.policy_loaded(loaded.snapshot != nullptr);
  if (!loaded.snapshot) {
    say("the changed policy was refused; the one before stays in force");
    return;
  }
  {
    std::lock_guard lock(policy_mutex_);
    policy_ = loaded.snapshot;
  }
  for (auto& worker : workers_) worker->set_policy(loaded.snapshot);
  if (!options_.quiet) say("the changed policy is in force");
}

std::vector<RecordSink> Guard::sinks() {
  std::vector<RecordSink> sinks;
  sinks.push_back([this](const Record& record) { metrics_.count(record); });
  if (log_) sinks.push_back([this](const Record& record) { write_log(record); });
  if (options_.console.lines || options_.console.summary) {
    sinks.push_back([this](const Record& record) { console_.show(record); });
  }
  if (!options_.draft_file.empty()) sinks.push_back([this](const Record& record) { learn(record); });
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
  Record record;
  record.kind = RecordKind::execution;
  record.outcome = ended.end == flow::v1alpha1::EXECUTION_END_COMPLETE ? Outcome::allow : Outcome::error;
  record.mode = policy()->mode();
  record.time = ended.began;
  for (std::size_t i = 0; i < sizeof record.id; ++i) record.id = (record.id << 8) | ended.id[i];
  record.duration = ended.duration;
  record.execution = to_hex(ended.id);
  record.end = end_text(ended.end);
  record.flows = ended.flows;
  if (ended.inbound) {
    record.method = ended.inbound->method();
    record.host = ended.inbound->host();
    record.path = ended.inbound->path();
  }
  if (ended.left_out > 0) {
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
  if (record.kind == RecordKind::dns || record.kind == RecordKind::execution || record.host.empty()) return;
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

WorkerTotals Guard::totals() const {
  WorkerTotals totals;
  for (const auto& worker : workers_) {
    WorkerCounters& counters = worker->counters();
    totals.connections_accepted += counters.connections_accepted.load(std::memory_order_relaxed);
    totals.connections_open += counters.connections_open.load(std::memory_order_relaxed);
    totals.connections_evicted += counters.connections_evicted.load(std::memory_order_relaxed);
    totals.tasks += worker->loop().tasks();
    totals.upstream_connects += counters.upstream_connects.load(std::memory_order_relaxed);
    totals.leaves_minted += counters.leaves_minted.load(std::memory_order_relaxed);
  }
  return totals;
}

}  // namespace sallyport::guard
