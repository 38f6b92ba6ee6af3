#include "cli/ca.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <memory>
#include <utility>

#include "base/limits.h"
#include "base/read_file.h"
#include "base/unique_fd.h"
#include "ca/authority.h"
#include "ca/describe.h"
#include "ca/profile.h"
#include "ca/trust.h"
#include "policy-engine/request/host.h"
#include "proxy/guard/json.h"

namespace sallyport::cli {
namespace {

constexpr int kExitFailed = 1;
constexpr int kRootDays =
    825;  // long enough for a tenant to plan its renewal, short enough to be renewed by the same people
constexpr int kRootDaysMax = 3'650;
constexpr int kServerDays = 90;
constexpr int kServerDaysMax = 825;  // past it Apple's clients refuse

ca::TimePoint now() { return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()); }

int complain(const std::string& text) {
  std::cerr << "sallyport: " << text << '\n';
  return kExitFailed;
}

std::unexpected<Error> cant_write(const std::string& path, int error, std::string_view remedy = "") {
  return fail(ErrorSource::internal, ErrorKind::unavailable,
              "can't write " + path + ": " + std::strerror(error) + std::string(remedy));
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

// A file that is there whole or not at all, and never with wider permissions than it is to have: written under a name
// of its own, then put in place.
class NewFile {
 public:
  static Result<NewFile> write(const std::string& path, std::string_view text, mode_t mode) {
    NewFile made;
    made.path_ = path;
    made.temporary_ = path + ".XXXXXX";
    const UniqueFd file(::mkostemp(made.temporary_.data(), O_CLOEXEC));
    if (!file) {
      made.temporary_.clear();
      return cant_write(path, errno);
    }
    if (!write_all(file.get(), text) || ::fchmod(file.get(), mode) != 0 || ::fsync(file.get()) != 0) {
      return cant_write(path, errno);
    }
    return made;
  }
  NewFile(NewFile&& other) noexcept
      : path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, std::string())) {}
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  // Without `force` a file that exists is left alone, also one that appeared just now.
  Result<void> put_in_place(bool force) {
    const int done = force ? ::rename(temporary_.c_str(), path_.c_str()) : ::link(temporary_.c_str(), path_.c_str());
    if (done != 0) return cant_write(path_, errno, errno == EEXIST ? "; --force replaces it" : "");
    if (force) temporary_.clear();
    return {};
  }

 private:
  NewFile() = default;
  std::string path_;
  std::string temporary_;  // empty: nothing to remove
};

Result<void> write_new(const std::string& path, std::string_view text, mode_t mode, bool force) {
  Result<NewFile> file = NewFile::write(path, text, mode);
  if (!file) return std::unexpected(file.error());
  return file->put_in_place(force);
}

struct PairPaths {
  std::string certificate;
  std::string key;
  bool force = false;
};

// Both or none, as half a pair only misleads: both are on the disk before either is put in place.
Result<void> write_pair(const PairPaths& paths, std::string_view certificate, EVP_PKEY* key) {
  if (paths.certificate == paths.key) {
    return fail(ErrorSource::internal, ErrorKind::invalid,
                "--cert and --key both name " + paths.key + "; the key needs a file of its own");
  }
  Result<ca::BioPtr> pem = ca::private_key_pem(key);
  if (!pem) return std::unexpected(pem.error());
  Result<NewFile> key_file = NewFile::write(paths.key, ca::bio_view(pem->get()), 0600);
  if (!key_file) return std::unexpected(key_file.error());
  Result<NewFile> certificate_file = NewFile::write(paths.certificate, certificate, 0644);
  if (!certificate_file) return std::unexpected(certificate_file.error());
  if (Result<void> placed = key_file->put_in_place(paths.force); !placed) return placed;
  Result<void> placed = certificate_file->put_in_place(paths.force);
  if (!placed && !paths.force) ::unlink(paths.key.c_str());
  return placed;
}

struct InitFlags {
  PairPaths paths;
  std::string name = "Sallyport root";
  int days = kRootDays;
};

