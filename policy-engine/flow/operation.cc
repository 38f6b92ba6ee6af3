#include "policy-engine/flow/operation.h"

namespace sallyport::flow {

std::string to_string(const Operation& operation) {
  std::string out(operation.method);
  out.append(1, ' ').append(operation.host).append(operation.path);
  if (!operation.query.empty()) out.append(1, '?').append(operation.query);
  if (!operation.action.empty()) out.append(" (").append(operation.action).append(1, ')');
  return out;
}

}  // namespace sallyport::flow
