#include "controller/store/redis_store.h"

#include <openssl/crypto.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <set>
#include <utility>

#include "base/limits.h"
#include "controller/store/row_text.h"

namespace sallyport::controller {

namespace {

// Before each write, KEYS[1] and ARGV[1]: whoever is not the holder any more changes nothing. Fails closed.
constexpr const char* kFence = R"(
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return redis.error_reply('FENCED another controller has taken over') end )";

// KEYS: holder, rows, journal, guards, taken. Rows of the journal have the numbers 1, 2, … Events that a guard's last
// number says are here are not taken again: the answer to an earlier try may have been lost. The number of rows is
// always written, so that WAIT waits for that try, too.
constexpr const char* kAppend = R"(
  local row = tonumber(redis.call('GET', KEYS[2]) or '0')
  local i = 2
  while ARGV[i] do
    if ARGV[i] == 'guard' then
      redis.call('HSET', KEYS[4], ARGV[i + 1], ARGV[i + 2])
      redis.call('HSET', KEYS[5], ARGV[i + 1], ARGV[i + 3])
      i = i + 4
    else
      local guard, last = ARGV[i + 2], ARGV[i + 3]
      local taken = guard ~= '' and redis.call('HGET', KEYS[5], guard)
      if not taken or tonumber(taken) < tonumber(last) then
        row = row + 1
        redis.call('XADD', KEYS[3], string.format('%.0f-0', row), 'a', ARGV[i], 'f', ARGV[i + 1], 'g', guard,
                   'n', ARGV[i + 4], 'b', ARGV[i + 5])
        if taken then redis.call('HSET', KEYS[5], guard, last) end
      end
      i = i + 6
    end
  end
  redis.call('SET', KEYS[2], string.format('%.0f', row))
  return 1)";

// KEYS: holder, journal. ARGV: token, row.
constexpr const char* kTrim = R"(return redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2] .. '-0'))";

// KEYS: holder, hash. ARGV: token, field, value.
constexpr const char* kPut = R"(return redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]))";
constexpr const char* kDrop = R"(return redis.call('HDEL', KEYS[2], ARGV[2]))";

// The same of many, and of entries of the journal.
constexpr const char* kDropAll = R"(for i = 2, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end)";
constexpr const char* kDropEntries = R"(for i = 2, #ARGV do redis.call('XDEL', KEYS[2], ARGV[i] .. '-0') end)";

// KEYS: holder, guards, taken. ARGV: token, id.
constexpr const char* kDropGuard = R"(
  redis.call('HDEL', KEYS[3], ARGV[2])
  return redis.call('HDEL', KEYS[2], ARGV[2]))";

// KEYS: holder, newest, documents. ARGV: token, which document, the version that it replaces or 0, row.
constexpr const char* kPutDocument = R"(
  local newest = redis.call('HGET', KEYS[2], ARGV[2]) or '0'
  if ARGV[3] ~= '0' and ARGV[3] ~= newest then return redis.error_reply('CHANGED ' .. newest) end
  local version = string.format('%.0f', tonumber(newest) + 1)
  redis.call('HSET', KEYS[3], version .. ' ' .. ARGV[2], ARGV[4])
  redis.call('HSET', KEYS[2], ARGV[2], version)
  return tonumber(version))";

// KEYS: holder, number of alarms, the last of those that are alike, alarms of the application, what an alarm's key
// begins with. ARGV: token, what is alike, after which time it must have been, first, last, count, text, the rest.
constexpr const char* kRaise = R"(
  local row = redis.call('HGET', KEYS[3], ARGV[2])
  local last = row and tonumber(redis.call('HGET', KEYS[5] .. row, 'last') or '0')
  if last and last > tonumber(ARGV[3]) then
    local newer = ARGV[5]
    if last > tonumber(newer) then newer = string.format('%.0f', last) end
    redis.call('HINCRBY', KEYS[5] .. row, 'count', ARGV[6])
    redis.call('HSET', KEYS[5] .. row, 'last', newer, 'text', ARGV[7])
    redis.call('ZADD', KEYS[4], newer, row)
  else
    row = string.format('%016.0f', redis.call('INCR', KEYS[2]))
    redis.call('HSET', KEYS[5] .. row, 'first', ARGV[4], 'last', ARGV[5], 'count', ARGV[6], 'text', ARGV[7],
               'rest', ARGV[8])
    redis.call('ZADD', KEYS[4], ARGV[5], row)
    redis.call('HSET', KEYS[3], ARGV[2], row)
  end
  return 1)";

