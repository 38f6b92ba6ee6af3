#pragma once
// One direction of a connection of HTTP/2 (RFC 9113) as it stands in the bytes, read with nothing of the code under
// test but nghttp2's HPACK. What a fuzzer has sent is read leniently, as far as it means something: what the guard
// makes of it may be less, never more or different. What the guard has sent is read strictly: each frame must be one
// that it may send.

#include <nghttp2/nghttp2.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proxy/net/loop.h"
#include "tests/fuzz/require.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/allocator_interface.h>
#define SALLYPORT_COUNTS_MEMORY 1
#endif
#endif

namespace sallyport::fuzz {

// Bytes that are allocated now; 0 where nobody counts them.
inline std::size_t allocated_bytes() {
#ifdef SALLYPORT_COUNTS_MEMORY
  return __sanitizer_get_current_allocated_bytes();
#else
  return 0;
#endif
}

using Fields = std::vector<std::pair<std::string, std::string>>;

inline std::string_view value_of(const Fields& fields, std::string_view name) {
  const auto found = std::ranges::find(fields, name, &Fields::value_type::first);
  return found == fields.end() ? std::string_view() : std::string_view(found->second);
}

inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum class Trust : std::uint8_t { fuzzed_server, fuzzed_client, guard_as_server, guard_as_client };

class Wire {
 public:
  struct Stream {
    std::vector<Fields> informational;
    Fields head, trailers;
    bool begun = false;  // its first header block has begun
    bool has_head = false, has_trailers = false, ended = false, reset = false;
    std::string body;
    std::uint64_t window_used = 0;
    std::uint64_t granted = 0;  // to the other direction
  };

  // `other`: the opposite direction, for the guard's; may be null else.
  Wire(Trust trust, const Wire* other) : trust_(trust), other_(other) {
    require(nghttp2_hd_inflate_new(&inflater_) == 0, "there is memory");
  }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  ~Wire() { nghttp2_hd_inflate_del(inflater_); }

  void feed(std::string_view bytes) {
    if (broken_) return;
    buffer_ += bytes;
    if (from_client() && !skip_preface()) return;
    constexpr std::size_t kHeader = 9;
    while (!broken_ && buffer_.size() >= kHeader) {
      const std::size_t size = static_cast<std::size_t>(number(buffer_, 0, 3));
      if (strict()) must(size <= 16'384, "a frame is no larger than the peer takes");
      if (buffer_.size() < kHeader + size) return;
      const std::string frame = buffer_.substr(0, kHeader + size);
      buffer_.erase(0, kHeader + size);
      ++frames_;
      take(static_cast<std::uint8_t>(frame[3]), static_cast<std::uint8_t>(frame[4]),
           static_cast<std::uint32_t>(number(frame, 5, 4) & 0x7fffffff), std::string_view(frame).substr(kHeader));
    }
  }

  const std::map<std::uint32_t, Stream>& streams() const { return streams_; }
  // Where what was read means nothing any more: what follows was not looked at.
  bool broken() const { return broken_; }
  bool went_away() const { return went_away_; }

 private:
  bool strict() const { return trust_ == Trust::guard_as_server || trust_ == Trust::guard_as_client; }
  bool from_client() const { return trust_ == Trust::fuzzed_client || trust_ == Trust::guard_as_client; }

  static std::uint64_t number(std::string_view bytes, std::size_t at, std::size_t count) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    return value;
  }

  // Of the guard a promise; of a stranger the end of what can be understood.
  bool must(bool kept, const char* promise) {
    if (strict()) require(kept, promise);
    if (!kept) broken_ = true;
    return kept;
  }

  bool skip_preface() {
    if (preface_seen_) return true;
    if (buffer_.size() < kPreface.size()) return false;
    if (!must(buffer_.starts_with(kPreface), "a client begins with the preface")) return false;
    buffer_.erase(0, kPreface.size());
    return preface_seen_ = true;
  }

