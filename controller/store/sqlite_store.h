#pragma once
// The embedded Store: SQLite in a folder of the controller's own, with a write-ahead log.

#include <memory>
#include <mutex>

#include "base/unique_fd.h"
#include "controller/store/sealing.h"
#include "controller/store/sqlite.h"
#include "controller/store/store.h"

namespace sallyport::controller {

// Any thread: a lock each for what writes and for what reads, and readers wait for no writer. Secrets and tag keys are
// sealed with a key in a file beside the database.
class SqliteStore final : public Store {
 public:
  // `folder` is made if it is missing. ErrorKind::invalid: it is of a newer version; unavailable: another controller
  // uses it.
  static Result<std::unique_ptr<SqliteStore>> open(const std::string& folder);
  ~SqliteStore() override;

  Result<void> append(std::span<const Entry> entries) override;
  Result<Time> latest() override;
  Result<void> replay(Time since, const std::function<Result<void>(Entry&&)>& take) override;
  Result<void> search(const EventQuery& query,
                      const std::function<bool(std::uint64_t row, EventBatch&&)>& take) override;
  Result<std::uint64_t> forget(Time before) override;
  Result<std::optional<FunctionName>> make_room(std::uint64_t bytes_max, Time needed_since) override;
  Result<void> drop_application(const std::string& application) override;
  Result<void> put_guard(const GuardRow& guard) override;
  Result<std::vector<GuardRow>> guards() override;
  Result<void> forget_guard(const GuardId& id) override;
  Result<std::uint64_t> put_document(const Document& document, std::uint64_t after) override;
  Result<std::vector<Document>> documents() override;
  Result<std::vector<Document>> versions(const std::string& application, const std::string& function,
                                         DocumentKind kind) override;
  Result<void> put_secret(const SecretRow& secret) override;
  Result<void> drop_secret(const std::string& application, const std::string& name) override;
  Result<std::vector<SecretRow>> secrets() override;
  Result<void> put_tag_key(const TagKeyRow& key) override;
  Result<void> drop_tag_key(const std::string& application, std::uint64_t number) override;
  Result<std::vector<TagKeyRow>> tag_keys() override;
  Result<void> put_token(const JoinToken& token) override;
  Result<std::vector<JoinToken>> tokens() override;
  Result<void> raise(const AlarmRow& alarm, std::chrono::milliseconds apart) override;
  Result<std::vector<AlarmRow>> alarms(const std::string& application, Time since) override;
  Result<void> audit(const AuditRow& row) override;
  Result<std::vector<AuditRow>> audited(Time since, std::size_t rows_max) override;

 private:
  struct Connection;  // with its statements
  SqliteStore(std::unique_ptr<Connection> writer, std::unique_ptr<Connection> reader, UniqueFd lock, SealingKey key);

  std::mutex write_mutex_, read_mutex_;
  std::unique_ptr<Connection> writer_, reader_;
  UniqueFd lock_;  // held as long as this is open
  const SealingKey key_;
};

}  // namespace sallyport::controller