// KEYS: holder, the last of those that are alike, alarms of the application, what an alarm's key begins with. ARGV:
// token, before which time it was last, how many at once.
constexpr const char* kForgetAlarms = R"(
  local rows = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. ARGV[2], 'LIMIT', 0, ARGV[3])
  for _, row in ipairs(rows) do
    local alike = redis.call('HGET', KEYS[4] .. row, 'rest')
    if alike and redis.call('HGET', KEYS[2], alike) == row then redis.call('HDEL', KEYS[2], alike) end
    redis.call('DEL', KEYS[4] .. row)
    redis.call('ZREM', KEYS[3], row)
  end
  return #rows)";

// KEYS: holder, audit. ARGV: token, row.
constexpr const char* kAudit = R"(return redis.call('XADD', KEYS[2], '*', 'r', ARGV[2]))";

constexpr std::size_t kEntriesAtOnce = 64;         // read from the journal: at most some MiB
constexpr std::uint64_t kForgottenAtOnce = 2'000;  // rows, so that no other waits long

std::int64_t number(Time time) { return time.time_since_epoch().count(); }
Time time_of(std::uint64_t number) { return Time(std::chrono::milliseconds(static_cast<std::int64_t>(number))); }

std::string_view view(const redisReply& reply) {
  return reply.str == nullptr ? std::string_view() : std::string_view(reply.str, reply.len);
}
template <std::size_t Size>
std::string_view view(const std::array<unsigned char, Size>& id) {
  return {reinterpret_cast<const char*>(id.data()), Size};
}
template <std::size_t Size>
bool copy_id(std::string_view bytes, std::array<unsigned char, Size>& out) {
  if (bytes.size() != Size) return false;
  std::memcpy(out.data(), bytes.data(), Size);
  return true;
}

// What is stored is not what this version writes: fails closed, as part of the state would be missing.
std::unexpected<Error> foreign(std::string_view where) {
  return fail(ErrorSource::controller, ErrorKind::malformed,
              "what Redis has in " + std::string(where) + " was not written by this version; give it another ?name=");
}

std::string about_secret(const std::string& application, const std::string& name) {
  return "secret " + name + " of " + application;
}
std::string about_key(const std::string& application, std::uint64_t key) {
  return "tag key " + std::to_string(key) + " of " + application;
}

// What was sealed, into memory that does not leak.
Result<credentials::Secret> opened(const SealingKey& key, std::string_view sealed, const std::string& about) {
  auto value = key.open(sealed, about);
  if (!value) return std::unexpected(value.error());
  auto out = credentials::Secret::copy_of(*value);
  OPENSSL_cleanse(value->data(), value->size());
  return out;
}

std::string row_of(const GuardRow& guard) {
  return row_text({view(guard.id), guard.application, guard.function, guard.instance, guard.subject,
                   std::to_string(number(guard.registered))});
}

void add(std::vector<std::string>& out, const Store::Entry& entry) {
  if (entry.events) {
    const EventBatch& batch = *entry.events;
    out.insert(
        out.end(),
        {batch.application, batch.function, std::string(view(batch.guard)), std::to_string(batch.last),
         row_text({std::to_string(batch.first), std::to_string(batch.last), std::to_string(number(batch.earliest)),
                   std::to_string(number(batch.latest)), std::to_string(batch.decisions)}),
         batch.events});
  }
  if (entry.guard) {
    out.insert(out.end(), {"guard", std::string(view(entry.guard->id)), row_of(*entry.guard),
                           std::to_string(entry.guard->events_taken)});
  }
  if (entry.decided) {
    const std::string time = std::to_string(number(entry.decided->time));
    out.insert(out.end(), {entry.decided->application, "", "", "0", row_text({"0", "0", time, time, "0"}),
                           entry.decided->decided});
  }
}

// One entry of the journal, as XRANGE gives it. Of a decided ask `out.events` is what was decided.
bool read_entry(const redisReply& entry, std::uint64_t& row, EventBatch& out, bool& decided) {
  if (entry.type != REDIS_REPLY_ARRAY || entry.elements != 2) return false;
  const redisReply& fields = *entry.element[1];
  if (fields.type != REDIS_REPLY_ARRAY || fields.elements != 10) return false;
  const auto id = view(*entry.element[0]);
  if (!read_row_number(id.substr(0, id.find('-')), row)) return false;
  std::vector<std::string> numbers;
  if (!read_row_text(view(*fields.element[7]), 5, numbers)) return false;
  std::uint64_t earliest = 0, latest = 0, decisions = 0;
  if (!read_row_number(numbers[0], out.first) || !read_row_number(numbers[1], out.last) ||
      !read_row_number(numbers[2], earliest) || !read_row_number(numbers[3], latest) ||
      !read_row_number(numbers[4], decisions)) {
    return false;
  }
  out.application = view(*fields.element[1]);
  out.function = view(*fields.element[3]);
  decided = view(*fields.element[5]).empty();
  if (!decided && !copy_id(view(*fields.element[5]), out.guard)) return false;
  out.earliest = time_of(earliest);
  out.latest = time_of(latest);
  out.decisions = static_cast<std::uint32_t>(decisions);
  out.events = view(*fields.element[9]);
  return true;
}

