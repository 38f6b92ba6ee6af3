#include "controller/store/sqlite_store.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace sallyport::controller {

namespace {

constexpr int kSchema = 2;

// Times are milliseconds since 1970. What guards have sent and what the controller has answered stand in one table, in
// the order in which they came: that is what the state is made from again.
constexpr const char* kTables = R"(
  CREATE TABLE journal (
    row INTEGER PRIMARY KEY, application TEXT NOT NULL, function TEXT NOT NULL, guard BLOB,
    first INTEGER NOT NULL, last INTEGER NOT NULL, earliest INTEGER NOT NULL, latest INTEGER NOT NULL,
    decisions INTEGER NOT NULL, body BLOB NOT NULL);
  CREATE INDEX journal_by_function ON journal (application, function, latest);
  CREATE TABLE guards (
    id BLOB PRIMARY KEY, application TEXT NOT NULL, function TEXT NOT NULL, instance TEXT NOT NULL,
    subject TEXT NOT NULL, registered INTEGER NOT NULL, events_taken INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE documents (
    application TEXT NOT NULL, function TEXT NOT NULL, kind INTEGER NOT NULL, version INTEGER NOT NULL,
    text TEXT NOT NULL, author TEXT NOT NULL, time INTEGER NOT NULL,
    PRIMARY KEY (application, function, kind, version)) WITHOUT ROWID;
  CREATE TABLE secrets (
    application TEXT NOT NULL, name TEXT NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (application, name)) WITHOUT ROWID;
  CREATE TABLE tag_keys (
    application TEXT NOT NULL, number INTEGER NOT NULL, sealed BLOB NOT NULL, made INTEGER NOT NULL,
    PRIMARY KEY (application, number)) WITHOUT ROWID;
  CREATE TABLE tokens (
    id TEXT PRIMARY KEY, application TEXT NOT NULL, function TEXT NOT NULL, hash BLOB NOT NULL UNIQUE,
    made INTEGER NOT NULL, ends INTEGER, revoked INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE alarms (
    row INTEGER PRIMARY KEY, application TEXT NOT NULL, kind TEXT NOT NULL, function TEXT NOT NULL, about TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL, text TEXT NOT NULL);
  CREATE INDEX alarms_alike ON alarms (application, kind, function, about, last);
  CREATE INDEX alarms_by_time ON alarms (application, last);
  CREATE TABLE audit (
    row INTEGER PRIMARY KEY, time INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, about TEXT NOT NULL,
    detail TEXT NOT NULL);
)";

// What is kept of each function, in bytes of the journal, and where a time begins in it.
constexpr const char* kShares = R"(
  CREATE INDEX journal_by_time ON journal (latest);
  CREATE TABLE shares (
    application TEXT NOT NULL, function TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (application, function))
    WITHOUT ROWID;
  INSERT INTO shares SELECT application, function, sum(length(body)) FROM journal GROUP BY application, function;
  CREATE TRIGGER journal_grows AFTER INSERT ON journal BEGIN
    INSERT INTO shares VALUES (new.application, new.function, length(new.body))
      ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
  END;
  CREATE TRIGGER journal_shrinks AFTER DELETE ON journal BEGIN
    UPDATE shares SET bytes = bytes - length(old.body)
      WHERE application = old.application AND function = old.function;
  END;
)";

constexpr std::uint64_t kForgottenAtOnce = 2'000;  // rows, so that no writer waits long
constexpr std::int64_t kDroppedAtOnce = 500;       // the same, where room is made
constexpr int kRoomRounds = 4;                     // in one call

std::int64_t number(Time time) { return time.time_since_epoch().count(); }
Time time_of(std::int64_t number) { return Time(std::chrono::milliseconds(number)); }

template <std::size_t Size>
bool copy_id(std::string_view bytes, std::array<unsigned char, Size>& out) {
  if (bytes.size() != Size) return false;
  std::memcpy(out.data(), bytes.data(), Size);
  return true;
}

std::string about_secret(const std::string& application, const std::string& name) {
  return "secret " + name + " of " + application;
}
std::string about_key(const std::string& application, std::uint64_t key) {
  return "tag key " + std::to_string(key) + " of " + application;
}

}  // namespace

