#include "proxy/run/command_spec.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <string_view>

#include "proxy/run/system_error.h"

namespace sallyport::run {
namespace {

// The form: four counts, then that many strings each ended by a NUL (a bind is two; a shield is one, its kind before
// its path). Execve knows no NUL inside a string either.
struct Counts {
  std::uint64_t arguments, variables, binds, shields;
};

bool append(std::string& packed, std::string_view text) {
  if (text.contains('\0')) return false;
  packed.append(text).push_back('\0');
  return true;
}

Result<void> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_failure("handing the command to its supervisor");
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Result<std::string> read_whole(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return system_failure("reading the command");
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  for (std::size_t at = 0; at < bytes.size();) {
    ssize_t count = ::pread(fd, bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return system_failure("reading the command", count < 0 ? errno : EIO);
    at += static_cast<std::size_t>(count);
  }
  return bytes;
}

// Takes strings off the front; an empty result after the end, which only a bug of ours could reach.
class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : bytes_(bytes) {}
  std::string next() {
    std::size_t end = std::min(bytes_.find('\0'), bytes_.size());
    std::string text(bytes_.substr(0, end));
    bytes_.remove_prefix(std::min(end + 1, bytes_.size()));
    return text;
  }

 private:
  std::string_view bytes_;
};

}  // namespace

Result<UniqueFd> pack(const CommandSpec& spec) {
  if (spec.argv.empty()) return fail(ErrorSource::internal, ErrorKind::invalid, "there is no command to run");
  Counts counts{spec.argv.size(), spec.environment.size(), spec.binds.size(), spec.shields.size()};
  std::string packed(reinterpret_cast<const char*>(&counts), sizeof counts);
  bool clean = true;
  for (const std::string& argument : spec.argv) clean = append(packed, argument) && clean;
  for (const std::string& variable : spec.environment) clean = append(packed, variable) && clean;
  for (const Bind& bind : spec.binds) clean = append(packed, bind.source) && append(packed, bind.target) && clean;
  for (const Shield& shield : spec.shields)
    clean = append(packed, static_cast<char>(shield.kind) + shield.path) && clean;
  if (!clean) {
    return fail(ErrorSource::internal, ErrorKind::invalid,
                "an argument or a variable of the command has a NUL byte in it");
  }
  UniqueFd file(::memfd_create("sallyport-command", MFD_CLOEXEC));
  if (!file) return system_failure("handing the command to its supervisor");
  if (auto written = write_all(file.get(), packed); !written) return std::unexpected(written.error());
  return file;
}

Result<CommandSpec> unpack(int packed) {
  auto bytes = read_whole(packed);
  if (!bytes) return std::unexpected(bytes.error());
  Counts counts{};
  if (bytes->size() < sizeof counts) return system_failure("reading the command", EIO);
  std::memcpy(&counts, bytes->data(), sizeof counts);
  Unpacker unpacker(std::string_view(*bytes).substr(sizeof counts));
  CommandSpec spec;
  for (std::uint64_t i = 0; i < counts.arguments; ++i) spec.argv.push_back(unpacker.next());
  for (std::uint64_t i = 0; i < counts.variables; ++i) spec.environment.push_back(unpacker.next());
  for (std::uint64_t i = 0; i < counts.binds; ++i) {
    std::string source = unpacker.next();
    spec.binds.push_back({std::move(source), unpacker.next()});
  }
  for (std::uint64_t i = 0; i < counts.shields; ++i) {
    std::string packed_shield = unpacker.next();
    if (packed_shield.empty()) return system_failure("reading the command", EIO);
    auto kind = packed_shield[0] == 'r' ? Shield::Kind::read_only : Shield::Kind::hidden;
    spec.shields.push_back({packed_shield.substr(1), kind});
  }
  return spec;
}

}  // namespace sallyport::run