bool fits(const EventBatch& batch, const EventQuery& query) {
  return batch.application == query.application && (batch.decisions & query.decisions) != 0 &&
         (!query.function || batch.function == *query.function) && (!query.guard || batch.guard == *query.guard) &&
         (!query.since || batch.latest >= *query.since) && (!query.until || batch.earliest < *query.until);
}

std::string which(const std::string& application, const std::string& function, DocumentKind kind) {
  return row_text({application, function, std::to_string(static_cast<int>(kind))});
}

std::string info(const redisReply& reply, std::string_view name) {
  const std::string_view text = view(reply);
  const std::size_t at = text.find("\n" + std::string(name) + ":");
  if (at == std::string_view::npos) return {};
  const std::string_view rest = text.substr(at + name.size() + 2);
  return std::string(rest.substr(0, rest.find_first_of("\r\n")));
}

}  // namespace

RedisStore::RedisStore(const RedisUrl& url, unsigned shard, SealingKey key, std::function<void()> on_lost)
    : url_(url),
      prefix_("sallyport:{" + url.name + "/" + std::to_string(shard) + "}:"),
      key_(std::move(key)),
      lease_(url, prefix_, std::move(on_lost)),
      writer_(url),
      reader_(url) {}

Result<std::unique_ptr<RedisStore>> RedisStore::open(const RedisUrl& url, unsigned shard, const std::string& folder,
                                                     Taking taking) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail(ErrorSource::controller, ErrorKind::unavailable, folder + ": " + std::strerror(errno));
  }
  auto key = SealingKey::of_file(folder + "/secrets.key");
  if (!key) return std::unexpected(key.error());
  std::unique_ptr<RedisStore> out(new RedisStore(url, shard, std::move(*key), std::move(taking.on_lost)));
  if (auto checked = check_redis(out->reader_, out->key("holder"), url); !checked) {
    return std::unexpected(checked.error());
  }
  const auto taken = out->lease_.take(taking.lapsed);
  if (!taken) return std::unexpected(taken.error());
  if (!*taken) return fail(ErrorSource::controller, ErrorKind::cancelled, "another controller has the shard");
  return out;
}

namespace {

std::unexpected<Error> with_remedy(Error error) {
  if (error.text.starts_with("NOAUTH")) error.text = "Redis wants a password: ?password-file=FILE in the store's URL";
  if (error.text.starts_with("NOPERM")) {
    error.text =
        "Redis does not let the user of the store's URL do what is needed (INFO, EVAL, WAIT and the commands "
        "of streams, hashes, sorted sets and strings): " +
        error.text;
  }
  return std::unexpected(std::move(error));
}

}  // namespace

Result<void> check_redis(RedisConnection& connection, const std::string& key, const RedisUrl& url) {
  // Of a cluster, the node that has the key answers this, and the next is asked of it, too.
  if (auto there = connection.run({"EXISTS", key}); !there) return with_remedy(there.error());
  auto memory = connection.run({"INFO", "memory"});
  if (!memory) return with_remedy(memory.error());
  auto persistence = connection.run({"INFO", "persistence"});
  if (!persistence) return with_remedy(persistence.error());
  if (const std::string policy = info(**memory, "maxmemory_policy"); policy != "noeviction") {
    return fail(ErrorSource::controller, ErrorKind::invalid,
                "Redis may drop what is stored when its memory is full (maxmemory-policy is '" + policy +
                    "'); set it to noeviction");
  }
  if (url.replicas == 0 && info(**persistence, "aof_enabled") != "1") {
    return fail(ErrorSource::controller, ErrorKind::invalid,
                "Redis forgets what is stored when it ends; set appendonly to yes there, or have replicas keep it "
                "(?replicas=1)");
  }
  return {};
}

