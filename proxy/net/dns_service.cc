#include "proxy/net/dns_service.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <set>
#include <string>

#include "base/limits.h"
#include "proxy/net/acceptor.h"

namespace sallyport::net {

// Held by the service and by its coroutines. The table and the policy may be gone once the service is: a coroutine that
// is resumed with Wait::cancelled touches neither.
struct DnsService::State {
  State(Loop& event_loop, DnsTable& table, DnsPolicy policy)
      : loop(event_loop), responder(table, std::move(policy)), tcp_limit(limits::kDnsTcpConnectionsMax) {}

  Loop& loop;
  DnsResponder responder;
  ConnectionLimit tcp_limit;
  std::vector<std::unique_ptr<Socket>> udp;
  std::vector<std::unique_ptr<Acceptor>> acceptors;
  std::set<Socket*> sessions;
};

namespace {

constexpr std::size_t kLengthBytes = 2;  // before each message over TCP

// A message that was received, and where it came from and to.
struct Datagram {
  sockaddr_storage peer{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(in6_pktinfo))> control{};
  iovec part{};
  msghdr header{};

  explicit Datagram(std::span<char> buffer) : part{buffer.data(), buffer.size()} {
    header.msg_name = &peer;
    header.msg_namelen = sizeof peer;
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
  }
};

// The address that was asked, for the socket to answer from; the interface is left to the routing table.
void keep_only_address(msghdr& header) {
  cmsghdr* control = CMSG_FIRSTHDR(&header);
  if (control == nullptr) return;
  if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
    in_pktinfo info{};
    std::memcpy(&info, CMSG_DATA(control), sizeof info);
    const in_pktinfo from{.ipi_ifindex = 0, .ipi_spec_dst = info.ipi_addr, .ipi_addr = {}};
    std::memcpy(CMSG_DATA(control), &from, sizeof from);
  } else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO) {
    in6_pktinfo info{};
    std::memcpy(&info, CMSG_DATA(control), sizeof info);
    // A link-local address means nothing without its interface.
    if (!IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr)) info.ipi6_ifindex = 0;
    std::memcpy(CMSG_DATA(control), &info, sizeof info);
  }
}

// Without the option the answer leaves from the address that the routing table gives: right for a socket that is bound
// to one address.
void ask_for_destination(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
}

// Answers what has arrived, up to one batch.
void answer_datagrams(Socket& socket, DnsResponder& responder) {
  // One byte more than allowed: a message that is too long is seen to be so.
  std::array<char, limits::kDnsMessageBytesMax + 1> query;
  std::array<char, kDnsAnswerBytesMax> answer;
  for (std::size_t count = 0; count < limits::kDnsQueriesPerWakeMax; ++count) {
    Datagram datagram(query);
    const ssize_t received = ::recvmsg(socket.fd(), &datagram.header, 0);
    if (received < 0 && errno == EAGAIN) return;
    if (received < 0) continue;  // about an earlier answer that found no taker
    const std::size_t length = responder.respond({query.data(), static_cast<std::size_t>(received)}, answer);
    if (length == 0) continue;
    keep_only_address(datagram.header);
    datagram.part = {answer.data(), length};
    // An answer that can't be sent is lost: the client asks again.
    [[maybe_unused]] const auto sent = ::sendmsg(socket.fd(), &datagram.header, MSG_NOSIGNAL);
  }
}

// Takes the whole messages from the front of `received`, appends their answers, and returns false when the peer does
// not speak DNS.
bool answer_messages(std::vector<char>& received, std::string& answers, DnsResponder& responder) {
  std::array<char, kDnsAnswerBytesMax> answer;
  std::string_view rest(received.data(), received.size());
  while (rest.size() >= kLengthBytes) {
    const auto length =
        static_cast<std::size_t>(static_cast<std::uint8_t>(rest[0]) << 8 | static_cast<std::uint8_t>(rest[1]));
    if (length > limits::kDnsMessageBytesMax) return false;
    if (rest.size() - kLengthBytes < length) break;
    const std::size_t answer_length = responder.respond(rest.substr(kLengthBytes, length), answer);
    if (answer_length == 0) return false;
    answers += static_cast<char>(answer_length >> 8);
    answers += static_cast<char>(answer_length & 0xff);
    answers.append(answer.data(), answer_length);
    rest.remove_prefix(kLengthBytes + length);
  }
  received.erase(received.begin(), received.end() - static_cast<std::ptrdiff_t>(rest.size()));
  return true;
}

