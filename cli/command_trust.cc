#include "cli/command_trust.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/limits.h"
#include "base/read_file.h"
#include "ca/trust.h"
#include "ca/trust_environment.h"

namespace sallyport::cli {
namespace {

std::unexpected<Error> cannot_write(const std::string& what) {
  return fail(ErrorSource::internal, ErrorKind::unavailable, "can't write " + what + ": " + std::strerror(errno));
}

// For the guard to write, now and later, and for others to read.
Result<UniqueFd> make_file(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400));
  if (!file) return cannot_write(path);
  return file;
}

// From the beginning, and only then shorter: what two CAs are added to is the same, and stays readable meanwhile.
Result<void> overwrite(const UniqueFd& file, std::string_view text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::pwrite(file.get(), text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return cannot_write("the command's certificates");
    done += static_cast<std::size_t>(count);
  }
  if (::ftruncate(file.get(), static_cast<off_t>(text.size())) != 0) return cannot_write("the command's certificates");
  return {};
}

}  // namespace

Result<CommandTrust> CommandTrust::make(const std::filesystem::path& directory, const std::string& ca_pem,
                                        const char* const* environment) {
  CommandTrust made;
  for (const char* file : ca::kSystemRootFiles) {
    Result<std::string> text = read_file(file, limits::kTrustBundleBytesMax);
    if (!text) continue;
    made.roots_ = std::move(*text);
    break;
  }
  ca::TrustPaths paths;
  paths.bundle = directory / "ca-bundle.pem";
  paths.ca = directory / "ca.pem";
  paths.java_store = directory / "cacerts.p12";
  paths.php_ini_directory = directory / "php";
  paths.merge_directory = directory;
  for (const auto& [path, file] : {std::pair(&paths.bundle, &made.bundle_), std::pair(&paths.ca, &made.ca_),
                                   std::pair(&paths.java_store, &made.java_store_)}) {
    Result<UniqueFd> opened = make_file(*path);
    if (!opened) return std::unexpected(opened.error());
    *file = std::move(*opened);
  }
  std::error_code ignored;
  std::filesystem::create_directory(paths.php_ini_directory, ignored);
  Result<void> ini = write_file(paths.php_ini_directory + "/sallyport.ini", ca::php_ini(paths.bundle), 0400);
  if (!ini) return std::unexpected(ini.error());

  ca::TrustEnvironment trust = ca::trust_environment(paths, environment);
  made.variables = std::move(trust.variables);
  for (const ca::TrustMerge& merge : trust.merges) {
    Result<std::string> theirs = read_file(merge.user_path, limits::kTrustBundleBytesMax);
    Result<std::string> both = theirs ? ca::add_to_bundle(*theirs, ca_pem) : std::unexpected(theirs.error());
    Result<UniqueFd> file = both ? make_file(merge.merged_path) : std::unexpected(both.error());
    for (const std::string& variable : merge.variables) {
      if (file) {
        made.variables.emplace_back(variable, merge.merged_path);
      } else {
        made.warnings.push_back(
            variable + " is left as it is, and clients that obey it will not trust the guard: " + file.error().text);
      }
    }
    if (file) made.merged_.push_back({std::move(*theirs), std::move(*file)});
  }
  for (const std::string& variable : trust.kept) {
    made.warnings.push_back(variable + " is left as it is: clients that obey it may not trust the guard");
  }
  // Clients that read no variable find the CA where the system keeps its roots.
  for (const char* file : ca::kSystemRootFiles) made.binds.push_back({paths.bundle, file});
  made.binds.push_back({paths.java_store, "/etc/ssl/certs/java/cacerts"});
  if (Result<void> written = made.put(ca_pem); !written) return std::unexpected(written.error());
  return made;
}

Result<void> CommandTrust::put(const std::string& ca_pem) {
  const Result<ca::TrustFiles> files = ca::make_trust_files(roots_, ca_pem);
  if (!files) return std::unexpected(files.error());
  for (const auto& [file, text] : {std::pair(&bundle_, &files->bundle_pem), std::pair(&ca_, &files->ca_pem),
                                   std::pair(&java_store_, &files->java_store)}) {
    if (Result<void> written = overwrite(*file, *text); !written) return written;
  }
  for (const Merged& each : merged_) {
    const Result<std::string> both = ca::add_to_bundle(each.theirs, ca_pem);
    if (!both) return std::unexpected(both.error());
    if (Result<void> written = overwrite(each.file, *both); !written) return written;
  }
  return {};
}

}  // namespace sallyport::cli