Result<RedisReply> RedisStore::write(const std::string& script, std::initializer_list<std::string_view> keys,
                                     std::vector<std::string> arguments) {
  std::vector<RedisCommand> commands;
  RedisCommand& eval =
      commands.emplace_back(RedisCommand{"EVAL", kFence + script, std::to_string(keys.size() + 1), key("holder")});
  for (const std::string_view each : keys) eval.push_back(key(each));
  eval.push_back(lease_.token());
  std::ranges::move(arguments, std::back_inserter(eval));
  if (url_.replicas != 0) {
    commands.push_back({"WAIT", std::to_string(url_.replicas), std::to_string(limits::kRedisReplicasTimeout.count())});
  }
  const std::scoped_lock guarded(write_mutex_);
  auto answers = writer_.run_all(commands);
  if (!answers) return std::unexpected(answers.error());
  if (url_.replicas != 0 && (*answers)[1]->integer < static_cast<long long>(url_.replicas)) {
    // It is in Redis, but would be lost with its primary: nobody is told that it is stored.
    return fail(ErrorSource::controller, ErrorKind::timeout,
                "only " + std::to_string((*answers)[1]->integer) + " of " + std::to_string(url_.replicas) +
                    " replicas have it");
  }
  return std::move((*answers)[0]);
}

Result<RedisReply> RedisStore::read(const RedisCommand& command) {
  const std::scoped_lock guarded(read_mutex_);
  return reader_.run(command);
}

Result<void> RedisStore::put_row(std::string_view hash, std::string field, std::string value) {
  auto done = write(kPut, {hash}, {std::move(field), std::move(value)});
  return done ? Result<void>{} : std::unexpected(done.error());
}

Result<void> RedisStore::drop_row(std::string_view hash, std::string field) {
  auto done = write(kDrop, {hash}, {std::move(field)});
  return done ? Result<void>{} : std::unexpected(done.error());
}

// In the order of their fields, each with its own row's parts.
Result<void> RedisStore::each_row(std::string_view hash,
                                  const std::function<Result<void>(std::vector<std::string>&&)>& take) {
  auto all = read({"HGETALL", key(hash)});
  if (!all) return std::unexpected(all.error());
  std::vector<std::pair<std::string_view, std::string_view>> rows;
  for (std::size_t i = 0; i + 1 < (*all)->elements; i += 2) {
    rows.emplace_back(view(*(*all)->element[i]), view(*(*all)->element[i + 1]));
  }
  std::ranges::sort(rows);
  for (const auto& [field, text] : rows) {
    std::vector<std::string> parts;
    if (!read_row_text(text, 0, parts)) return foreign(hash);
    if (auto taken = take(std::move(parts)); !taken) return taken;
  }
  return {};
}

Result<void> RedisStore::append(std::span<const Entry> entries) {
  std::vector<std::string> arguments;
  for (const Entry& entry : entries) add(arguments, entry);
  auto done = write(kAppend, {"rows", "journal", "guards", "taken"}, std::move(arguments));
  return done ? Result<void>{} : std::unexpected(done.error());
}

// The first row that is not older, by halving: rows are as good as in the order of their time. Without `since` the
// oldest; one behind the newest where there is none.
Result<bool> RedisStore::first_of(const std::string& command, const std::string& from, const std::string& to,
                                  std::uint64_t& row, EventBatch& batch) {
  auto found = read({command, key("journal"), from, to, "COUNT", "1"});
  if (!found) return std::unexpected(found.error());
  if ((*found)->elements == 0) return false;
  bool decided = false;
  if (!read_entry(*(*found)->element[0], row, batch, decided)) return foreign("journal");
  return true;
}

Result<Time> RedisStore::latest() {
  std::uint64_t row = 0;
  EventBatch batch;
  const auto there = first_of("XREVRANGE", "+", "-", row, batch);
  if (!there) return std::unexpected(there.error());
  return *there ? batch.latest : Time{};
}

Result<std::uint64_t> RedisStore::first_row(std::optional<Time> since) {
  EventBatch batch;
  std::uint64_t first = 1, last = 0;
  if (const auto there = first_of("XRANGE", "-", "+", first, batch); !there || !*there || !since) {
    return there ? Result<std::uint64_t>{first} : std::unexpected(there.error());
  }
  if (const auto there = first_of("XREVRANGE", "+", "-", last, batch); !there) return std::unexpected(there.error());
  ++last;
  while (first < last) {
    const std::uint64_t middle = first + (last - first) / 2;
    std::uint64_t row = middle;
    const auto there = first_of("XRANGE", std::to_string(middle), "+", row, batch);
    if (!there) return std::unexpected(there.error());
    if (!*there || batch.latest >= *since) {
      last = middle;
    } else {
      first = middle + 1;
    }
  }
  return first;
}

