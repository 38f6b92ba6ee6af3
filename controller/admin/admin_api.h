#pragma once
// The calls of administration (docs/openapi.yaml) of a Controller: who may make them, what they mean, what they
// answer.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "controller/admin/admin_server.h"
#include "controller/core/controller.h"

namespace sallyport::controller {

enum class Role : std::uint8_t {
  viewer,  // sees everything but secrets
  editor,  // changes it
};

// Somebody who administers. Only the SHA-256 of the token is kept in memory.
struct Administrator {
  std::string name;  // in the audit trail
  Role role = Role::viewer;
  std::array<unsigned char, 32> token_hash{};
};
// ErrorKind::invalid: shorter than 24 bytes, so that it could be guessed.
Result<Administrator> make_administrator(std::string name, Role role, std::string_view token);

class AdminApi {
 public:
  explicit AdminApi(std::vector<Administrator> administrators) : administrators_(std::move(administrators)) {}

  // What refuses the request before its body is read: no token that is known, or a change by a viewer.
  std::optional<AdminAnswer> check(const AdminRequest& request) const;
  // One that check() has let through.
  AdminAnswer answer(Controller& controller, const AdminRequest& request) const;

 private:
  struct Call;
  struct Route;
  static const std::vector<Route>& routes();
  const Administrator* find(const std::string& token) const;

  const std::vector<Administrator> administrators_;
};

}  // namespace sallyport::controller