int init(const InitFlags& flags) {
  auto root =
      ca::Authority::create_root(nullptr, {.name = flags.name, .lifetime = std::chrono::days(flags.days)}, now());
  if (!root) return complain(root.error().text);
  Result<void> written = write_pair(flags.paths, root->certificate_pem(), root->key());
  if (!written) return complain(written.error().text);
  std::cout << "wrote " << flags.paths.certificate << " (the certificate: clients may have it)\n"
            << "wrote " << flags.paths.key << " (the private key: whoever reads it can pose as any server to them)\n";
  return 0;
}

struct IssueFlags {
  PairPaths paths;
  std::string ca_certificate;
  std::string ca_key;
  std::vector<std::string> hosts;
  int days = kServerDays;
};

Result<ca::Authority> read_authority(const std::string& certificate_path, const std::string& key_path) {
  Result<std::string> certificate = read_file(certificate_path, limits::kCaPemBytesMax);
  if (!certificate) return std::unexpected(certificate.error());
  Result<std::string> key = read_file(key_path, limits::kCaPemBytesMax);
  if (!key) return std::unexpected(key.error());
  Result<ca::Authority> authority =
      ca::Authority::load(nullptr, {certificate_path, *certificate}, {key_path, *key}, now());
  OPENSSL_cleanse(key->data(), key->size());
  return authority;
}

Result<void> issue_into(const IssueFlags& flags) {
  std::vector<std::string> hosts;
  for (const std::string& text : flags.hosts) {
    Result<request::Host> host = request::parse_host(text, false);
    if (!host) return std::unexpected(host.error());
    hosts.push_back(std::move(host->name));
  }
  Result<ca::Authority> authority = read_authority(flags.ca_certificate, flags.ca_key);
  if (!authority) return std::unexpected(authority.error());
  Result<ca::EvpPkeyPtr> key = ca::make_p256_key(nullptr);
  if (!key) return std::unexpected(key.error());
  const std::vector<std::string_view> names(hosts.begin(), hosts.end());
  Result<ca::X509Ptr> leaf = authority->issue_leaf(names, key->get(), std::chrono::days(flags.days), now());
  if (!leaf) return std::unexpected(leaf.error());
  Result<std::string> pem = ca::chain_pem(leaf->get(), authority->chain());
  if (!pem) return std::unexpected(pem.error());
  return write_pair(flags.paths, *pem, key->get());
}

int issue(const IssueFlags& flags) {
  const Result<void> issued = issue_into(flags);
  if (!issued) return complain(issued.error().text);
  std::cout << "wrote " << flags.paths.certificate << " and " << flags.paths.key << '\n';
  return 0;
}

std::string utc(ca::TimePoint time) {
  const std::time_t seconds = time.time_since_epoch().count();
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

// Names come from a file that anybody may have made: what a terminal would obey is shown as '?'.
std::string printable(std::string_view text) {
  std::string shown(text);
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  }
  return shown;
}

void show_text(const ca::Description& certificate) {
  const auto line = [](std::string_view name, std::string_view value) {
    if (!value.empty())
      std::cout << std::string(name) << std::string(15 - name.size(), ' ') << printable(value) << '\n';
  };
  std::string names;
  for (const std::string& name : certificate.names) names += (names.empty() ? "" : ", ") + name;
  line("subject", certificate.subject.empty() ? "(empty)" : certificate.subject);
  line("issuer", certificate.self_signed ? "itself" : certificate.issuer);
  line("kind", certificate.ca ? "CA" : "server or client");
  line("names", names);
  line("not before", utc(certificate.not_before));
  line("not after", utc(certificate.not_after));
  line("key", certificate.key);
  line("serial", certificate.serial);
  line("subject key id", certificate.subject_key_id);
  line("issuer key id", certificate.authority_key_id);
  line("SHA-256", certificate.fingerprint_sha256);
  for (const std::string& problem : certificate.problems) line("problem", problem);
}

void append_list(std::string& out, const std::vector<std::string>& values) {
  out += '[';
  for (const std::string& value : values) {
    if (&value != &values.front()) out += ',';
    guard::append_json_string(out, value);
  }
  out += ']';
}

