#include "controller/shards/directory.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/limits.h"
#include "controller/store/redis_store.h"
#include "controller/store/row_text.h"
#include "proxy/http1/https_call.h"
#include "proxy/link/remote_link.h"

namespace sallyport::controller {

namespace {

// KEYS: settings. ARGV: number of shards, what was sealed with the key.
constexpr const char* kAgree = R"(
  redis.call('HSETNX', KEYS[1], 'shards', ARGV[1])
  redis.call('HSETNX', KEYS[1], 'sealed', ARGV[2])
  return redis.call('HMGET', KEYS[1], 'shards', 'sealed'))";

// KEYS: when each ends, announcements. ARGV: id, announcement, for how many milliseconds, how many at most less one.
constexpr const char* kLook = R"(
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[3])), ARGV[1])
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))) do
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id)
  end
  local out = {}
  for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[4])) do
    out[#out + 1] = id
    out[#out + 1] = redis.call('HGET', KEYS[2], id) or ''
  end
  return out)";

constexpr const char* kLeave = R"(
  redis.call('ZREM', KEYS[1], ARGV[1])
  return redis.call('HDEL', KEYS[2], ARGV[1]))";

constexpr std::string_view kAboutKey = "the controllers of one Redis";

std::string_view view(const redisReply& reply) {
  return reply.str == nullptr ? std::string_view() : std::string_view(reply.str, reply.len);
}

std::string about(const std::string& id) { return "announcement of " + id; }

std::unexpected<Error> invalid(std::string text) {
  return fail(ErrorSource::controller, ErrorKind::invalid, std::move(text));
}

}  // namespace

Directory::Directory(const RedisUrl& url, SealingKey key)
    : connection_(url), prefix_("sallyport:{" + url.name + "}:"), key_(std::move(key)) {}

Result<std::unique_ptr<Directory>> Directory::open(const RedisUrl& url, const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail(ErrorSource::controller, ErrorKind::unavailable, folder + ": " + std::strerror(errno));
  }
  auto key = SealingKey::of_file(folder + "/secrets.key");
  if (!key) return std::unexpected(key.error());
  std::unique_ptr<Directory> out(new Directory(url, std::move(*key)));
  if (auto checked = check_redis(out->connection_, out->key("settings"), url); !checked) {
    return std::unexpected(checked.error());
  }
  if (auto agreed = out->agree(url.shards, folder); !agreed) return std::unexpected(agreed.error());
  return out;
}

Result<void> Directory::agree(unsigned wanted, const std::string& folder) {
  const auto sealed = key_.seal("", kAboutKey);
  if (!sealed) return std::unexpected(sealed.error());
  const unsigned first = wanted == 0 ? limits::kShards : wanted;
  const auto answer = connection_.run({"EVAL", kAgree, "1", key("settings"), std::to_string(first), *sealed});
  if (!answer) return std::unexpected(answer.error());
  std::uint64_t shards = 0;
  if ((*answer)->elements != 2 || !read_row_number(view(*(*answer)->element[0]), shards) || shards == 0 ||
      shards > limits::kShardsMax) {
    return invalid("what this Redis has under " + prefix_ + " was not written by this version; give it another ?name=");
  }
  shards_ = static_cast<unsigned>(shards);
  if (wanted != 0 && wanted != shards_) {
    return invalid("this Redis has " + std::to_string(shards_) +
                   " shards, which can't be changed: leave ?shards= out of the store's URL, or begin under another "
                   "?name=");
  }
  if (!key_.open(view(*(*answer)->element[1]), kAboutKey)) {
    return invalid("the other controllers of this Redis seal with another key than " + folder +
                   "/secrets.key: copy that file, ca.pem, ca.key and admin-token from one of them");
  }
  return {};
}

Result<Directory::Seen> Directory::look(const Replica& me) {
  std::string shards;
  for (const unsigned shard : me.shards) shards += (shards.empty() ? "" : " ") + std::to_string(shard);
  if (std::string row = row_text({me.link_url, me.admin_url, shards}); sealed_.empty() || row != announced_) {
    auto sealed = key_.seal(row, about(me.id));
    if (!sealed) return std::unexpected(sealed.error());
    announced_ = std::move(row);
    sealed_ = std::move(*sealed);
  }
  const auto answer =
      connection_.run({"EVAL", kLook, "2", key("live"), key("replicas"), me.id, sealed_,
                       std::to_string(limits::kStoreLeaseTime.count()), std::to_string(limits::kReplicasMax - 1)});
  if (!answer) return std::unexpected(answer.error());
  Seen out;
  for (std::size_t i = 0; i + 1 < (*answer)->elements; i += 2) {
    const std::string id(view(*(*answer)->element[i]));
    auto replica = read(id, view(*(*answer)->element[i + 1]));
    if (replica) out.replicas.push_back(std::move(*replica));
    if (!replica) out.ignored.push_back(replica.error().text);
  }
  return out;
}

// Whoever is not believed is not there: nobody is sent to it, and what it says that it has is looked for elsewhere.
Result<Replica> Directory::read(const std::string& id, std::string_view sealed) const {
  const auto row = key_.open(sealed, about(id));
  std::vector<std::string> parts;
  if (!row || !read_row_text(*row, 3, parts)) {
    return invalid("a controller is announced in Redis by somebody who has not the key of the others; it is ignored");
  }
  Replica out{id, parts[0], parts[1], {}};
  if (!link::parse_controller_url(out.link_url) || !http1::parse_https_url(out.admin_url)) {
    return invalid("a controller announces itself in Redis at " + out.link_url + " and " + out.admin_url +
                   ", which are not wss://HOST:PORT and https://HOST:PORT; it is ignored");
  }
  for (std::string_view rest = parts[2]; !rest.empty();) {
    const std::string_view word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    std::uint64_t shard = 0;
    if (!read_row_number(word, shard) || shard >= shards_)
      return invalid("a controller announces shards that are none");
    out.shards.push_back(static_cast<unsigned>(shard));
  }
  return out;
}

void Directory::leave(const std::string& id) {
  // If this fails the announcement runs out by itself.
  [[maybe_unused]] const auto left = connection_.run({"EVAL", kLeave, "2", key("live"), key("replicas"), id});
}

}  // namespace sallyport::controller