Result<void> RedisStore::each_entry(std::uint64_t from, const TakeEntry& take) {
  while (true) {
    auto page = read({"XRANGE", key("journal"), std::to_string(from), "+", "COUNT", std::to_string(kEntriesAtOnce)});
    if (!page) return std::unexpected(page.error());
    for (std::size_t i = 0; i < (*page)->elements; ++i) {
      EventBatch batch;
      std::uint64_t row = 0;
      bool decided = false;
      if (!read_entry(*(*page)->element[i], row, batch, decided)) return foreign("journal");
      from = row + 1;
      const auto more = take(row, std::move(batch), decided);
      if (!more) return std::unexpected(more.error());
      if (!*more) return {};
    }
    if ((*page)->elements < kEntriesAtOnce) return {};
  }
}

Result<void> RedisStore::replay(Time since, const std::function<Result<void>(Entry&&)>& take) {
  const auto first = first_row(since);
  if (!first) return std::unexpected(first.error());
  return each_entry(*first, [&](std::uint64_t, EventBatch&& batch, bool decided) -> Result<bool> {
    if (batch.latest < since) return true;
    Entry entry;
    if (decided) {
      entry.decided = DecidedAsk{std::move(batch.application), batch.latest, std::move(batch.events)};
    } else {
      entry.events = std::move(batch);
    }
    if (auto taken = take(std::move(entry)); !taken) return std::unexpected(taken.error());
    return true;
  });
}

Result<void> RedisStore::search(const EventQuery& query,
                                const std::function<bool(std::uint64_t row, EventBatch&&)>& take) {
  const auto first = query.since ? first_row(query.since) : Result<std::uint64_t>{0};
  if (!first) return std::unexpected(first.error());
  return each_entry(std::max(*first, query.after + 1),
                    [&](std::uint64_t row, EventBatch&& batch, bool decided) -> Result<bool> {
                      return decided || !fits(batch, query) || take(row, std::move(batch));
                    });
}

Result<std::uint64_t> RedisStore::forget(Time before) {
  auto oldest = first_row(std::nullopt);
  if (!oldest) return oldest;
  const auto kept = first_row(before);
  if (!kept) return kept;
  std::uint64_t forgotten = 0;
  for (std::uint64_t row = *oldest; row < *kept;) {
    row = std::min(row + kForgottenAtOnce, *kept);
    auto done = write(kTrim, {"journal"}, {std::to_string(row)});
    if (!done) return std::unexpected(done.error());
    forgotten += static_cast<std::uint64_t>((*done)->integer);
  }
  if (auto done = forget_alarms(before); !done) return std::unexpected(done.error());
  return forgotten;
}

// Of every application that has one.
Result<void> RedisStore::forget_alarms(Time before) {
  auto alike = read({"HKEYS", key("alarms-alike")});
  if (!alike) return std::unexpected(alike.error());
  std::set<std::string> applications;
  for (std::size_t i = 0; i < (*alike)->elements; ++i) {
    std::vector<std::string> parts;
    if (!read_row_text(view(*(*alike)->element[i]), 4, parts)) return foreign("alarms");
    applications.insert(std::move(parts[0]));
  }
  for (const std::string& application : applications) {
    if (auto done = forget_alarms(application, std::to_string(number(before))); !done) return done;
  }
  return {};
}

Result<void> RedisStore::forget_alarms(const std::string& application, const std::string& before) {
  while (true) {
    auto done = write(kForgetAlarms, {"alarms-alike", "alarms:" + application, "alarm:"},
                      {before, std::to_string(kForgottenAtOnce)});
    if (!done) return std::unexpected(done.error());
    if ((*done)->integer < static_cast<long long>(kForgottenAtOnce)) return {};
  }
}

Result<void> RedisStore::drop_entries_of(const std::string& application) {
  std::vector<std::string> rows;
  const auto drop = [&]() -> Result<void> {
    auto done = write(kDropEntries, {"journal"}, std::exchange(rows, {}));
    return done ? Result<void>{} : std::unexpected(done.error());
  };
  auto all = each_entry(0, [&](std::uint64_t row, EventBatch&& batch, bool) -> Result<bool> {
    if (batch.application != application) return true;
    rows.push_back(std::to_string(row));
    if (rows.size() < kForgottenAtOnce) return true;
    if (auto dropped = drop(); !dropped) return std::unexpected(dropped.error());
    return true;
  });
  return all ? drop() : all;
}

