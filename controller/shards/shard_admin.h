#pragma once
// Calls of administration where several controllers share the applications: each answers all of them, by asking
// whoever has the application, with the caller's own token; and what is of all applications is gathered from all.

#include <string>

#include "controller/admin/admin_api.h"
#include "controller/shards/shards.h"
#include "proxy/net/loop.h"

namespace sallyport::controller {

class ShardAdmin {
 public:
  // `ca_file`: what the others' certificates must chain to; empty: the system's roots. Both outlive this.
  ShardAdmin(Shards& shards, const AdminApi& api, std::string ca_file)
      : shards_(shards), api_(api), ca_file_(std::move(ca_file)) {}

  // One that AdminApi::check has let through. 503 with Retry-After where somebody who is needed can't be asked: part of
  // an answer is none.
  net::Task<AdminAnswer> answer(net::Loop& loop, const AdminRequest& request) const;

 private:
  net::Task<AdminAnswer> answer_of(net::Loop& loop, const AdminRequest& request, std::string application) const;
  net::Task<AdminAnswer> answer_of_all(net::Loop& loop, const AdminRequest& request) const;
  net::Task<AdminAnswer> pass_on(net::Loop& loop, const AdminRequest& request, Replica to) const;

  Shards& shards_;
  const AdminApi& api_;
  const std::string ca_file_;
};

}  // namespace sallyport::controller
