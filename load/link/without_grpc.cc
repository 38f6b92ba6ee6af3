// In place of grpc.cc, where gRPC's library is not installed: then there is nothing to compare with.

#include "load/link/link_load.h"

namespace sallyport::load {

bool has_grpc() { return false; }

Calls grpc_calls(const std::string&, const std::string&, const std::string&, const std::string&, unsigned, unsigned,
                 double) {
  return {};
}

}  // namespace sallyport::load
