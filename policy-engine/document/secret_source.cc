#include "policy-engine/document/secret_source.h"

namespace sallyport::document {

std::optional<Result<credentials::Secret>> read_source(const policy::v1alpha1::SecretSource& source, Place place,
                                                       const SecretSources& secrets, Diagnostics& diagnostics) {
  const SecretRef reference{source.file(), source.env(), source.store()};
  if (reference.file.empty() && reference.env.empty() && reference.store.empty()) {
    diagnostics.error(place, "the secret's source has no name", "a file, or a variable of the guard");
    return std::nullopt;
  }
  if (!reference.store.empty() && secrets.stored != nullptr) secrets.stored->insert(reference.store);
  if (!secrets.reads()) return std::nullopt;
  if (!reference.store.empty() && !secrets.controller) {
    diagnostics.error(place, "the secret " + quoted(reference.store) + " is kept by a controller, and there is none",
                      "run with --controller, or name a file or a variable: {file: PATH} or {env: NAME}");
    return std::nullopt;
  }
  return (*secrets.reader)(reference);
}

}  // namespace sallyport::document
