#pragma once
// The environment variables that make clients trust the guard's CA. What the user has set is respected: its
// certificates stay trusted, and no others are added but the CA.

#include <string>
#include <utility>
#include <vector>

namespace sallyport::ca {

// Paths as the command sees them.
struct TrustPaths {
  std::string bundle;      // TrustFiles::bundle_pem
  std::string ca;          // TrustFiles::ca_pem
  std::string java_store;  // TrustFiles::java_store
  std::string
      php_ini_directory;        // holds one file *.ini with php_ini(bundle); empty: PHP's own settings are not touched
  std::string merge_directory;  // where the merged files go
};

// A variable names a file of the user's. The caller writes add_to_bundle(content of user_path, CA) to merged_path and
// then sets the variables to merged_path; when user_path can't be read or is a directory it leaves them as they are and
// says that these clients will not trust the guard.
struct TrustMerge {
  std::string user_path;
  std::string merged_path;
  std::vector<std::string> variables;
};

struct TrustEnvironment {
  std::vector<std::pair<std::string, std::string>> variables;  // to set
  std::vector<TrustMerge> merges;
  std::vector<std::string> kept;  // variables of the user's that can't be merged: worth a warning
};

// `environment` is NULL-terminated "NAME=value" strings, like ::environ. A variable that is set to the empty string
// counts as not set.
TrustEnvironment trust_environment(const TrustPaths& paths, const char* const* environment);

// The text of the file in php_ini_directory.
std::string php_ini(const std::string& bundle_path);

}  // namespace sallyport::ca
