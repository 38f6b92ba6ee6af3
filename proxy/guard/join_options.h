#pragma once
// The flags of join.h, for the two programs that have them.

#include <CLI/CLI.hpp>

#include "proxy/guard/join.h"

namespace sallyport::guard {

inline void add_join_options(CLI::App& app, JoinFlags& flags) {
  app.add_option("--controller", flags.controller,
                 "Be a member of an application: its controller gives the policy (docs/membership.md)")
      ->type_name("wss://HOST:PORT");
  app.add_option("--controller-ca", flags.controller_ca, "What the controller's certificate must chain to (PEM)")
      ->type_name("FILE");
  app.add_option("--application", flags.application, "The application that the function is of")->type_name("NAME");
  app.add_option("--function", flags.function, "The function's name in it")->type_name("NAME");
  app.add_option("--instance", flags.instance, "Of the function; default: random")->type_name("ID");
  app.add_option("--join-token-file", flags.join_token_file,
                 "The controller's token for the function; or in SALLYPORT_JOIN_TOKEN")
      ->type_name("FILE");
  app.add_option("--service-account-token-file", flags.service_account_token_file,
                 "The pod's token for the controller, instead of a join token")
      ->type_name("FILE");
}

}  // namespace sallyport::guard
