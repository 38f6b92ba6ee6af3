#pragma once
// What a controller keeps when it ends (DESIGN section 4, State). Every call is durable when it returns: it survives
// the end of the process at any moment. Errors have ErrorSource::controller: limit (the disk is full), malformed (the
// file is damaged), unavailable, timeout.

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "policy-engine/credentials/secret.h"

namespace sallyport::controller {

using GuardId = std::array<unsigned char, 16>;
using Time = std::chrono::sys_time<std::chrono::milliseconds>;

// One process that guards one instance.
struct GuardRow {
  GuardId id{};
  std::string application, function, instance;
  std::string subject;  // whom its credential is of: it keeps its id only for the same one
  Time registered;
  std::uint64_t events_taken = 0;  // the last of its events that is stored
};

// The bit of EventBatch::decisions for events that are no exchange.
inline constexpr std::uint32_t kNoDecision = 1U << 31;

// Events of one guard, without a gap, as they came.
struct EventBatch {
  GuardId guard{};
  std::string application, function;
  std::uint64_t first = 0, last = 0;  // sequence numbers
  Time earliest{}, latest{};
  std::uint32_t decisions = 0;  // a bit for each api Decision that is in it: 1 << DECISION_DENY; or kNoDecision
  std::string events = {};      // api Events, serialised
};

// An answer that has used something up, so that it may not be given again.
struct DecidedAsk {
  std::string application;
  Time time;
  std::string decided;  // controller/state's, serialised
};

enum class DocumentKind : std::uint8_t { application, policy, graph, application_graph };
std::string_view to_string(DocumentKind kind);

// One version of a document; a function's, or its application's where `function` is empty.
struct Document {
  std::string application, function;
  DocumentKind kind = DocumentKind::policy;
  std::uint64_t version = 0;  // from 1, grows
  std::string text;           // empty: it was taken away
  std::string author;
  Time time;
};

struct SecretRow {
  std::string application, name;
  credentials::Secret value;
};

struct TagKeyRow {
  std::string application;
  std::uint64_t number = 0;  // the greatest makes tags
  credentials::Secret key;
  Time made;
};

// Proves that a guard is of the function. Only the SHA-256 of it is kept.
struct JoinToken {
  std::string id;  // for people: what to revoke
  std::string application;
  std::string function;  // empty: of any function of the application
  std::array<unsigned char, 32> hash{};
  Time made;
  std::optional<Time> ends;
  bool revoked = false;
};

struct AlarmRow {
  std::string application, kind, function, about;  // what is alike is one alarm with a count
  Time first, last;
  std::uint64_t count = 0;
  std::string text;  // of the last
};

struct AuditRow {
  Time time;
  std::string who, what, about, detail;
};

// Of the stored events, those that fit all that is given.
struct EventQuery {
  std::string application;
  std::optional<std::string> function = std::nullopt;
  std::optional<GuardId> guard = std::nullopt;
  std::uint32_t decisions = ~0U;  // as in EventBatch
  std::optional<Time> since = std::nullopt, until = std::nullopt;
  std::uint64_t after = 0;  // batches behind this row
};

class Store {
 public:
  virtual ~Store() = default;

  // False: another controller may have taken over, so that nothing in memory may be answered with any more.
  virtual bool ours() const { return true; }

  // All that came in one turn, in its order: either all of it is stored or nothing. Each batch also moves its guard's
  // events_taken, so that no event is stored twice.
  struct Entry {
    std::optional<EventBatch> events = std::nullopt;
    std::optional<DecidedAsk> decided = std::nullopt;
    std::optional<GuardRow> guard = std::nullopt;  // as put_guard()
  };
  virtual Result<void> append(std::span<const Entry> entries) = 0;
  // The latest time of them; a store that does not know it says the first of all.
  virtual Result<Time> latest() { return Time{}; }
  // The events and decided asks that append() was given, from `since` on, in its order.
  virtual Result<void> replay(Time since, const std::function<Result<void>(Entry&&)>& take) = 0;
  // Batches in which there may be what is wanted, with their rows, until `take` returns false.
  virtual Result<void> search(const EventQuery& query,
                              const std::function<bool(std::uint64_t row, EventBatch&&)>& take) = 0;
  // Forgets events, decided asks and alarms before `before`, some at a time; how many batches.
  virtual Result<std::uint64_t> forget(Time before) = 0;
  // Keeps the store below `bytes_max`: the function of which most is kept loses its oldest events, but none of
  // `needed_since` or later. Nothing can be stored beyond `bytes_max`, so a function that has none to lose is named,
  // for no more to be taken of it. A store that is bounded by other means has nothing to do.
  struct FunctionName {
    std::string application, function;
  };
  virtual Result<std::optional<FunctionName>> make_room(std::uint64_t bytes_max, Time needed_since) {
    static_cast<void>(bytes_max);
    static_cast<void>(needed_since);
    return std::nullopt;
  }

  // Forgets all that is of the application but the audit trail, what makes it one last: where it fails in the middle,
  // it is called again.
  virtual Result<void> drop_application(const std::string& application) = 0;

  virtual Result<void> put_guard(const GuardRow& guard) = 0;
  virtual Result<std::vector<GuardRow>> guards() = 0;
  virtual Result<void> forget_guard(const GuardId& id) = 0;

  // The next version; 0 as `after`: whatever there is, else it must be the newest one (ErrorKind::refused).
  virtual Result<std::uint64_t> put_document(const Document& document, std::uint64_t after) = 0;
  virtual Result<std::vector<Document>> documents() = 0;  // the newest of each
  virtual Result<std::vector<Document>> versions(const std::string& application, const std::string& function,
                                                 DocumentKind kind) = 0;

  virtual Result<void> put_secret(const SecretRow& secret) = 0;
  virtual Result<void> drop_secret(const std::string& application, const std::string& name) = 0;
  virtual Result<std::vector<SecretRow>> secrets() = 0;
  virtual Result<void> put_tag_key(const TagKeyRow& key) = 0;
  virtual Result<void> drop_tag_key(const std::string& application, std::uint64_t number) = 0;
  virtual Result<std::vector<TagKeyRow>> tag_keys() = 0;
  virtual Result<void> put_token(const JoinToken& token) = 0;
  virtual Result<std::vector<JoinToken>> tokens() = 0;

  // Adds to the alarm of the same application, kind, function and `about` if that was raised last less than `apart`
  // ago; else it is a new one.
  virtual Result<void> raise(const AlarmRow& alarm, std::chrono::milliseconds apart) = 0;
  virtual Result<std::vector<AlarmRow>> alarms(const std::string& application, Time since) = 0;
  virtual Result<void> audit(const AuditRow& row) = 0;
  virtual Result<std::vector<AuditRow>> audited(Time since, std::size_t rows_max) = 0;
};

}  // namespace sallyport::controller