// `application_of` says it of a row's field and value.
Result<void> RedisStore::drop_rows_of(const std::string& application, std::string_view hash, ApplicationOf* of) {
  auto all = read({"HGETALL", key(hash)});
  if (!all) return std::unexpected(all.error());
  std::vector<std::string> fields;
  for (std::size_t i = 0; i + 1 < (*all)->elements; i += 2) {
    const std::string_view field = view(*(*all)->element[i]);
    const auto found = of(field, view(*(*all)->element[i + 1]));
    if (!found) return foreign(hash);
    if (*found == application) fields.emplace_back(field);
  }
  auto done = write(kDropAll, {hash}, fields);
  if (done && hash == "guards") done = write(kDropAll, {"taken"}, std::move(fields));
  return done ? Result<void>{} : std::unexpected(done.error());
}

namespace {

// The part of that number.
std::optional<std::string> part_of(std::string_view row, std::size_t number) {
  std::vector<std::string> parts;
  if (!read_row_text(row, 0, parts) || parts.size() <= number) return std::nullopt;
  return std::move(parts[number]);
}
std::optional<std::string> of_field(std::string_view field, std::string_view) { return part_of(field, 0); }
std::optional<std::string> of_value(std::string_view, std::string_view value) { return part_of(value, 1); }
std::optional<std::string> of_document(std::string_view, std::string_view value) { return part_of(value, 0); }

}  // namespace

Result<void> RedisStore::drop_application(const std::string& application) {
  if (auto done = drop_entries_of(application); !done) return done;
  if (auto done = forget_alarms(application, "inf"); !done) return done;
  const std::pair<std::string_view, ApplicationOf*> hashes[] = {{"guards", of_value},  {"tokens", of_value},
                                                                {"secrets", of_field}, {"tag-keys", of_field},
                                                                {"newest", of_field},  {"documents", of_document}};
  for (const auto& [hash, of] : hashes) {
    if (auto done = drop_rows_of(application, hash, of); !done) return done;
  }
  return {};
}

Result<void> RedisStore::put_guard(const GuardRow& guard) {
  const Entry entry{.guard = guard};
  return append({&entry, 1});
}

Result<std::vector<GuardRow>> RedisStore::guards() {
  std::vector<GuardRow> out;
  auto read_all = each_row("guards", [&](std::vector<std::string>&& parts) -> Result<void> {
    GuardRow guard;
    std::uint64_t registered = 0;
    if (parts.size() != 6 || !copy_id(parts[0], guard.id) || !read_row_number(parts[5], registered)) {
      return foreign("guards");
    }
    guard.application = std::move(parts[1]);
    guard.function = std::move(parts[2]);
    guard.instance = std::move(parts[3]);
    guard.subject = std::move(parts[4]);
    guard.registered = time_of(registered);
    out.push_back(std::move(guard));
    return {};
  });
  if (!read_all) return std::unexpected(read_all.error());
  if (out.empty()) return out;
  RedisCommand command{"HMGET", key("taken")};
  for (const GuardRow& guard : out) command.emplace_back(view(guard.id));
  auto taken = read(command);
  if (!taken) return std::unexpected(taken.error());
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (i >= (*taken)->elements || !read_row_number(view(*(*taken)->element[i]), out[i].events_taken)) {
      return foreign("taken");
    }
  }
  return out;
}

Result<void> RedisStore::forget_guard(const GuardId& id) {
  auto done = write(kDropGuard, {"guards", "taken"}, {std::string(view(id))});
  return done ? Result<void>{} : std::unexpected(done.error());
}

Result<std::uint64_t> RedisStore::put_document(const Document& document, std::uint64_t after) {
  auto done = write(kPutDocument, {"newest", "documents"},
                    {which(document.application, document.function, document.kind), std::to_string(after),
                     row_text({document.application, document.function, std::to_string(static_cast<int>(document.kind)),
                               document.text, document.author, std::to_string(number(document.time))})});
  constexpr std::string_view kChanged = "CHANGED ";
  if (!done && done.error().text.starts_with(kChanged)) {
    return fail(ErrorSource::controller, ErrorKind::refused,
                "the " + std::string(to_string(document.kind)) + " has changed meanwhile: its version is " +
                    done.error().text.substr(kChanged.size()) + " and not " + std::to_string(after) +
                    "; look at it and try again");
  }
  if (!done) return std::unexpected(done.error());
  return static_cast<std::uint64_t>((*done)->integer);
}

namespace {

Result<Document> document_of(std::string_view row, std::uint64_t version) {
  Document out;
  std::vector<std::string> parts;
  std::uint64_t kind = 0, time = 0;
  if (!read_row_text(row, 6, parts) || !read_row_number(parts[2], kind) || !read_row_number(parts[5], time) ||
      kind > static_cast<std::uint64_t>(DocumentKind::application_graph)) {
    return foreign("documents");
  }
  out.application = std::move(parts[0]);
  out.function = std::move(parts[1]);
  out.kind = static_cast<DocumentKind>(kind);
  out.version = version;
  out.text = std::move(parts[3]);
  out.author = std::move(parts[4]);
  out.time = time_of(time);
  return out;
}

}  // namespace

