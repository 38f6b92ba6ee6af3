#include "controller/link/link_server.h"

#include "base/limits.h"
#include "controller/link/link_loop.h"
#include "proxy/link/wire_text.h"

namespace sallyport::controller {

LinkServer::LinkServer() : counts_(std::make_unique<LinkCounts>()) {}

Result<std::unique_ptr<LinkServer>> LinkServer::start(const LinkServerOptions& options, std::vector<UniqueFd> listening,
                                                      LinkHandler& handler) {
  if (listening.empty() || listening.size() > limits::kLinkLoopsMax) {
    return fail(ErrorSource::controller, ErrorKind::invalid,
                "1 to " + std::to_string(limits::kLinkLoopsMax) + " threads can serve the link");
  }
  link::keep_protobuf_quiet();
  std::unique_ptr<LinkServer> server(new LinkServer);
  for (std::size_t i = 0; i < listening.size(); ++i) {
    auto loop = LinkLoop::create({.index = i,
                                  .handler = &handler,
                                  .way = server.get(),
                                  .counts = server->counts_.get(),
                                  .on_trouble = options.on_trouble},
                                 options);
    if (!loop) return std::unexpected(std::move(loop.error()));
    server->loops_.push_back(std::move(*loop));
  }
  for (std::size_t i = 0; i < listening.size(); ++i) server->loops_[i]->start(std::move(listening[i]));
  return server;
}

LinkServer::~LinkServer() {
  for (const auto& loop : loops_) loop->ask_to_stop();
  for (const auto& loop : loops_) loop->join();
}

Result<void> LinkServer::show(const std::string& certificates_pem, const std::string& key_pem) {
  for (const auto& loop : loops_) {
    if (auto shown = loop->show(certificates_pem, key_pem); !shown) return shown;
  }
  return {};
}

LinkLoop* LinkServer::loop_of(LinkId link) {
  const std::uint64_t index = LinkLoop::index_of(link);
  return index < loops_.size() ? loops_[index].get() : nullptr;
}

bool LinkServer::send(LinkId link, const v1alpha1::Envelope& envelope) {
  LinkLoop* loop = loop_of(link);
  return loop != nullptr && loop->send(link, envelope);
}

void LinkServer::send_all(std::span<const LinkId> links, const SharedEnvelope& envelope) {
  for (const LinkId link : links) {
    if (LinkLoop* loop = loop_of(link)) loop->send(link, envelope);
  }
}

void LinkServer::close(LinkId link, const v1alpha1::Refused& refused) {
  if (LinkLoop* loop = loop_of(link)) loop->close(link, refused);
}

}  // namespace sallyport::controller
