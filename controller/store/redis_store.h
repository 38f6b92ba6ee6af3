#pragma once
// The Store that several controllers share: Redis, or what speaks its protocol. All keys of a shard are in one hash
// slot, and each write is one script that checks that this controller is still the shard's holder.

#include <functional>
#include <memory>
#include <mutex>

#include "controller/store/redis_connection.h"
#include "controller/store/redis_lease.h"
#include "controller/store/sealing.h"
#include "controller/store/store.h"

namespace sallyport::controller {

// ErrorKind::invalid, with the remedy: it may forget what it is given, or does not let in who the URL says. `key` is
// one that is used there: of a cluster, the node that has it is looked at.
Result<void> check_redis(RedisConnection& connection, const std::string& key, const RedisUrl& url);

// Any thread. Secrets are sealed with the key in `folder`, which all controllers of the shard need the same of.
class RedisStore final : public Store {
 public:
  struct Taking {
    bool lapsed = true;             // also where the lease has run out, and was not given back
    std::function<void()> on_lost;  // another has become the holder: whoever uses this store must stop. Any thread
  };
  // ErrorKind::invalid: this Redis may forget, and how to mend that; unavailable; cancelled: another holds the shard.
  static Result<std::unique_ptr<RedisStore>> open(const RedisUrl& url, unsigned shard, const std::string& folder,
                                                  Taking taking);

  bool ours() const override { return lease_.held(); }
  Result<void> append(std::span<const Entry> entries) override;
  Result<Time> latest() override;
  Result<void> replay(Time since, const std::function<Result<void>(Entry&&)>& take) override;
  Result<void> search(const EventQuery& query,
                      const std::function<bool(std::uint64_t row, EventBatch&&)>& take) override;
  Result<std::uint64_t> forget(Time before) override;
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
  RedisStore(const RedisUrl& url, unsigned shard, SealingKey key, std::function<void()> on_lost);
  std::string key(std::string_view name) const { return prefix_ + std::string(name); }
  Result<RedisReply> write(const std::string& script, std::initializer_list<std::string_view> keys,
                           std::vector<std::string> arguments);
  Result<RedisReply> read(const RedisCommand& command);
  Result<void> put_row(std::string_view hash, std::string field, std::string value);
  Result<void> drop_row(std::string_view hash, std::string field);
  Result<void> each_row(std::string_view hash, const std::function<Result<void>(std::vector<std::string>&&)>& take);
  // The first that XRANGE or XREVRANGE finds. False: there is none.
  Result<bool> first_of(const std::string& command, const std::string& from, const std::string& to, std::uint64_t& row,
                        EventBatch& batch);
  Result<std::uint64_t> first_row(std::optional<Time> since);
  // False: enough.
  using TakeEntry = std::function<Result<bool>(std::uint64_t row, EventBatch&& batch, bool decided)>;
  Result<void> each_entry(std::uint64_t from, const TakeEntry& take);
  Result<void> forget_alarms(Time before);
  Result<void> forget_alarms(const std::string& application, const std::string& before);
  Result<void> drop_entries_of(const std::string& application);
  using ApplicationOf = std::optional<std::string>(std::string_view field, std::string_view value);
  Result<void> drop_rows_of(const std::string& application, std::string_view hash, ApplicationOf* of);

  const RedisUrl url_;
  const std::string prefix_;
  const SealingKey key_;
  RedisLease lease_;
  std::mutex write_mutex_, read_mutex_;
  RedisConnection writer_, reader_;
};

}  // namespace sallyport::controller
