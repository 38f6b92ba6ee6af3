#include "controller/store/sqlite.h"

#include <sys/stat.h>

#include <climits>
#include <utility>

namespace sallyport::controller {

namespace {

// How long a writer waits for another process that holds the file: a backup, or a person with sqlite3.
constexpr int kBusyMs = 5'000;

ErrorKind kind_of(int code) {
  switch (code & 0xff) {
    case SQLITE_FULL:
    case SQLITE_TOOBIG:
      return ErrorKind::limit;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return ErrorKind::malformed;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return ErrorKind::timeout;
    default:
      return ErrorKind::unavailable;
  }
}

std::string_view remedy_for(int code) {
  switch (code & 0xff) {
    case SQLITE_FULL:
      return "; the disk is full, or as much is kept as storeBytesMax says: make room, what waits is written then";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return "; put the file back from a backup, or move it away to begin anew";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "; another process holds it: two controllers cannot share one folder";
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return "; the folder must exist and belong to the user that runs the controller";
    default:
      return "";
  }
}

}  // namespace

Statement& Statement::bind(std::int64_t value) {
  unbound_ |= sqlite3_bind_int64(statement_.get(), next_++, value) != SQLITE_OK;
  return *this;
}

Statement& Statement::bind(std::string_view text) {
  // A null pointer would be a NULL, and an empty view may have one.
  const char* const data = text.empty() ? "" : text.data();
  unbound_ |=
      sqlite3_bind_text64(statement_.get(), next_++, data, text.size(), SQLITE_STATIC, SQLITE_UTF8) != SQLITE_OK;
  return *this;
}

Statement& Statement::bind_blob(std::string_view bytes) {
  const char* const data = bytes.empty() ? "" : bytes.data();
  unbound_ |= sqlite3_bind_blob64(statement_.get(), next_++, data, bytes.size(), SQLITE_STATIC) != SQLITE_OK;
  return *this;
}

Statement& Statement::bind(std::span<const unsigned char> bytes) {
  return bind_blob({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

Result<bool> Statement::step() {
  if (unbound_) return std::unexpected(database_->error(SQLITE_NOMEM));
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return std::unexpected(database_->error(code));
}

Result<void> Statement::run() {
  const auto stepped = step();
  reset();
  if (!stepped) return std::unexpected(stepped.error());
  return {};
}

void Statement::reset() {
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
  next_ = 1;
  unbound_ = false;
}

std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }

std::string_view Statement::text(int column) const {
  const auto* const data = static_cast<const char*>(sqlite3_column_blob(statement_.get(), column));
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return data == nullptr ? std::string_view() : std::string_view(data, static_cast<std::size_t>(size));
}

bool Statement::is_null(int column) const { return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL; }

Result<std::unique_ptr<Database>> Database::open(const std::string& path, bool read_only) {
  sqlite3* handle = nullptr;
  const int flags = (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) |
                    SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE;
  const mode_t mask = umask(0077);  // secrets are in it; files that SQLite makes beside it have its mode
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  umask(mask);
  std::unique_ptr<Database> out(new Database(path, handle));
  if (code != SQLITE_OK) return std::unexpected(out->error(code));
  sqlite3_busy_timeout(handle, kBusyMs);
  // A commit is a write to the log and no more: what a killed process has committed is there. The log reaches the disk
  // at each checkpoint.
  auto prepared = out->execute(
      read_only ? "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF"
                : "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;"
                  "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA wal_autocheckpoint = 4000");
  if (!prepared) return std::unexpected(prepared.error());
  return out;
}

Database::~Database() { sqlite3_close_v2(handle_); }

Result<void> Database::execute(const char* sql) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return std::unexpected(error(code));
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                                      &statement, nullptr);
  if (code != SQLITE_OK) return std::unexpected(error(code));
  Statement out;
  out.statement_.reset(statement);
  out.database_ = this;
  return out;
}

std::int64_t Database::changes() const { return sqlite3_changes64(handle_); }

Error Database::error(int code) const {
  const char* const said = handle_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(handle_);
  std::string text = path_ + ": " + said;
  text += remedy_for(code);
  return {ErrorSource::controller, kind_of(code), std::move(text)};
}

Result<Transaction> Transaction::begin(Database& database) {
  if (auto begun = database.execute("BEGIN IMMEDIATE"); !begun) return std::unexpected(begun.error());
  return Transaction(database);
}

Transaction::~Transaction() {
  if (database_ != nullptr) static_cast<void>(database_->execute("ROLLBACK"));  // a failed commit has done it already
}

Result<void> Transaction::commit() {
  auto done = database_->execute("COMMIT");
  if (done) database_ = nullptr;
  return done;
}

}  // namespace sallyport::controller