  void take(std::uint8_t type, std::uint8_t flags, std::uint32_t id, std::string_view payload) {
    if (strict() && frames_ == 1)
      require(type == NGHTTP2_SETTINGS && (flags & NGHTTP2_FLAG_ACK) == 0, "SETTINGS come first");
    const bool continues = type == NGHTTP2_CONTINUATION;
    if (!must(continues == (block_of_ != 0) && (!continues || id == block_of_), "a header block stays together"))
      return;
    switch (type) {
      case NGHTTP2_DATA:
        return take_data(flags, id, payload);
      case NGHTTP2_HEADERS:
        return begin_block(flags, id, payload);
      case NGHTTP2_CONTINUATION:
        return add_to_block(flags, payload);
      case NGHTTP2_RST_STREAM:
        if (strict() && id % 2 == 1) check_known(id);
        if (strict())
          require(id % 2 == 1 || trust_ == Trust::guard_as_client, "only a server's push has an even number");
        streams_[id].reset = true;
        return;
      case NGHTTP2_WINDOW_UPDATE:
        return take_window_update(id, payload);
      case NGHTTP2_SETTINGS:
        return take_settings(flags, payload);
      case NGHTTP2_PING:
        return take_ping(flags, payload);
      case NGHTTP2_GOAWAY:
        if (strict()) require(id == 0 && payload.size() >= 8, "GOAWAY is one");
        went_away_ = true;
        return;
      default:
        if (strict()) require(false, "nothing else is sent");
    }
  }

  // A stream that the other side has opened, or, for a client, that it has opened itself.
  void check_known(std::uint32_t id) {
    const auto& opened = trust_ == Trust::guard_as_server ? other_->streams_ : streams_;
    const auto found = opened.find(id);
    require(found != opened.end() && found->second.begun, "a stream was asked for");
    require(id % 2 == 1, "a client has opened it");
  }

  // Cuts off what pads the payload.
  std::string_view unpadded(std::uint8_t flags, std::string_view payload) {
    if ((flags & NGHTTP2_FLAG_PADDED) == 0) return payload;
    if (!must(!payload.empty(), "padding has a length")) return {};
    const std::size_t padding = static_cast<unsigned char>(payload[0]);
    if (!must(padding < payload.size(), "padding is shorter than its frame")) return {};
    return payload.substr(1, payload.size() - 1 - padding);
  }

  void take_data(std::uint8_t flags, std::uint32_t id, std::string_view payload) {
    Stream& stream = streams_[id];
    if (strict()) {
      check_known(id);
      require(stream.has_head && !stream.ended && !stream.reset, "DATA belongs to a message that goes on");
      stream.window_used += payload.size();
      window_used_ += payload.size();
      const auto theirs = other_->streams_.find(id);
      const std::uint64_t granted = theirs == other_->streams_.end() ? 0 : theirs->second.granted;
      require(stream.window_used <= other_->initial_window_max_ + granted, "a stream's window is kept to");
      require(window_used_ <= 65'535 + other_->granted_, "the connection's window is kept to");
    }
    const std::string_view data = unpadded(flags, payload);
    // Wrong padding ends the connection, but not on a stream that has ended already: nobody looks at it there.
    if (!strict()) broken_ = false;
    if (stream.ended) return;
    stream.body += data;
    stream.ended = (flags & NGHTTP2_FLAG_END_STREAM) != 0;
  }

  void begin_block(std::uint8_t flags, std::uint32_t id, std::string_view payload) {
    payload = unpadded(flags, payload);
    if (broken_) return;
    if ((flags & NGHTTP2_FLAG_PRIORITY) != 0) {
      if (!must(payload.size() >= 5, "a priority is whole")) return;
      payload.remove_prefix(5);
    }
    streams_[id].begun = true;
    block_of_ = id;
    block_ends_stream_ = (flags & NGHTTP2_FLAG_END_STREAM) != 0;
    block_.clear();
    add_to_block(flags, payload);
  }

  void add_to_block(std::uint8_t flags, std::string_view payload) {
    block_ += payload;
    if ((flags & NGHTTP2_FLAG_END_HEADERS) == 0) return;
    Fields fields;
    const bool read = inflate(fields);
    const std::uint32_t id = std::exchange(block_of_, 0);
    if (must(read, "a header block is HPACK")) take_fields(id, std::move(fields));
  }

  bool inflate(Fields& fields) {
    const auto* at = reinterpret_cast<const std::uint8_t*>(block_.data());
    std::size_t left = block_.size();
    while (true) {
      nghttp2_nv field;
      int flags = 0;
      const ssize_t used = nghttp2_hd_inflate_hd2(inflater_, &field, &flags, at, left, 1);
      if (used < 0) return false;
      at += used;
      left -= static_cast<std::size_t>(used);
      const bool emitted = (flags & NGHTTP2_HD_INFLATE_EMIT) != 0;
      // A block may be a bomb: what nobody keeps need not be kept here either.
      if (emitted && fields.size() < 1'000 && field.valuelen < 100'000) {
        fields.emplace_back(std::string(reinterpret_cast<const char*>(field.name), field.namelen),
                            std::string(reinterpret_cast<const char*>(field.value), field.valuelen));
      }
      if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) return nghttp2_hd_inflate_end_headers(inflater_) == 0;
      if (used == 0 && !emitted) return false;
    }
  }

