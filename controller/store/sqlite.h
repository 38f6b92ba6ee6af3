#pragma once
// SQLite with errors as values: a database, and statements that are prepared once. One thread at a time.

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace sallyport::controller {

class Database;

// Bound from the first parameter on, then stepped until it says done. Views of columns are valid until the next step.
class Statement {
 public:
  Statement& bind(std::int64_t value);
  Statement& bind(std::string_view text);                 // must stay until the statement has been stepped to its end
  Statement& bind(std::span<const unsigned char> bytes);  // the same
  Statement& bind_blob(std::string_view bytes);           // the same

  // True: there is a row.
  Result<bool> step();
  // For a statement without rows; ready to be bound again afterwards, whatever happened.
  Result<void> run();
  // Ready to be bound again.
  void reset();

  std::int64_t integer(int column) const;
  std::string_view text(int column) const;
  bool is_null(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const noexcept { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  Database* database_ = nullptr;
  int next_ = 1;
  bool unbound_ = false;  // a value could not be bound: out of memory
};

class Database {
 public:
  // Made if it is missing, for this user alone. Writes survive the end of the process when they are committed, and
  // the machine's when it is said so by `flush`.
  static Result<std::unique_ptr<Database>> open(const std::string& path, bool read_only = false);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  Result<void> execute(const char* sql);
  Result<Statement> prepare(std::string_view sql);
  std::int64_t changes() const;
  // Of what SQLite said last, with the file's name.
  Error error(int code) const;

 private:
  friend class Statement;
  Database(std::string path, sqlite3* handle) : path_(std::move(path)), handle_(handle) {}
  std::string path_;
  sqlite3* handle_;
};

// Rolls back unless it was committed.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Result<void> commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace sallyport::controller