// Appends what can be read; false at the end of the stream or when it is broken.
bool receive(Socket& socket, std::vector<char>& received) {
  const std::size_t before = received.size();
  received.resize(kLengthBytes + limits::kDnsMessageBytesMax);
  const ssize_t count = ::recv(socket.fd(), received.data() + before, received.size() - before, 0);
  const int error = errno;
  received.resize(before + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
  return count > 0 || (count < 0 && (error == EAGAIN || error == EINTR));
}

Task<bool> send_all(Socket& socket, std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(socket.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(count));
      continue;
    }
    if (errno != EAGAIN && errno != EINTR) co_return false;
    const Wait wait = co_await socket.wait_writable(deadline);
    if (wait != Wait::ready) co_return false;
  }
  co_return true;
}

// Lists a session's socket for as long as the session lives, so that stop() finds it.
class Listed {
 public:
  Listed(std::set<Socket*>& sockets, Socket& socket) : sockets_(sockets), socket_(socket) { sockets_.insert(&socket_); }
  Listed(const Listed&) = delete;
  Listed& operator=(const Listed&) = delete;
  ~Listed() { sockets_.erase(&socket_); }

 private:
  std::set<Socket*>& sockets_;
  Socket& socket_;
};

}  // namespace

// The coroutines take the state by value: they may outlive the service by one turn of the loop.
struct DnsServiceTasks {
  static Task<void> serve_udp(std::shared_ptr<DnsService::State> state, Socket& socket) {
    while (true) {
      const Wait wait = co_await socket.wait_readable(kNoDeadline);  // queries come when they come
      if (wait != Wait::ready) co_return;
      answer_datagrams(socket, state->responder);
    }
  }

  static Task<void> serve_tcp(std::shared_ptr<DnsService::State> state, UniqueFd fd,
                              [[maybe_unused]] ConnectionSlot slot) {
    Socket socket(state->loop, std::move(fd));
    const Listed listed(state->sessions, socket);
    std::vector<char> received;
    std::string answers;
    while (true) {
      const Wait wait = co_await socket.wait_readable(state->loop.in(limits::kDnsTcpIdleTimeout));
      if (wait != Wait::ready || !receive(socket, received)) co_return;
      answers.clear();
      if (!answer_messages(received, answers, state->responder)) co_return;
      const bool sent = co_await send_all(socket, answers, state->loop.in(limits::kDnsTcpIdleTimeout));
      if (!sent) co_return;
    }
  }
};

DnsService::DnsService(Loop& loop, DnsTable& table, DnsPolicy policy, std::vector<UniqueFd> udp,
                       std::vector<UniqueFd> tcp)
    : state_(std::make_shared<State>(loop, table, std::move(policy))) {
  for (UniqueFd& fd : udp) {
    ask_for_destination(fd.get());
    state_->udp.push_back(std::make_unique<Socket>(loop, std::move(fd)));
    loop.spawn(DnsServiceTasks::serve_udp(state_, *state_->udp.back()));
  }
  for (UniqueFd& fd : tcp) {
    // The state owns the acceptor: a strong reference from its handler would keep both alive for ever.
    Acceptor::Handlers handlers;
    handlers.on_connection = [weak = std::weak_ptr(state_)](UniqueFd connection, ConnectionSlot slot) {
      auto state = weak.lock();
      if (!state) return;
      Loop& its_loop = state->loop;
      its_loop.spawn(DnsServiceTasks::serve_tcp(std::move(state), std::move(connection), std::move(slot)));
    };
    state_->acceptors.push_back(
        std::make_unique<Acceptor>(loop, std::move(fd), state_->tcp_limit, std::move(handlers)));
  }
}

DnsService::~DnsService() { stop(); }

void DnsService::stop() {
  state_->acceptors.clear();
  for (const auto& socket : state_->udp) socket->cancel();
  for (Socket* socket : state_->sessions) socket->cancel();
}

}  // namespace sallyport::net