  void take_fields(std::uint32_t id, Fields fields) {
    Stream& stream = streams_[id];
    if (strict()) check_fields(id, stream, fields);
    const std::string_view status = value_of(fields, ":status");
    if (!stream.has_head && status.size() == 3 && status[0] == '1') {
      stream.informational.push_back(std::move(fields));
    } else if (!stream.has_head) {
      stream.has_head = true;
      stream.head = std::move(fields);
    } else if (!stream.has_trailers) {
      stream.has_trailers = true;
      stream.trailers = std::move(fields);
    }
    if (!stream.ended) stream.ended = block_ends_stream_;
  }

  void check_fields(std::uint32_t id, const Stream& stream, const Fields& fields) {
    if (trust_ == Trust::guard_as_server) check_known(id);
    if (trust_ == Trust::guard_as_client && !stream.has_head) {
      require(id % 2 == 1 && id > last_opened_, "streams are opened in order");
      last_opened_ = id;
    }
    require(!stream.ended && !stream.reset && !stream.has_trailers, "nothing follows the end of a message");
    require(!stream.has_head || block_ends_stream_, "trailers are the end");
    bool regular = false;
    std::size_t lengths = 0;
    for (const auto& [name, value] : fields) {
      const bool pseudo = name.starts_with(':');
      require(!pseudo || (!regular && !stream.has_head), "pseudo-header fields come first, and not in trailers");
      regular = regular || !pseudo;
      const auto* text = reinterpret_cast<const std::uint8_t*>(name.data()) + (pseudo ? 1 : 0);
      require(nghttp2_check_header_name(text, name.size() - (pseudo ? 1 : 0)) != 0, "a name is one for HTTP/2");
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(value.data());
      require(nghttp2_check_header_value_rfc9113(bytes, value.size()) != 0, "a value is one for HTTP/2");
      for (const std::string_view bad : {"connection", "transfer-encoding", "upgrade", "keep-alive", "host"}) {
        require(name != bad, "no field belongs to HTTP/1");
      }
      if (name == "content-length") ++lengths;
    }
    require(lengths <= 1, "there is one length at most");
    if (stream.has_head) return;
    const bool response = trust_ == Trust::guard_as_server;
    const std::string_view status = value_of(fields, ":status");
    require(response ? status.size() == 3 && status != "101" : !value_of(fields, ":path").empty(), "a head is one");
    require(!(response && status[0] == '1' && block_ends_stream_), "an informational response is not the end");
  }

  void take_window_update(std::uint32_t id, std::string_view payload) {
    if (payload.size() != 4) return;  // the guard ends the connection there
    if (strict() && id != 0) check_known(id);
    const std::uint64_t count = number(payload, 0, 4) & 0x7fffffff;
    if (strict()) require(count > 0, "a window grows by something");
    (id == 0 ? granted_ : streams_[id].granted) += count;
  }

  void take_settings(std::uint8_t flags, std::string_view payload) {
    if ((flags & NGHTTP2_FLAG_ACK) != 0) {
      if (strict()) require(++settings_acknowledged_ <= other_->settings_, "what is acknowledged was sent");
      return;
    }
    ++settings_;
    for (std::size_t at = 0; at + 6 <= payload.size(); at += 6) {
      const std::uint64_t value = number(payload, at + 2, 4);
      if (number(payload, at, 2) == NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE) {
        initial_window_max_ = std::max(initial_window_max_, value);
      }
    }
  }