Result<std::vector<Document>> RedisStore::documents() {
  std::vector<Document> out;
  auto newest = read({"HGETALL", key("newest")});
  if (!newest) return std::unexpected(newest.error());
  for (std::size_t i = 0; i + 1 < (*newest)->elements; i += 2) {
    const std::string version(view(*(*newest)->element[i + 1]));
    std::uint64_t counted = 0;
    if (!read_row_number(version, counted)) return foreign("newest");
    auto row = read({"HGET", key("documents"), version + " " + std::string(view(*(*newest)->element[i]))});
    if (!row) return std::unexpected(row.error());
    auto document = document_of(view(**row), counted);
    if (!document) return std::unexpected(document.error());
    out.push_back(std::move(*document));
  }
  std::ranges::sort(out, {}, [](const Document& each) { return std::tie(each.application, each.function, each.kind); });
  return out;
}

Result<std::vector<Document>> RedisStore::versions(const std::string& application, const std::string& function,
                                                   DocumentKind kind) {
  const std::string of = which(application, function, kind);
  std::vector<Document> out;
  auto newest = read({"HGET", key("newest"), of});
  if (!newest) return std::unexpected(newest.error());
  if ((*newest)->type == REDIS_REPLY_NIL) return out;
  std::uint64_t version = 0;
  if (!read_row_number(view(**newest), version)) return foreign("newest");
  for (; version > 0; --version) {
    auto row = read({"HGET", key("documents"), std::to_string(version) + " " + of});
    if (!row) return std::unexpected(row.error());
    auto document = document_of(view(**row), version);
    if (!document) return std::unexpected(document.error());
    out.push_back(std::move(*document));
  }
  return out;
}

Result<void> RedisStore::put_secret(const SecretRow& secret) {
  const auto sealed = key_.seal(secret.value.view(), about_secret(secret.application, secret.name));
  if (!sealed) return std::unexpected(sealed.error());
  return put_row("secrets", row_text({secret.application, secret.name}),
                 row_text({secret.application, secret.name, *sealed}));
}

Result<void> RedisStore::drop_secret(const std::string& application, const std::string& name) {
  return drop_row("secrets", row_text({application, name}));
}

Result<std::vector<SecretRow>> RedisStore::secrets() {
  std::vector<SecretRow> out;
  auto all = each_row("secrets", [&](std::vector<std::string>&& parts) -> Result<void> {
    if (parts.size() != 3) return foreign("secrets");
    auto value = opened(key_, parts[2], about_secret(parts[0], parts[1]));
    if (!value) return std::unexpected(value.error());
    out.push_back({std::move(parts[0]), std::move(parts[1]), std::move(*value)});
    return {};
  });
  if (!all) return std::unexpected(all.error());
  return out;
}

Result<void> RedisStore::put_tag_key(const TagKeyRow& row) {
  const auto sealed = key_.seal(row.key.view(), about_key(row.application, row.number));
  if (!sealed) return std::unexpected(sealed.error());
  const std::string which = std::to_string(row.number);
  return put_row("tag-keys", row_text({row.application, which}),
                 row_text({row.application, which, *sealed, std::to_string(number(row.made))}));
}

Result<void> RedisStore::drop_tag_key(const std::string& application, std::uint64_t number) {
  return drop_row("tag-keys", row_text({application, std::to_string(number)}));
}

Result<std::vector<TagKeyRow>> RedisStore::tag_keys() {
  std::vector<TagKeyRow> out;
  auto all = each_row("tag-keys", [&](std::vector<std::string>&& parts) -> Result<void> {
    std::uint64_t which = 0, made = 0;
    if (parts.size() != 4 || !read_row_number(parts[1], which) || !read_row_number(parts[3], made)) {
      return foreign("tag-keys");
    }
    auto value = opened(key_, parts[2], about_key(parts[0], which));
    if (!value) return std::unexpected(value.error());
    out.push_back({std::move(parts[0]), which, std::move(*value), time_of(made)});
    return {};
  });
  if (!all) return std::unexpected(all.error());
  std::ranges::sort(out, {}, [](const TagKeyRow& each) { return std::tie(each.application, each.number); });
  return out;
}

