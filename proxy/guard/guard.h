#pragma once
// The whole guard in one process: workers, records and where they go, the policy and its changes, the admin socket.
// `sallyport run` and `sallyport-proxy` both are this plus where their listening sockets come from.

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "ca/authority.h"
#include "policy-engine/document/draft.h"
#include "policy-engine/document/load.h"
#include "proxy/guard/admin.h"
#include "proxy/guard/console.h"
#include "proxy/guard/execution_table.h"
#include "proxy/guard/inbound.h"
#include "proxy/guard/membership.h"
#include "proxy/guard/metrics.h"
#include "proxy/guard/policy_source.h"
#include "proxy/guard/recorder.h"
#include "proxy/guard/trace_writer.h"
#include "proxy/guard/worker.h"
#include "proxy/net/dns_service.h"

namespace sallyport::guard {

struct GuardOptions {
  std::string policy_file;  // empty: learn without a policy
  // How policies are read. Where a file is opened by another path than its own, only the file that was read at the
  // start is read again, and never what stands under its name; and no other graph is taken than the one of the start.
  PolicyContext context;
  std::string function;              // for records, when the policy names none
  std::string record_file;           // empty: none
  std::string draft_file;            // --learn; empty: none
  std::string trace_file;            // --traces; empty: none
  std::string runtime_api;           // HOST:PORT of AWS Lambda's Runtime API; empty: none
  bool inbound = false;              // publish() will be called. Neither of both: the process is one execution
  Membership* membership = nullptr;  // then there is no policy_file; outlives the guard
  std::string admin_socket;          // empty: none
  std::string upstream_ca_file;      // more roots for upstream servers; empty: none
  std::size_t workers = 1;
  Console::Options console;
  bool quiet = false;  // no notices, only what is wrong
};

class Guard {
 public:
  // Opens every file and checks everything that can be wrong before the first connection. `policy` is what
  // read_policy() gave.
  static Result<std::unique_ptr<Guard>> create(const GuardOptions& options, const PolicyFile& policy,
                                               ca::Authority authority);
  ~Guard();
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  // Before start(). The sockets of `listening` are spread over the workers; the others are served by the first.
  void listen(std::vector<UniqueFd> listening, Listener kind = Listener::redirected);
  void serve_dns(std::vector<UniqueFd> udp, std::vector<UniqueFd> tcp);
  // Before start(): takes messages for the function's port at these sockets, and each is an execution from then on.
  // What connects to them from an address of this machine is refused where the function has the same addresses.
  void publish(std::uint16_t port, std::vector<UniqueFd> listening, bool same_addresses);
  // Before start(), for one worker: where the sockets come from that lead to the function (net/socket_stock.h).
  void take_sockets_from(UniqueFd channel);
  // Makes the threads: workers, recorder, policy watch, admin.
  Result<void> start();
  // Stops accepting, lets open exchanges end within `grace`, writes every record, the draft, the traces and the
  // summary. Once. `process`: how the execution ends that the whole process is.
  void stop(std::chrono::milliseconds grace, flow::v1alpha1::ExecutionEnd process = flow::v1alpha1::EXECUTION_END_CUT);

  std::shared_ptr<const document::Snapshot> policy();

 private:
  Guard(const GuardOptions& options, const PolicyFile& policy, ca::Authority authority);
  std::vector<RecordSink> sinks();
  void write_log(const Record& record);
  void flush_log();
  void learn(const Record& record);
  void write_execution(EndedExecution&& ended);
  void write_draft();
  std::vector<std::string> reload();
  void put_in_force(const InForce& now);
  bool learns_for_controller(const document::Snapshot& policy) const;
  bool replaced(const std::string& file) const;
  void report_policy(const PolicyFile& loaded) const;
  std::vector<std::string> watched() const;
  void say(const std::string& text) const;
  net::DnsPolicy dns_policy();
  Totals totals() const;

  GuardOptions options_;
  std::mutex policy_mutex_;
  std::shared_ptr<const document::Snapshot> policy_;
  std::string graph_file_;  // that the policy names; empty: none
  std::string function_;
  ca::Authority authority_;
  net::DnsTable names_;
  Console console_;
  Metrics metrics_;
  UniqueFd log_;
  std::string log_pending_;
  document::Draft draft_;
  std::unique_ptr<TraceWriter> traces_;
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<ExecutionTable> executions_;  // null: nobody wants to know
  std::unique_ptr<const RuntimeApi> runtime_api_;
  std::vector<std::unique_ptr<const InboundPort>> inbound_;
  std::vector<net::LocalAddr> own_listeners_;  // of inbound_
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<net::DnsService> dns_;
  std::vector<std::thread> threads_;
  std::unique_ptr<PolicyWatcher> watcher_;
  std::unique_ptr<Admin> admin_;
  std::atomic<bool> ready_{false};
};

}  // namespace sallyport::guard
