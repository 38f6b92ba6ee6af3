#include "controller/link/links.h"

#include "proxy/http1/websocket_endpoint.h"

namespace sallyport::controller {

using v1alpha1::Envelope;

SharedEnvelope::SharedEnvelope(const Envelope& envelope) : header_bytes_(0) {
  const std::string payload = envelope.SerializeAsString();
  auto frame = std::make_shared<const std::string>(http1::WebSocketEndpoint::frame(payload));
  header_bytes_ = frame->size() - payload.size();
  frame_ = std::move(frame);
}

Speaker speaker_of(const Envelope& envelope) {
  switch (envelope.body_case()) {
    case Envelope::kRegister:
    case Envelope::kEntryAsk:
    case Envelope::kEvents:
    case Envelope::kUpdateTaken:
    case Envelope::kBeat:
    case Envelope::kLeaseAsk:
    case Envelope::kRenew:
    case Envelope::kGoodbye:
      return Speaker::guard;
    case Envelope::kRegistered:
    case Envelope::kRefused:
    case Envelope::kEntryAnswer:
    case Envelope::kEventsTaken:
    case Envelope::kUpdate:
    case Envelope::kHalt:
    case Envelope::kLease:
    case Envelope::kRenewed:
      return Speaker::controller;
    case Envelope::BODY_NOT_SET:
      break;
  }
  return Speaker::unknown;
}

}  // namespace sallyport::controller
