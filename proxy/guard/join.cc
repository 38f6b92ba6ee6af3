#include "proxy/guard/join.h"

#include <openssl/crypto.h>

#include <array>
#include <cstdlib>
#include <utility>

#include "base/hex.h"
#include "base/limits.h"
#include "base/random.h"
#include "base/read_file.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/names.h"

namespace sallyport::guard {
namespace {

// How a guard proves who it is.
class Token {
 public:
  static Result<Token> of(const JoinFlags& flags) {
    Token token;
    token.service_account_ = !flags.service_account_token_file.empty();
    token.file_ = token.service_account_ ? flags.service_account_token_file : flags.join_token_file;
    if (token.file_.empty()) {
      const char* const value = std::getenv(kJoinTokenVariable);
      Result<credentials::Secret> kept = credentials::Secret::from_source(value, kJoinTokenVariable);
      if (!kept) return std::unexpected(kept.error());
      token.value_ = std::make_shared<const credentials::Secret>(std::move(*kept));
    }
    link_api::Register probe;
    const Result<void> read = token.put_into(probe);
    if (!read) return std::unexpected(read.error());
    return token;
  }

  Result<void> put_into(link_api::Register& out) const {
    if (value_) {
      out.set_join_token(std::string(value_->view()));
      return {};
    }
    Result<std::string> text = read_file(file_, limits::kJoinTokenBytesMax);
    if (!text) return std::unexpected(text.error());
    Result<credentials::Secret> token = credentials::Secret::from_source(*text, file_);
    OPENSSL_cleanse(text->data(), text->size());
    if (!token) return std::unexpected(token.error());
    if (service_account_) {
      out.set_service_account_token(std::string(token->view()));
    } else {
      out.set_join_token(std::string(token->view()));
    }
    return {};
  }

 private:
  bool service_account_ = false;
  std::string file_;                                  // empty: value_
  std::shared_ptr<const credentials::Secret> value_;  // of the variable
};

Result<std::string> instance_of(const JoinFlags& flags) {
  if (!flags.instance.empty()) return flags.instance;
  std::array<unsigned char, 16> bytes{};
  if (!random_bytes(bytes)) {
    return fail(ErrorSource::internal, ErrorKind::unavailable, "no random bytes for the name of this instance");
  }
  return to_hex(bytes);
}

link::Registration registration(const JoinFlags& flags, std::string instance, std::string image_digest, Token token,
                                Membership& membership) {
  return [&membership, application = flags.application, function = flags.function, instance = std::move(instance),
          digest = std::move(image_digest), token = std::move(token)]() -> Result<link_api::Register> {
    link_api::Register out;
    out.set_application(application);
    out.set_function(function);
    out.set_instance(instance);
    out.set_image_digest(digest);
    out.set_certificate_request(membership.certificate_request());
    const Result<void> read = token.put_into(out);
    if (!read) return std::unexpected(read.error());
    return out;
  };
}

// The first flag that is given and says nothing without a controller.
std::optional<std::string> without_controller(const JoinFlags& flags) {
  const std::pair<const char*, const std::string*> each[] = {
      {"--controller-ca", &flags.controller_ca},
      {"--application", &flags.application},
      {"--function", &flags.function},
      {"--instance", &flags.instance},
      {"--join-token-file", &flags.join_token_file},
      {"--service-account-token-file", &flags.service_account_token_file},
  };
  for (const auto& [flag, value] : each) {
    if (!value->empty()) return std::string(flag) + " says nothing without --controller wss://HOST:PORT";
  }
  return std::nullopt;
}

std::optional<std::string> objection_to_token(const JoinFlags& flags) {
  const bool join = !flags.join_token_file.empty(), account = !flags.service_account_token_file.empty();
  if (join && account) return "--join-token-file and --service-account-token-file exclude each other";
  if (join || account || std::getenv(kJoinTokenVariable) != nullptr) return std::nullopt;
  return "--controller needs --join-token-file FILE, " + std::string(kJoinTokenVariable) +
         " in the environment, or --service-account-token-file FILE: how the controller knows this guard";
}

}  // namespace

std::optional<std::string> objection_to(const JoinFlags& flags, const std::vector<std::string>& others) {
  if (!flags.given()) return without_controller(flags);
  if (!others.empty()) return others.front() + " and --controller exclude each other: the controller gives the policy";
  const auto url = link::parse_controller_url(flags.controller);
  if (!url) return "--controller: " + url.error().text;
  if (flags.application.empty() || flags.function.empty()) {
    return "--controller needs --application NAME and --function NAME: as whom to register";
  }
  if (auto wrong = objection_to_names(flags)) return wrong;
  return objection_to_token(flags);
}

std::optional<std::string> objection_to_names(const JoinFlags& flags) {
  if (!flags.application.empty() && !document::is_label(flags.application)) {
    return "--application " + document::quoted(flags.application) +
           " is not valid: up to 63 of a-z, 0-9, '.', '_' and '-', starting and ending with a letter or digit";
  }
  if (!flags.function.empty() && !document::is_subdomain(flags.function)) {
    return "--function " + document::quoted(flags.function) +
           " is not valid: up to 253 of a-z, 0-9, '.' and '-', starting and ending with a letter or digit";
  }
  if (!flags.instance.empty() && !document::is_subdomain(flags.instance)) {
    return "--instance " + document::quoted(flags.instance) +
           " is not valid: up to 253 of a-z, 0-9, '.' and '-', starting and ending with a letter or digit";
  }
  return std::nullopt;
}

Result<std::unique_ptr<Joined>> Joined::begin(const JoinFlags& flags, const PolicyContext& context, OSSL_LIB_CTX* lib) {
  Result<link::RemoteOptions> options = link::parse_controller_url(flags.controller);
  if (!options) return std::unexpected(options.error());
  options->ca_file = flags.controller_ca;
  Result<Token> token = Token::of(flags);
  if (!token) {
    return fail(ErrorSource::controller, ErrorKind::invalid, "the token for the controller: " + token.error().text);
  }
  Result<std::string> instance = instance_of(flags);
  if (!instance) return std::unexpected(instance.error());
  std::optional<MemberCertificate> certificate;
  if (lib != nullptr) {
    Result<MemberCertificate> made = MemberCertificate::create(lib);
    if (!made) return std::unexpected(made.error());
    certificate = std::move(*made);
  }
  std::unique_ptr<Joined> joined(
      new Joined({{flags.application, flags.function}, context, flags.controller}, std::move(certificate)));
  Membership& membership = joined->membership_;
  auto link = link::RemoteLink::start(
      std::move(*options),
      registration(flags, std::move(*instance), context.image_digest, std::move(*token), membership),
      membership.handlers());
  if (!link) return std::unexpected(link.error());
  joined->link_ = std::move(*link);
  joined->membership_.attach(*joined->link_);
  return joined;
}

}  // namespace sallyport::guard