std::string_view to_string(DocumentKind kind) {
  switch (kind) {
    case DocumentKind::application:
      return "application";
    case DocumentKind::policy:
      return "policy";
    case DocumentKind::graph:
      return "graph";
    case DocumentKind::application_graph:
      return "application-graph";
  }
  return "";
}

struct SqliteStore::Connection {
  std::unique_ptr<Database> database;
  Statement append_events, move_taken;  // of the writer

  static Result<std::unique_ptr<Connection>> open(const std::string& path, bool read_only) {
    auto database = Database::open(path, read_only);
    if (!database) return std::unexpected(database.error());
    auto out = std::make_unique<Connection>();
    out->database = std::move(*database);
    return out;
  }

  Result<void> make_tables() {
    auto version = database->prepare("PRAGMA user_version");
    if (!version) return std::unexpected(version.error());
    const auto row = version->step();
    if (!row) return std::unexpected(row.error());
    const std::int64_t found = version->integer(0);
    version->reset();
    if (found > kSchema) {
      return fail(ErrorSource::controller, ErrorKind::invalid,
                  "the data is of a newer version (" + std::to_string(found) + "); run the version that wrote it");
    }
    if (found == kSchema) return {};
    auto transaction = Transaction::begin(*database);
    if (!transaction) return std::unexpected(transaction.error());
    if (found < 1) {
      if (auto made = database->execute(kTables); !made) return made;
    }
    if (auto made = database->execute(kShares); !made) return made;
    const std::string mark = "PRAGMA user_version = " + std::to_string(kSchema);
    if (auto marked = database->execute(mark.c_str()); !marked) return marked;
    return transaction->commit();
  }

