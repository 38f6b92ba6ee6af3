#pragma once
// The operations that a GraphQL document defines (GraphQL specification, October 2021, section 2), by name.

#include <string_view>
#include <vector>

#include "base/error.h"

namespace sallyport::action {

// One entry for each operation, in order; empty for one without a name. Views into the document. Only as much is read
// as it takes to tell definitions apart: strings, comments and brackets are. ErrorKind::malformed for what is no
// document as far as that.
Result<std::vector<std::string_view>> operation_names(std::string_view document);

bool is_graphql_name(std::string_view text);

}  // namespace sallyport::action