std::string to_json(const ca::Description& certificate) {
  std::string out = "{";
  const auto field = [&out](std::string_view name, std::string_view value) {
    if (out.size() > 1) out += ',';
    guard::append_json_string(out, name);
    out += ':';
    guard::append_json_string(out, value);
  };
  field("subject", certificate.subject);
  field("issuer", certificate.issuer);
  field("serial", certificate.serial);
  field("not_before", utc(certificate.not_before));
  field("not_after", utc(certificate.not_after));
  field("key", certificate.key);
  field("subject_key_id", certificate.subject_key_id);
  field("authority_key_id", certificate.authority_key_id);
  field("fingerprint_sha256", certificate.fingerprint_sha256);
  out += certificate.ca ? ",\"ca\":true" : ",\"ca\":false";
  out += certificate.self_signed ? ",\"self_signed\":true" : ",\"self_signed\":false";
  out += ",\"names\":";
  append_list(out, certificate.names);
  out += ",\"problems\":";
  append_list(out, certificate.problems);
  return out + "}";
}

struct ShowFlags {
  std::string file;
  std::string output = "text";
};

int show(const ShowFlags& flags) {
  Result<std::string> text = read_file(flags.file, limits::kCaPemBytesMax);
  if (!text) return complain(text.error().text);
  const auto certificates = ca::describe({flags.file, *text}, now());
  OPENSSL_cleanse(text->data(), text->size());  // the file may hold a key as well
  if (!certificates) return complain(certificates.error().text);
  bool first = true;
  if (flags.output == "json") std::cout << '[';
  for (const ca::Description& certificate : *certificates) {
    if (flags.output == "json") {
      std::cout << (first ? "" : ",\n ") << to_json(certificate);
    } else {
      std::cout << (first ? "" : "\n");
      show_text(certificate);
    }
    first = false;
  }
  if (flags.output == "json") std::cout << "]\n";
  return 0;
}

struct BundleFlags {
  std::string ca_certificate;
  std::string out;
  std::string pkcs12;
  bool force = false;
};

Result<std::string> read_system_roots() {
  std::string looked;
  for (const char* path : ca::kSystemRootFiles) {
    if (Result<std::string> text = read_file(path, limits::kTrustBundleBytesMax)) return text;
    looked += std::string(looked.empty() ? "" : ", ") + path;
  }
  return fail(ErrorSource::internal, ErrorKind::unavailable,
              "this system's root certificates were not found; looked for " + looked + ". Install ca-certificates");
}

Result<void> bundle_into(const BundleFlags& flags) {
  Result<std::string> ca_pem = read_file(flags.ca_certificate, limits::kCaPemBytesMax);
  if (!ca_pem) return std::unexpected(ca_pem.error());
  const auto described = ca::describe({flags.ca_certificate, *ca_pem}, now());
  if (!described) return std::unexpected(described.error());
  for (const ca::Description& certificate : *described) {
    if (!certificate.ca) {
      return fail(ErrorSource::internal, ErrorKind::invalid,
                  flags.ca_certificate + ": " + printable(certificate.subject) +
                      " is not a CA; clients would trust nothing by it");
    }
    for (const std::string& problem : certificate.problems) {
      std::cerr << "sallyport: warning: " << flags.ca_certificate << ": " << printable(certificate.subject) << ": "
                << problem << '\n';
    }
  }
  Result<std::string> roots = read_system_roots();
  if (!roots) return std::unexpected(roots.error());
  const Result<ca::TrustFiles> files = ca::make_trust_files(*roots, *ca_pem);
  if (!files) return fail(files.error().source, files.error().kind, flags.ca_certificate + ": " + files.error().text);
  if (!flags.pkcs12.empty()) {
    if (Result<void> written = write_new(flags.pkcs12, files->java_store, 0644, flags.force); !written) return written;
  }
  if (!flags.out.empty()) return write_new(flags.out, files->bundle_pem, 0644, flags.force);
  if (flags.pkcs12.empty()) std::cout << files->bundle_pem;
  return {};
}

