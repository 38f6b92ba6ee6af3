#include "controller/store/redis_url.h"

#include <algorithm>
#include <charconv>

#include "base/limits.h"

namespace sallyport::controller {

namespace {

constexpr std::uint16_t kPort = 6'379, kSentinelPort = 26'379;
constexpr std::size_t kAddressesMax = 16, kNameBytesMax = 63;
constexpr unsigned kReplicasMax = 8, kDatabaseMax = 15;

std::unexpected<Error> wrong(const std::string& what) {
  return fail(ErrorSource::controller, ErrorKind::invalid, "the store's URL: " + what);
}

// What is before `mark`, which goes with it; all of it where there is none.
std::string_view take_until(std::string_view& text, std::string_view mark) {
  const std::size_t at = text.find(mark);
  const std::string_view out = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + mark.size());
  return out;
}

template <class Number>
bool read_number(std::string_view text, Number greatest, Number& out) {
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  return read.ec == std::errc{} && read.ptr == text.data() + text.size() && out <= greatest;
}

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax &&
         std::ranges::all_of(name, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

Result<void> take_option(std::string_view option, RedisUrl& out) {
  const std::string_view name = take_until(option, "=");
  if (name == "name") {
    out.name = option;
    if (!is_name(option)) return wrong("a name is 1 to 63 of a-z, 0-9 and '-'");
  } else if (name == "shards") {
    if (!read_number(option, limits::kShardsMax, out.shards) || out.shards == 0) {
      return wrong("shards is a number from 1 to " + std::to_string(limits::kShardsMax));
    }
  } else if (name == "replicas") {
    if (!read_number(option, kReplicasMax, out.replicas)) return wrong("replicas is a number from 0 to 8");
  } else if (name == "password-file") {
    out.password_file = option;
  } else if (name == "ca") {
    if (!out.tls) return wrong("ca is for TLS: rediss://…");
    out.ca_file = option;
  } else {
    return wrong("the option '" + std::string(name) +
                 "' is not known; there are name, shards, replicas, password-file, ca");
  }
  return {};
}

bool take_scheme(std::string_view& text, RedisUrl& out) {
  std::string_view scheme = take_until(text, "://");
  if (!scheme.starts_with("redis")) return false;
  scheme.remove_prefix(5);
  out.tls = scheme.starts_with("s");
  if (out.tls) scheme.remove_prefix(1);
  if (scheme == "+sentinel") out.kind = RedisUrl::Kind::sentinel;
  if (scheme == "+cluster") out.kind = RedisUrl::Kind::cluster;
  return scheme.empty() || out.kind != RedisUrl::Kind::server;
}

Result<void> take_path(std::string_view path, RedisUrl& out) {
  switch (out.kind) {
    case RedisUrl::Kind::sentinel:
      if (path.empty()) return wrong("the name of the master is missing: redis+sentinel://host,host/NAME");
      out.master = path;
      return {};
    case RedisUrl::Kind::cluster:
      if (!path.empty()) return wrong("a cluster has one database, and nothing stands behind its hosts");
      return {};
    case RedisUrl::Kind::server:
      if (!path.empty() && !read_number(path, kDatabaseMax, out.database)) {
        return wrong("the database is a number from 0 to 15");
      }
      return {};
  }
  return {};
}

}  // namespace

Result<RedisUrl::Address> parse_redis_address(std::string_view text, std::uint16_t default_port) {
  RedisUrl::Address out{{}, default_port};
  std::string_view port;
  if (text.starts_with('[')) {
    text.remove_prefix(1);
    out.host = take_until(text, "]");
    if (text.starts_with(':')) port = text.substr(1);
  } else {
    const std::size_t colon = text.rfind(':');
    out.host = text.substr(0, colon);
    if (colon != std::string_view::npos) port = text.substr(colon + 1);
  }
  if (out.host.empty() || (!port.empty() && (!read_number(port, std::uint16_t{65'535}, out.port) || out.port == 0))) {
    return wrong("an address is HOST or HOST:PORT");
  }
  return out;
}

Result<RedisUrl> parse_redis_url(std::string_view text) {
  RedisUrl out;
  std::string_view rest = text;
  if (!take_scheme(rest, out)) {
    return wrong("it begins with redis://, rediss://, redis+sentinel:// or redis+cluster://");
  }
  std::string_view before = take_until(rest, "?");
  if (const std::size_t at = before.rfind('@'); at != std::string_view::npos) {
    if (before.substr(0, at).contains(':')) {
      return wrong(
          "a password does not belong into it, as everybody on the machine can read arguments; put it into a "
          "file, and say ?password-file=FILE");
    }
    out.user = before.substr(0, at);
    before.remove_prefix(at + 1);
  }
  std::string_view hosts = take_until(before, "/");
  while (!hosts.empty()) {
    auto address =
        parse_redis_address(take_until(hosts, ","), out.kind == RedisUrl::Kind::sentinel ? kSentinelPort : kPort);
    if (!address) return std::unexpected(address.error());
    out.addresses.push_back(std::move(*address));
  }
  const std::size_t addresses_max = out.kind == RedisUrl::Kind::server ? 1 : kAddressesMax;
  if (out.addresses.empty() || out.addresses.size() > addresses_max) {
    return wrong("it names " + std::to_string(out.addresses.size()) + " hosts, and has to name 1 to " +
                 std::to_string(addresses_max));
  }
  if (auto taken = take_path(before, out); !taken) return std::unexpected(taken.error());
  while (!rest.empty()) {
    if (auto taken = take_option(take_until(rest, "&"), out); !taken) return std::unexpected(taken.error());
  }
  if (!out.user.empty() && out.password_file.empty()) {
    return wrong("the user " + out.user + " has no password; put it into a file, and say ?password-file=FILE");
  }
  return out;
}

}  // namespace sallyport::controller