  Result<void> prepare_writes() {
    auto events = database->prepare(
        "INSERT INTO journal (application, function, guard, first, last, earliest, latest, decisions, body) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    auto taken = database->prepare("UPDATE guards SET events_taken = ? WHERE id = ?");
    if (!events) return std::unexpected(events.error());
    if (!taken) return std::unexpected(taken.error());
    append_events = std::move(*events);
    move_taken = std::move(*taken);
    return {};
  }

  // Binds with `bind`, and gives each row to `take`, until that returns false.
  template <class Bind, class Take>
  Result<void> query(std::string_view sql, Bind bind, Take take) {
    auto statement = database->prepare(sql);
    if (!statement) return std::unexpected(statement.error());
    bind(*statement);
    while (true) {
      const auto row = statement->step();
      if (!row) return std::unexpected(row.error());
      if (!*row || !take(*statement)) return {};
    }
  }

  template <class Bind>
  Result<void> run(std::string_view sql, Bind bind) {
    return query(sql, bind, [](Statement&) { return true; });
  }

  Result<void> put_guard(const GuardRow& guard) {
    return run("INSERT OR REPLACE INTO guards VALUES (?, ?, ?, ?, ?, ?, ?)", [&](Statement& statement) {
      statement.bind(guard.id).bind(guard.application).bind(guard.function).bind(guard.instance).bind(guard.subject);
      statement.bind(number(guard.registered)).bind(static_cast<std::int64_t>(guard.events_taken));
    });
  }
};

Result<std::unique_ptr<SqliteStore>> SqliteStore::open(const std::string& folder) {
  const auto unusable = [&](const std::string& why) {
    return fail(ErrorSource::controller, ErrorKind::unavailable, folder + ": " + why);
  };
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return unusable(std::strerror(errno));
  UniqueFd lock(::open((folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock) return unusable(std::strerror(errno));
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return unusable("another controller uses this folder; stop it, or give this one a folder of its own");
  }
  auto key = SealingKey::of_file(folder + "/secrets.key");
  if (!key) return std::unexpected(key.error());
  const std::string path = folder + "/controller.db";
  auto writer = Connection::open(path, false);
  if (!writer) return std::unexpected(writer.error());
  if (auto made = (*writer)->make_tables(); !made) return std::unexpected(made.error());
  if (auto prepared = (*writer)->prepare_writes(); !prepared) return std::unexpected(prepared.error());
  auto reader = Connection::open(path, true);
  if (!reader) return std::unexpected(reader.error());
  return std::unique_ptr<SqliteStore>(
      new SqliteStore(std::move(*writer), std::move(*reader), std::move(lock), std::move(*key)));
}

SqliteStore::SqliteStore(std::unique_ptr<Connection> writer, std::unique_ptr<Connection> reader, UniqueFd lock,
                         SealingKey key)
    : writer_(std::move(writer)), reader_(std::move(reader)), lock_(std::move(lock)), key_(std::move(key)) {}
SqliteStore::~SqliteStore() = default;

Result<void> SqliteStore::append(std::span<const Entry> entries) {
  const std::scoped_lock guarded(write_mutex_);
  auto transaction = Transaction::begin(*writer_->database);
  if (!transaction) return std::unexpected(transaction.error());
  for (const Entry& entry : entries) {
    if (entry.events) {
      const EventBatch& batch = *entry.events;
      auto written = writer_->append_events.bind(batch.application)
                         .bind(batch.function)
                         .bind(batch.guard)
                         .bind(static_cast<std::int64_t>(batch.first))
                         .bind(static_cast<std::int64_t>(batch.last))
                         .bind(number(batch.earliest))
                         .bind(number(batch.latest))
                         .bind(std::int64_t{batch.decisions})
                         .bind_blob(batch.events)
                         .run();
      if (!written) return written;
      auto moved = writer_->move_taken.bind(static_cast<std::int64_t>(batch.last)).bind(batch.guard).run();
      if (!moved) return moved;
    }
    if (entry.guard) {
      if (auto written = writer_->put_guard(*entry.guard); !written) return written;
    }
    if (entry.decided) {
      const DecidedAsk& decided = *entry.decided;
      auto written = writer_->append_events.bind(decided.application)
                         .bind(std::string_view())
                         .bind_blob({})
                         .bind(0)
                         .bind(0)
                         .bind(number(decided.time))
                         .bind(number(decided.time))
                         .bind(0)
                         .bind_blob(decided.decided)
                         .run();
      if (!written) return written;
    }
  }
  return transaction->commit();
}

namespace {

constexpr std::string_view kJournalColumns =
    "row, application, function, guard, first, last, earliest, latest, decisions, body";

// Nothing: the guard's id is no id, so the row is not one of ours.
std::optional<EventBatch> batch_of(const Statement& row) {
  EventBatch out;
  if (!copy_id(row.text(3), out.guard)) return std::nullopt;
  out.application = row.text(1);
  out.function = row.text(2);
  out.first = static_cast<std::uint64_t>(row.integer(4));
  out.last = static_cast<std::uint64_t>(row.integer(5));
  out.earliest = time_of(row.integer(6));
  out.latest = time_of(row.integer(7));
  out.decisions = static_cast<std::uint32_t>(row.integer(8));
  out.events = row.text(9);
  return out;
}

}  // namespace

Result<Time> SqliteStore::latest() {
  const std::scoped_lock guarded(read_mutex_);
  Time out{};
  auto read = reader_->query(
      "SELECT max(latest) FROM journal", [](Statement&) {},
      [&](const Statement& row) {
        out = time_of(row.integer(0));
        return true;
      });
  if (!read) return std::unexpected(read.error());
  return out;
}

Result<void> SqliteStore::replay(Time since, const std::function<Result<void>(Entry&&)>& take) {
  const std::scoped_lock guarded(read_mutex_);
  Result<void> taken;
  auto read = reader_->query(
      "SELECT " + std::string(kJournalColumns) +
          " FROM journal WHERE row >= (SELECT min(row) FROM journal WHERE latest >= ?) AND latest >= ? ORDER BY row",
      [&](Statement& statement) { statement.bind(number(since)).bind(number(since)); },
      [&](const Statement& row) {
        Entry entry;
        if (row.text(3).empty()) {
          entry.decided = DecidedAsk{std::string(row.text(1)), time_of(row.integer(7)), std::string(row.text(9))};
        } else {
          entry.events = batch_of(row);
          if (!entry.events) return true;
        }
        taken = take(std::move(entry));
        return taken.has_value();
      });
  return read ? taken : read;
}

Result<void> SqliteStore::search(const EventQuery& query,
                                 const std::function<bool(std::uint64_t row, EventBatch&&)>& take) {
  const std::scoped_lock guarded(read_mutex_);
  std::string sql = "SELECT " + std::string(kJournalColumns) +
                    " FROM journal WHERE application = ? AND row > ? AND decisions & ? != 0 AND length(guard) > 0";
  if (query.function) sql += " AND function = ?";
  if (query.guard) sql += " AND guard = ?";
  if (query.since) sql += " AND latest >= ?";
  if (query.until) sql += " AND earliest < ?";
  sql += " ORDER BY row";
  return reader_->query(
      sql,
      [&](Statement& statement) {
        statement.bind(query.application)
            .bind(static_cast<std::int64_t>(query.after))
            .bind(std::int64_t{query.decisions});
        if (query.function) statement.bind(*query.function);
        if (query.guard) statement.bind(*query.guard);
        if (query.since) statement.bind(number(*query.since));
        if (query.until) statement.bind(number(*query.until));
      },
      [&](const Statement& row) {
        auto batch = batch_of(row);
        return !batch || take(static_cast<std::uint64_t>(row.integer(0)), std::move(*batch));
      });
}

Result<std::uint64_t> SqliteStore::forget(Time before) {
  std::uint64_t forgotten = 0;
  while (true) {
    const std::scoped_lock guarded(write_mutex_);
    auto done = writer_->run("DELETE FROM journal WHERE row IN (SELECT row FROM journal WHERE latest < ? LIMIT ?)",
                             [&](Statement& statement) {
                               statement.bind(number(before)).bind(static_cast<std::int64_t>(kForgottenAtOnce));
                             });
    if (!done) return std::unexpected(done.error());
    const auto rows = static_cast<std::uint64_t>(writer_->database->changes());
    forgotten += rows;
    if (rows >= kForgottenAtOnce) continue;
    done = writer_->run("DELETE FROM alarms WHERE last < ?",
                        [&](Statement& statement) { statement.bind(number(before)); });
    if (!done) return std::unexpected(done.error());
    return forgotten;
  }
}

Result<std::optional<Store::FunctionName>> SqliteStore::make_room(std::uint64_t bytes_max, Time needed_since) {
  const auto number_of = [this](const std::string& pragma) -> Result<std::uint64_t> {
    std::uint64_t out = 0;
    auto read = writer_->query(
        pragma, [](Statement&) {},
        [&](const Statement& row) {
          out = static_cast<std::uint64_t>(row.integer(0));
          return true;
        });
    if (!read) return std::unexpected(read.error());
    return out;
  };
  for (int round = 0; round < kRoomRounds; ++round) {
    const std::scoped_lock guarded(write_mutex_);
    const auto page = number_of("PRAGMA page_size");
    if (!page) return std::unexpected(page.error());
    // What is full is full: beyond this a write fails as on a full disk.
    const auto most = number_of("PRAGMA max_page_count = " + std::to_string(bytes_max / *page));
    const auto pages = number_of("PRAGMA page_count");
    const auto free = number_of("PRAGMA freelist_count");
    if (!most) return std::unexpected(most.error());
    if (!pages) return std::unexpected(pages.error());
    if (!free) return std::unexpected(free.error());
    if ((*pages - *free) * *page <= bytes_max / 10 * 9) return std::nullopt;

    const auto drop = [&](std::string_view application, std::string_view function) {
      return writer_->run(
          "DELETE FROM journal WHERE row IN (SELECT row FROM journal WHERE application = ? AND function = ? AND "
          "latest < ? ORDER BY latest LIMIT ?)",
          [&](Statement& statement) {
            statement.bind(application).bind(function).bind(number(needed_since)).bind(kDroppedAtOnce);
          });
    };
    FunctionName largest;
    auto read = writer_->query(
        "SELECT application, function FROM shares WHERE function != '' ORDER BY bytes DESC LIMIT 1", [](Statement&) {},
        [&](const Statement& row) {
          largest = {std::string(row.text(0)), std::string(row.text(1))};
          return true;
        });
    if (!read) return std::unexpected(read.error());
    // What was decided for its application is for the replay alone.
    if (auto done = drop(largest.application, {}); !done) return std::unexpected(done.error());
    if (auto done = drop(largest.application, largest.function); !done) return std::unexpected(done.error());
    if (writer_->database->changes() == 0) return largest;
  }
  return std::nullopt;
}

Result<void> SqliteStore::drop_application(const std::string& application) {
  for (bool more = true; more;) {
    const std::scoped_lock guarded(write_mutex_);
    auto done = writer_->run(
        "DELETE FROM journal WHERE row IN (SELECT row FROM journal WHERE application = ? LIMIT ?)",
        [&](Statement& statement) { statement.bind(application).bind(static_cast<std::int64_t>(kForgottenAtOnce)); });
    if (!done) return done;
    more = writer_->database->changes() > 0;
  }
  const std::scoped_lock guarded(write_mutex_);
  auto transaction = Transaction::begin(*writer_->database);
  if (!transaction) return std::unexpected(transaction.error());
  for (const char* const table : {"shares", "alarms", "guards", "tokens", "secrets", "tag_keys", "documents"}) {
    auto done = writer_->run("DELETE FROM " + std::string(table) + " WHERE application = ?",
                             [&](Statement& statement) { statement.bind(application); });
    if (!done) return done;
  }
  return transaction->commit();
}

Result<void> SqliteStore::put_guard(const GuardRow& guard) {
  const std::scoped_lock guarded(write_mutex_);
  return writer_->put_guard(guard);
}

Result<std::vector<GuardRow>> SqliteStore::guards() {
  const std::scoped_lock guarded(read_mutex_);
  std::vector<GuardRow> out;
  auto read = reader_->query(
      "SELECT id, application, function, instance, subject, registered, events_taken FROM guards ORDER BY id",
      [](Statement&) {},
      [&](const Statement& row) {
        GuardRow guard;
        if (!copy_id(row.text(0), guard.id)) return true;
        guard.application = row.text(1);
        guard.function = row.text(2);
        guard.instance = row.text(3);
        guard.subject = row.text(4);
        guard.registered = time_of(row.integer(5));
        guard.events_taken = static_cast<std::uint64_t>(row.integer(6));
        out.push_back(std::move(guard));
        return true;
      });
  if (!read) return std::unexpected(read.error());
  return out;
}

Result<void> SqliteStore::forget_guard(const GuardId& id) {
  const std::scoped_lock guarded(write_mutex_);
  return writer_->run("DELETE FROM guards WHERE id = ?", [&](Statement& statement) { statement.bind(id); });
}

namespace {

Document document_of(const Statement& row) {
  Document out;
  out.application = row.text(0);
  out.function = row.text(1);
  out.kind = static_cast<DocumentKind>(row.integer(2));
  out.version = static_cast<std::uint64_t>(row.integer(3));
  out.text = row.text(4);
  out.author = row.text(5);
  out.time = time_of(row.integer(6));
  return out;
}

constexpr std::string_view kDocumentColumns = "application, function, kind, version, text, author, time";

}  // namespace

Result<std::uint64_t> SqliteStore::put_document(const Document& document, std::uint64_t after) {
  const std::scoped_lock guarded(write_mutex_);
  auto transaction = Transaction::begin(*writer_->database);
  if (!transaction) return std::unexpected(transaction.error());
  std::uint64_t newest = 0;
  auto read = writer_->query(
      "SELECT max(version) FROM documents WHERE application = ? AND function = ? AND kind = ?",
      [&](Statement& statement) {
        statement.bind(document.application).bind(document.function).bind(std::int64_t(document.kind));
      },
      [&](const Statement& row) {
        newest = static_cast<std::uint64_t>(row.integer(0));
        return true;
      });
  if (!read) return std::unexpected(read.error());
  if (after != 0 && after != newest) {
    return fail(ErrorSource::controller, ErrorKind::refused,
                "the " + std::string(to_string(document.kind)) + " has changed meanwhile: its version is " +
                    std::to_string(newest) + " and not " + std::to_string(after) + "; look at it and try again");
  }
  auto written = writer_->run("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)", [&](Statement& statement) {
    statement.bind(document.application).bind(document.function).bind(std::int64_t(document.kind));
    statement.bind(static_cast<std::int64_t>(newest + 1)).bind(document.text).bind(document.author);
    statement.bind(number(document.time));
  });
  if (!written) return std::unexpected(written.error());
  if (auto done = transaction->commit(); !done) return std::unexpected(done.error());
  return newest + 1;
}

Result<std::vector<Document>> SqliteStore::documents() {
  const std::scoped_lock guarded(read_mutex_);
  std::vector<Document> out;
  auto read = reader_->query(
      "SELECT " + std::string(kDocumentColumns) +
          " FROM documents AS d WHERE version = (SELECT max(version) FROM documents AS e WHERE "
          "e.application = d.application AND e.function = d.function AND e.kind = d.kind) "
          "ORDER BY application, function, kind",
      [](Statement&) {},
      [&](const Statement& row) {
        out.push_back(document_of(row));
        return true;
      });
  if (!read) return std::unexpected(read.error());
  return out;
}

Result<std::vector<Document>> SqliteStore::versions(const std::string& application, const std::string& function,
                                                    DocumentKind kind) {
  const std::scoped_lock guarded(read_mutex_);
  std::vector<Document> out;
  auto read = reader_->query(
      "SELECT " + std::string(kDocumentColumns) +
          " FROM documents WHERE application = ? AND function = ? AND kind = ? ORDER BY version DESC",
      [&](Statement& statement) { statement.bind(application).bind(function).bind(std::int64_t(kind)); },
      [&](const Statement& row) {
        out.push_back(document_of(row));
        return true;
      });
  if (!read) return std::unexpected(read.error());
  return out;
}

Result<void> SqliteStore::put_secret(const SecretRow& secret) {
  const auto sealed = key_.seal(secret.value.view(), about_secret(secret.application, secret.name));
  if (!sealed) return std::unexpected(sealed.error());
  const std::scoped_lock guarded(write_mutex_);
  return writer_->run("INSERT OR REPLACE INTO secrets VALUES (?, ?, ?)", [&](Statement& statement) {
    statement.bind(secret.application).bind(secret.name).bind_blob(*sealed);
  });
}

Result<void> SqliteStore::drop_secret(const std::string& application, const std::string& name) {
  const std::scoped_lock guarded(write_mutex_);
  return writer_->run("DELETE FROM secrets WHERE application = ? AND name = ?",
                      [&](Statement& statement) { statement.bind(application).bind(name); });
}

namespace {

// What was sealed, into memory that does not leak.
Result<credentials::Secret> opened(const SealingKey& key, std::string_view sealed, const std::string& about) {
  auto value = key.open(sealed, about);
  if (!value) return std::unexpected(value.error());
  auto out = credentials::Secret::copy_of(*value);
  OPENSSL_cleanse(value->data(), value->size());
  return out;
}

}  // namespace

Result<std::vector<SecretRow>> SqliteStore::secrets() {
  const std::scoped_lock guarded(read_mutex_);
  std::vector<SecretRow> out;
  Result<void> all_opened;
  auto read = reader_->query(
      "SELECT application, name, sealed FROM secrets ORDER BY application, name", [](Statement&) {},
      [&](const Statement& row) {
        SecretRow secret{std::string(row.text(0)), std::string(row.text(1)), {}};
        auto value = opened(key_, row.text(2), about_secret(secret.application, secret.name));
        if (!value) {
          all_opened = std::unexpected(value.error());
          return false;
        }
        secret.value = std::move(*value);
        out.push_back(std::move(secret));
        return true;
      });
  if (!read) return std::unexpected(read.error());
  if (!all_opened) return std::unexpected(all_opened.error());
  return out;
}

Result<void> SqliteStore::put_tag_key(const TagKeyRow& key) {
  const auto sealed = key_.seal(key.key.view(), about_key(key.application, key.number));
  if (!sealed) return std::unexpected(sealed.error());
  const std::scoped_lock guarded(write_mutex_);
  return writer_->run("INSERT INTO tag_keys VALUES (?, ?, ?, ?)", [&](Statement& statement) {
    statement.bind(key.application).bind(static_cast<std::int64_t>(key.number)).bind_blob(*sealed);
    statement.bind(number(key.made));
  });
}

Result<void> SqliteStore::drop_tag_key(const std::string& application, std::uint64_t key) {
  const std::scoped_lock guarded(write_mutex_);
  return writer_->run("DELETE FROM tag_keys WHERE application = ? AND number = ?",
                      [&](Statement& statement) { statement.bind(application).bind(static_cast<std::int64_t>(key)); });
}

Result<std::vector<TagKeyRow>> SqliteStore::tag_keys() {
  const std::scoped_lock guarded(read_mutex_);
  std::vector<TagKeyRow> out;
  Result<void> all_opened;
  auto read = reader_->query(
      "SELECT application, number, sealed, made FROM tag_keys ORDER BY application, number", [](Statement&) {},
      [&](const Statement& row) {
        TagKeyRow key{
            std::string(row.text(0)), static_cast<std::uint64_t>(row.integer(1)), {}, time_of(row.integer(3))};
        auto value = opened(key_, row.text(2), about_key(key.application, key.number));
        if (!value) {
          all_opened = std::unexpected(value.error());
          return false;
        }
        key.key = std::move(*value);
        out.push_back(std::move(key));
        return true;
      });
  if (!read) return std::unexpected(read.error());
  if (!all_opened) return std::unexpected(all_opened.error());
  return out;
}

Result<void> SqliteStore::put_token(const JoinToken& token) {
  const std::scoped_lock guarded(write_mutex_);
  return writer_->run(
      "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, nullif(?, 0), ?) ON CONFLICT (id) DO UPDATE SET revoked = "
      "excluded.revoked, ends = excluded.ends",
      [&](Statement& statement) {
        statement.bind(token.id).bind(token.application).bind(token.function).bind(token.hash).bind(number(token.made));
        statement.bind(token.ends ? number(*token.ends) : 0).bind(token.revoked ? 1 : 0);
      });
}

Result<std::vector<JoinToken>> SqliteStore::tokens() {
  const std::scoped_lock guarded(read_mutex_);
  std::vector<JoinToken> out;
  auto read = reader_->query(
      "SELECT id, application, function, hash, made, ends, revoked FROM tokens ORDER BY application, made, id",
      [](Statement&) {},
      [&](const Statement& row) {
        JoinToken token;
        if (!copy_id(row.text(3), token.hash)) return true;
        token.id = row.text(0);
        token.application = row.text(1);
        token.function = row.text(2);
        token.made = time_of(row.integer(4));
        if (!row.is_null(5)) token.ends = time_of(row.integer(5));
        token.revoked = row.integer(6) != 0;
        out.push_back(std::move(token));
        return true;
      });
  if (!read) return std::unexpected(read.error());
  return out;
}

Result<void> SqliteStore::raise(const AlarmRow& alarm, std::chrono::milliseconds apart) {
  const std::scoped_lock guarded(write_mutex_);
  auto transaction = Transaction::begin(*writer_->database);
  if (!transaction) return std::unexpected(transaction.error());
  auto added = writer_->run(
      "UPDATE alarms SET last = max(last, ?), count = count + ?, text = ? WHERE row = (SELECT max(row) FROM alarms "
      "WHERE "
      "application = ? AND kind = ? AND function = ? AND about = ? AND last > ?)",
      [&](Statement& statement) {
        statement.bind(number(alarm.last)).bind(static_cast<std::int64_t>(alarm.count)).bind(alarm.text);
        statement.bind(alarm.application).bind(alarm.kind).bind(alarm.function).bind(alarm.about);
        statement.bind(number(alarm.first - apart));
      });
  if (!added) return added;
  if (writer_->database->changes() == 0) {
    auto made = writer_->run(
        "INSERT INTO alarms (application, kind, function, about, first, last, count, text) VALUES (?, ?, ?, ?, ?, ?, "
        "?, ?)",
        [&](Statement& statement) {
          statement.bind(alarm.application).bind(alarm.kind).bind(alarm.function).bind(alarm.about);
          statement.bind(number(alarm.first)).bind(number(alarm.last));
          statement.bind(static_cast<std::int64_t>(alarm.count)).bind(alarm.text);
        });
    if (!made) return made;
  }
  return transaction->commit();
}

Result<std::vector<AlarmRow>> SqliteStore::alarms(const std::string& application, Time since) {
  const std::scoped_lock guarded(read_mutex_);
  std::vector<AlarmRow> out;
  auto read = reader_->query(
      "SELECT application, kind, function, about, first, last, count, text FROM alarms WHERE application = ? AND "
      "last >= ? ORDER BY last, row",
      [&](Statement& statement) { statement.bind(application).bind(number(since)); },
      [&](const Statement& row) {
        AlarmRow alarm;
        alarm.application = row.text(0);
        alarm.kind = row.text(1);
        alarm.function = row.text(2);
        alarm.about = row.text(3);
        alarm.first = time_of(row.integer(4));
        alarm.last = time_of(row.integer(5));
        alarm.count = static_cast<std::uint64_t>(row.integer(6));
        alarm.text = row.text(7);
        out.push_back(std::move(alarm));
        return true;
      });
  if (!read) return std::unexpected(read.error());
  return out;
}

Result<void> SqliteStore::audit(const AuditRow& row) {
  const std::scoped_lock guarded(write_mutex_);
  return writer_->run("INSERT INTO audit (time, who, what, about, detail) VALUES (?, ?, ?, ?, ?)",
                      [&](Statement& statement) {
                        statement.bind(number(row.time)).bind(row.who).bind(row.what).bind(row.about).bind(row.detail);
                      });
}

Result<std::vector<AuditRow>> SqliteStore::audited(Time since, std::size_t rows_max) {
  const std::scoped_lock guarded(read_mutex_);
  std::vector<AuditRow> out;
  auto read = reader_->query(
      "SELECT time, who, what, about, detail FROM audit WHERE time >= ? ORDER BY row DESC LIMIT ?",
      [&](Statement& statement) { statement.bind(number(since)).bind(static_cast<std::int64_t>(rows_max)); },
      [&](const Statement& row) {
        out.push_back({time_of(row.integer(0)), std::string(row.text(1)), std::string(row.text(2)),
                       std::string(row.text(3)), std::string(row.text(4))});
        return true;
      });
  if (!read) return std::unexpected(read.error());
  std::ranges::reverse(out);
  return out;
}

}  // namespace sallyport::controller