void add_pair(CLI::App& command, PairPaths& paths) {
  command.add_option("--cert", paths.certificate, "Where the certificate goes (PEM)")->type_name("FILE")->required();
  command.add_option("--key", paths.key, "Where its private key goes (PEM, readable by you alone)")
      ->type_name("FILE")
      ->required();
  command.add_flag("--force", paths.force, "Replace files that exist");
}

void add_init(CLI::App& ca, int& exit_code) {
  auto flags = std::make_shared<InitFlags>();
  CLI::App* command = ca.add_subcommand("init", "Make a root CA: a certificate and its private key");
  add_pair(*command, flags->paths);
  command->add_option("--name", flags->name, "The CA's common name")->capture_default_str();
  command->add_option("--days", flags->days, "How long it is valid")
      ->check(CLI::Range(1, kRootDaysMax))
      ->capture_default_str();
  command->footer("Example:\n  sallyport ca init --cert root.pem --key root.key --name 'Example egress root'");
  command->callback([flags, &exit_code] { exit_code = init(*flags); });
}

void add_show(CLI::App& ca, int& exit_code) {
  auto flags = std::make_shared<ShowFlags>();
  CLI::App* command = ca.add_subcommand("show", "Show certificates, and what clients would mind about them");
  command->add_option("file", flags->file, "PEM file, or - for standard input")->type_name("FILE")->required();
  command->add_option("-o,--output", flags->output, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->footer("Example:\n  sallyport ca show root.pem -o json");
  command->callback([flags, &exit_code] { exit_code = show(*flags); });
}

void add_issue(CLI::App& ca, int& exit_code) {
  auto flags = std::make_shared<IssueFlags>();
  CLI::App* command = ca.add_subcommand("issue", "Issue a server certificate for host names or IP addresses");
  command->add_option("hosts", flags->hosts, "Host names or IP addresses, all in one certificate")
      ->type_name("HOST...")
      ->required();
  command->add_option("--ca-cert", flags->ca_certificate, "The CA's certificate (PEM)")->type_name("FILE")->required();
  command->add_option("--ca-key", flags->ca_key, "The CA's private key (PEM)")->type_name("FILE")->required();
  add_pair(*command, flags->paths);
  command->add_option("--days", flags->days, "How long it is valid, but never longer than the CA")
      ->check(CLI::Range(1, kServerDaysMax))
      ->capture_default_str();
  command->footer(
      "Example:\n  sallyport ca issue ledger.internal 10.0.0.7 --ca-cert root.pem --ca-key root.key "
      "--cert ledger.pem --key ledger.key");
  command->callback([flags, &exit_code] { exit_code = issue(*flags); });
}

void add_bundle(CLI::App& ca, int& exit_code) {
  auto flags = std::make_shared<BundleFlags>();
  CLI::App* command = ca.add_subcommand("bundle", "Put this system's roots and a CA into one file for clients");
  command->add_option("--ca-cert", flags->ca_certificate, "The CA's certificate (PEM)")->type_name("FILE")->required();
  command->add_option("--out", flags->out, "Where the bundle goes (PEM); default: standard output")->type_name("FILE");
  command->add_option("--pkcs12", flags->pkcs12, "Where a trust store for Java goes (PKCS#12, any password)")
      ->type_name("FILE");
  command->add_flag("--force", flags->force, "Replace files that exist");
  command->footer("Example:\n  sallyport ca bundle --ca-cert root.pem --out bundle.pem --pkcs12 truststore.p12");
  command->callback([flags, &exit_code] {
    const Result<void> made = bundle_into(*flags);
    exit_code = made ? 0 : complain(made.error().text);
  });
}

}  // namespace

void add_ca_command(CLI::App& app, int& exit_code) {
  CLI::App* ca = app.add_subcommand("ca", "Make and look at certificates (docs/certificates.md)");
  ca->require_subcommand(1);
  add_init(*ca, exit_code);
  add_show(*ca, exit_code);
  add_issue(*ca, exit_code);
  add_bundle(*ca, exit_code);
}

}  // namespace sallyport::cli
