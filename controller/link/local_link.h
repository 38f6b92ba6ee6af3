#pragma once
// A guard and its controller in one process (`sallyport run` without --controller): the same Envelopes, the same
// registering, spool and numbers as over the network, without a connection between.

#include <memory>

#include "controller/link/links.h"
#include "proxy/link/guard_end.h"

namespace sallyport::controller {

class LocalLink final : public link::GuardEnd {
 public:
  // The handler is called on the link's thread, and has to outlive the link.
  LocalLink(LinkHandler& handler, link::Registration registration, link::LinkHandlers handlers);
  ~LocalLink() override;

 protected:
  net::Task<void> run() override;
  void transmit(std::string_view envelope) override;
  std::size_t backlog() const override { return 0; }
  void hang_up() override;

 private:
  // The controller's way back.
  class Way final : public Links {
   public:
    explicit Way(LocalLink& link) : link_(link) {}
    bool send(LinkId link, const v1alpha1::Envelope& envelope) override;
    void send_all(std::span<const LinkId> links, const SharedEnvelope& envelope) override;
    void close(LinkId link, const v1alpha1::Refused& refused) override;

   private:
    LocalLink& link_;
  };
  void arrive(LinkId link, v1alpha1::Envelope envelope);
  net::Task<Result<void>> serve();

  LinkHandler& handler_;
  Way way_;
  LinkId id_{};
  Error end_;         // why the connection ended
  net::Event ended_;  // there is none, or it is to end
};

}  // namespace sallyport::controller