  void take_ping(std::uint8_t flags, std::string_view payload) {
    const bool answer = (flags & NGHTTP2_FLAG_ACK) != 0;
    if (!strict()) {
      if (!answer) pings_.emplace_back(payload);
      return;
    }
    require(answer && pings_answered_ < other_->pings_.size(), "pings are answered, and not sent");
    require(other_->pings_[pings_answered_++] == payload, "an answer has what the ping had");
  }

  Trust trust_;
  const Wire* other_;
  nghttp2_hd_inflater* inflater_ = nullptr;
  std::string buffer_, block_;
  std::uint32_t block_of_ = 0;  // the stream of the header block that is under way
  bool block_ends_stream_ = false;
  bool preface_seen_ = false, broken_ = false, went_away_ = false;
  std::size_t frames_ = 0, settings_ = 0, settings_acknowledged_ = 0, pings_answered_ = 0;
  std::uint32_t last_opened_ = 0;
  std::uint64_t window_used_ = 0, granted_ = 0, initial_window_max_ = 65'535;
  std::vector<std::string> pings_;
  std::map<std::uint32_t, Stream> streams_;
};

// What a fuzzed peer does next. A frame stands in an input with a shorter header than on the wire: type, flags, stream,
// and length are a byte each. Other types are steps of their own.
struct Step {
  enum class Kind : std::uint8_t { bytes, pause, toggle_reading, signal };
  Kind kind = Kind::bytes;
  std::string bytes;
};

inline std::string frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream, std::string_view payload) {
  const std::size_t size = payload.size();
  std::string made{static_cast<char>(size >> 16), static_cast<char>(size >> 8), static_cast<char>(size),
                   static_cast<char>(type), static_cast<char>(flags)};
  for (int shift = 24; shift >= 0; shift -= 8) made += static_cast<char>(stream >> shift);
  return made.append(payload);
}

inline Step next_step(std::string_view& input) {
  constexpr std::uint8_t kRaw = 10, kLarge = 11, kPause = 12, kToggle = 13, kSignal = 14, kKinds = 15;
  std::array<std::uint8_t, 4> header{};
  for (std::uint8_t& byte : header) {
    if (input.empty()) break;
    byte = static_cast<std::uint8_t>(input[0]);
    input.remove_prefix(1);
  }
  const std::uint8_t kind = header[0] % kKinds;
  if (kind == kPause) return {Step::Kind::pause, {}};
  if (kind == kToggle) return {Step::Kind::toggle_reading, {}};
  if (kind == kSignal) return {Step::Kind::signal, {}};
  if (kind == kLarge) {
    return {Step::Kind::bytes, frame(NGHTTP2_DATA, header[1], header[2], std::string(header[3] * 64u, 'x'))};
  }
  const std::string_view payload = input.substr(0, header[3]);
  input.remove_prefix(payload.size());
  if (kind == kRaw) return {Step::Kind::bytes, std::string(payload)};
  return {Step::Kind::bytes, frame(kind, header[1], header[2], payload)};
}

// The fuzzed end of a connection.
class Peer {
 public:
  Peer(net::Loop& loop, int fd, Wire& said, Wire& heard) : loop_(loop), fd_(fd), said_(said), heard_(heard) {}

  // Lets the guard do what it can with what it has got; what it says is read meanwhile, unless reading is off.
  net::Task<void> settle() {
    for (int quiet = 0; quiet < 4;) {
      co_await loop_.yield();
      quiet = reading && listen() ? 0 : quiet + 1;
      peak_ = std::max(peak_, allocated_bytes());
    }
  }

  // Gives up when the guard takes nothing more.
  net::Task<void> say(std::string_view bytes) {
    for (int tries = 0; !bytes.empty() && tries < 8;) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) {
        said_.feed(bytes.substr(0, static_cast<std::size_t>(sent)));
        bytes.remove_prefix(static_cast<std::size_t>(sent));
        tries = 0;
        continue;
      }
      ++tries;
      co_await settle();
    }
  }

  // True when something came.
  bool listen() {
    std::array<char, 16'384> bytes;
    const ssize_t count = ::recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count > 0) heard_.feed({bytes.data(), static_cast<std::size_t>(count)});
    return count > 0;
  }

  std::size_t peak() const { return peak_; }
  bool reading = true;

 private:
  net::Loop& loop_;
  int fd_;
  Wire& said_;
  Wire& heard_;
  std::size_t peak_ = 0;
};

}  // namespace sallyport::fuzz
