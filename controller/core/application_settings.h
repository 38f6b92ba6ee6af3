#pragma once
// The settings of an application (controller/api/application.proto), read and checked.

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "controller/api/application.pb.h"
#include "controller/api/link.pb.h"
#include "policy-engine/document/load.h"

namespace sallyport::controller {

// What guards of a function are told of it.
struct FunctionSettings {
  v1alpha1::EntryCheck entry_check = v1alpha1::ENTRY_CHECK_UNSPECIFIED;  // as the application graph has it
  v1alpha1::OnControllerLoss on_controller_loss = v1alpha1::ON_CONTROLLER_LOSS_DENY;
};

class ApplicationSettings {
 public:
  ApplicationSettings() = default;
  // The document is taken to be good.
  explicit ApplicationSettings(const v1alpha1::Application& document);

  FunctionSettings of(std::string_view function) const;
  // Whether pods of the service account, "NAMESPACE/NAME", are instances of the function.
  bool believes(std::string_view function, std::string_view account) const;
  // What counts the requests of the function.
  std::vector<v1alpha1::Limit> limits_of(std::string_view function) const;
  struct Limit {
    v1alpha1::Limit limit;
    std::vector<std::string> functions;  // empty: all
  };
  std::vector<Limit> limits() const;
  std::uint32_t lifetime_s() const { return lifetime_s_; }
  std::chrono::seconds certificate_lifetime() const { return certificate_lifetime_; }

 private:
  v1alpha1::Application document_;
  std::uint32_t lifetime_s_ = 0;
  std::chrono::seconds certificate_lifetime_ = limits::kGuardCertificateLifetime;
};

struct ApplicationSettingsLoad {
  std::optional<ApplicationSettings> settings;  // nothing if there was any error
  std::vector<document::Diagnostic> diagnostics;
};

// `application` is what it must be named. Errors: what message_reader.h refuses, names that are none or given twice,
// rates, spans of time and requests that are none.
ApplicationSettingsLoad load_application_settings(std::string_view yaml, const std::string& file,
                                                  const std::string& application);

// Of an application that has none: everything as its default says.
std::string blank_application_settings(const std::string& application);

}  // namespace sallyport::controller
