#pragma once
// The controller's seam to its guards: who handles what they say, and the way back to them. A guard is linked over the
// network (LinkServer) or in the same process (LocalLink); the handler need not know which.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "controller/api/link.pb.h"

namespace sallyport::controller {

// One connection of a guard, from Register on. Never used twice in a process.
enum class LinkId : std::uint64_t {};

// An Envelope that is serialised once, however many guards it goes to.
class SharedEnvelope {
 public:
  explicit SharedEnvelope(const v1alpha1::Envelope& envelope);
  // As a frame of a WebSocket, from a server.
  const std::shared_ptr<const std::string>& frame() const { return frame_; }
  std::string_view payload() const { return std::string_view(*frame_).substr(header_bytes_); }

 private:
  std::shared_ptr<const std::string> frame_;
  std::size_t header_bytes_;
};

// All of it from any thread. What is said to a link that has ended goes nowhere: its handler has been told, or will be.
class Links {
 public:
  Links() = default;
  Links(const Links&) = delete;
  Links& operator=(const Links&) = delete;
  virtual ~Links() = default;

  // In order, for the calls of one thread. False if it can't be sent: it is larger than limits::kLinkMessageBytesMax,
  // or too much waits to be sent, in which case the link is cut. A Registered makes the link one of a guard: only then
  // is anything more taken from it.
  virtual bool send(LinkId link, const v1alpha1::Envelope& envelope) = 0;
  virtual void send_all(std::span<const LinkId> links, const SharedEnvelope& envelope) = 0;
  // Says why, and closes.
  virtual void close(LinkId link, const v1alpha1::Refused& refused) = 0;
};

// Called on the link's thread, one call after the other for each link; different links may be on different threads. No
// call may wait: other guards would wait with it.
class LinkHandler {
 public:
  LinkHandler() = default;
  LinkHandler(const LinkHandler&) = delete;
  LinkHandler& operator=(const LinkHandler&) = delete;
  virtual ~LinkHandler() = default;

  // A guard that speaks this version wants to be registered. It is answered by a Registered, or by close(), within
  // limits::kLinkRegisterTimeout of its connection, from here or from another thread. `way` outlives the link.
  virtual void connected(Links& way, LinkId link, v1alpha1::Register&& wanted) = 0;
  // Only what a guard may say, of what this version knows, and only once it is registered.
  virtual void received(LinkId link, v1alpha1::Envelope&& envelope) = 0;
  // Once for each that was connected(); nothing comes of it behind this. `why` is for a person.
  virtual void closed(LinkId link, const std::string& why) = 0;
};

// Whether an Envelope may come from a guard once it is registered. A body that is not known is neither one's.
enum class Speaker : std::uint8_t { guard, controller, unknown };
Speaker speaker_of(const v1alpha1::Envelope& envelope);

inline constexpr std::uint32_t kLinkVersion = 1;
inline constexpr std::string_view kLinkPath = "/v1/link";

}  // namespace sallyport::controller
