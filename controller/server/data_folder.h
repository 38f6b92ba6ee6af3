#pragma once
// What the controller makes for itself in its data folder when nobody gives it: a CA and a certificate, and the token
// of the first administrator.

#include <string>
#include <vector>

#include "base/error.h"

namespace sallyport::controller {

struct OwnIdentity {
  std::string certificates_pem, key_pem;  // of a server with these names, and this machine's; made anew at each start
  std::string ca_file;                    // what guards and administrators trust
};
// The CA is in ca.pem and ca.key, which are made if they are missing. Errors name the file and the remedy.
Result<OwnIdentity> own_identity(const std::string& folder, const std::vector<std::string>& names);

// The content of admin-token, which is made if it is missing.
Result<std::string> own_admin_token(const std::string& folder);

}  // namespace sallyport::controller