Result<void> RedisStore::put_token(const JoinToken& token) {
  return put_row(
      "tokens", token.id,
      row_text({token.id, token.application, token.function, view(token.hash), std::to_string(number(token.made)),
                token.ends ? std::to_string(number(*token.ends)) : std::string(), token.revoked ? "revoked" : ""}));
}

Result<std::vector<JoinToken>> RedisStore::tokens() {
  std::vector<JoinToken> out;
  auto all = each_row("tokens", [&](std::vector<std::string>&& parts) -> Result<void> {
    JoinToken token;
    std::uint64_t made = 0, ends = 0;
    if (parts.size() != 7 || !copy_id(parts[3], token.hash) || !read_row_number(parts[4], made) ||
        (!parts[5].empty() && !read_row_number(parts[5], ends))) {
      return foreign("tokens");
    }
    token.id = std::move(parts[0]);
    token.application = std::move(parts[1]);
    token.function = std::move(parts[2]);
    token.made = time_of(made);
    if (!parts[5].empty()) token.ends = time_of(ends);
    token.revoked = !parts[6].empty();
    out.push_back(std::move(token));
    return {};
  });
  if (!all) return std::unexpected(all.error());
  std::ranges::sort(out, {}, [](const JoinToken& each) { return std::tie(each.application, each.made, each.id); });
  return out;
}

Result<void> RedisStore::raise(const AlarmRow& alarm, std::chrono::milliseconds apart) {
  auto done = write(kRaise, {"alarm-rows", "alarms-alike", "alarms:" + alarm.application, "alarm:"},
                    {row_text({alarm.application, alarm.kind, alarm.function, alarm.about}),
                     std::to_string(number(alarm.first - apart)), std::to_string(number(alarm.first)),
                     std::to_string(number(alarm.last)), std::to_string(alarm.count), alarm.text,
                     row_text({alarm.application, alarm.kind, alarm.function, alarm.about})});
  return done ? Result<void>{} : std::unexpected(done.error());
}

Result<std::vector<AlarmRow>> RedisStore::alarms(const std::string& application, Time since) {
  std::vector<AlarmRow> out;
  auto rows = read({"ZRANGEBYSCORE", key("alarms:" + application), std::to_string(number(since)), "+inf"});
  if (!rows) return std::unexpected(rows.error());
  for (std::size_t i = 0; i < (*rows)->elements; ++i) {
    auto row = read(
        {"HMGET", key("alarm:") + std::string(view(*(*rows)->element[i])), "first", "last", "count", "text", "rest"});
    if (!row) return std::unexpected(row.error());
    AlarmRow alarm;
    std::uint64_t first = 0, last = 0;
    std::vector<std::string> rest;
    if ((*row)->elements != 5 || !read_row_number(view(*(*row)->element[0]), first) ||
        !read_row_number(view(*(*row)->element[1]), last) || !read_row_number(view(*(*row)->element[2]), alarm.count) ||
        !read_row_text(view(*(*row)->element[4]), 4, rest)) {
      return foreign("alarms");
    }
    alarm.application = std::move(rest[0]);
    alarm.kind = std::move(rest[1]);
    alarm.function = std::move(rest[2]);
    alarm.about = std::move(rest[3]);
    alarm.first = time_of(first);
    alarm.last = time_of(last);
    alarm.text = view(*(*row)->element[3]);
    out.push_back(std::move(alarm));
  }
  return out;
}

Result<void> RedisStore::audit(const AuditRow& row) {
  auto done = write(kAudit, {"audit"},
                    {row_text({std::to_string(number(row.time)), row.who, row.what, row.about, row.detail})});
  return done ? Result<void>{} : std::unexpected(done.error());
}

Result<std::vector<AuditRow>> RedisStore::audited(Time since, std::size_t rows_max) {
  std::vector<AuditRow> out;
  auto rows = read({"XREVRANGE", key("audit"), "+", "-", "COUNT", std::to_string(rows_max)});
  if (!rows) return std::unexpected(rows.error());
  for (std::size_t i = 0; i < (*rows)->elements; ++i) {
    const redisReply& entry = *(*rows)->element[i];
    std::vector<std::string> parts;
    std::uint64_t time = 0;
    if (entry.elements != 2 || entry.element[1]->elements != 2 ||
        !read_row_text(view(*entry.element[1]->element[1]), 5, parts) || !read_row_number(parts[0], time)) {
      return foreign("audit");
    }
    if (time_of(time) < since) break;
    out.push_back({time_of(time), std::move(parts[1]), std::move(parts[2]), std::move(parts[3]), std::move(parts[4])});
  }
  std::ranges::reverse(out);
  return out;
}

}  // namespace sallyport::controller
