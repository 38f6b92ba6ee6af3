#pragma once
// What a Snapshot looks hosts up in. Apart from the snapshot's header, which everybody includes.

#include "policy-engine/document/host_index.h"
#include "policy-engine/document/snapshot.h"

namespace sallyport::document {

struct Snapshot::Index {
  HostIndex hosts;
};

}  // namespace sallyport::document
