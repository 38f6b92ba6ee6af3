#include "proxy/guard/admin.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <thread>

#include "base/limits.h"

namespace sallyport::guard {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Local = asio::local::stream_protocol;
using AdminStream = beast::basic_stream<Local, asio::io_context::executor_type>;
using AdminSocket = asio::basic_stream_socket<Local, asio::io_context::executor_type>;

bool may_ask(int fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return false;
  return credentials.uid == 0 || credentials.uid == geteuid();
}

// One request, one answer, then the connection closes.
class Conversation : public std::enable_shared_from_this<Conversation> {
 public:
  Conversation(AdminSocket socket, const Admin::Pages& pages) : stream_(std::move(socket)), pages_(pages) {}

  void start() {
    stream_.expires_after(limits::kAdminTimeout);
    parser_.header_limit(limits::kAdminHeadBytesMax);
    parser_.body_limit(0);
    http::async_read(stream_, buffer_, parser_, [self = shared_from_this()](beast::error_code error, std::size_t) {
      if (!error) self->answer();
    });
  }

 private:
  void answer() {
    const http::request<http::string_body>& request = parser_.get();
    response_.version(request.version());
    response_.keep_alive(false);
    if (request.method() != http::verb::get && request.method() != http::verb::head) {
      fill(http::status::method_not_allowed, "only GET is answered here\n");
      response_.set(http::field::allow, "GET, HEAD");
    } else if (request.target() == "/metrics") {
      fill(http::status::ok, pages_.metrics());
      response_.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
    } else if (request.target() == "/healthz") {
      fill(http::status::ok, "ok\n");
    } else if (request.target() == "/readyz") {
      bool ready = pages_.ready();
      fill(ready ? http::status::ok : http::status::service_unavailable, ready ? "ready\n" : "not ready\n");
    } else {
      fill(http::status::not_found, "here are /metrics, /healthz and /readyz\n");
    }
    if (request.method() == http::verb::head) response_.body().clear();
    http::async_write(stream_, response_, [self = shared_from_this()](beast::error_code, std::size_t) {
      beast::error_code ignored;
      self->stream_.socket().shutdown(Local::socket::shutdown_both, ignored);
    });
  }

  void fill(http::status status, std::string body) {
    response_.result(status);
    response_.set(http::field::content_type, "text/plain; charset=utf-8");
    response_.body() = std::move(body);
    response_.prepare_payload();
  }

  AdminStream stream_;
  const Admin::Pages& pages_;
  beast::flat_buffer buffer_;
  http::request_parser<http::string_body> parser_;
  http::response<http::string_body> response_;
};

// A socket file that nobody listens on any more may go; one in use, or any other file, may not.
Result<void> clear_path(const std::string& path) {
  struct stat status{};
  if (lstat(path.c_str(), &status) != 0) return {};
  if (!S_ISSOCK(status.st_mode)) {
    return fail(ErrorSource::internal, ErrorKind::invalid,
                "--admin " + path + ": a file of that name exists and is no socket");
  }
  asio::io_context context;
  Local::socket probe(context);
  boost::system::error_code error;
  probe.connect(Local::endpoint(path), error);
  if (!error) {
    return fail(ErrorSource::internal, ErrorKind::unavailable,
                "--admin " + path + ": another process listens there; choose another path or stop it");
  }
  ::unlink(path.c_str());
  return {};
}

}  // namespace

struct Admin::Impl {
  asio::io_context context{1};
  asio::basic_socket_acceptor<Local, asio::io_context::executor_type> acceptor{context};
  Pages pages;
  std::string path;
  std::thread thread;

  void accept() {
    acceptor.async_accept(context.get_executor(), [this](beast::error_code error, AdminSocket socket) {
      if (error == asio::error::operation_aborted) return;
      if (!error && may_ask(socket.native_handle())) std::make_shared<Conversation>(std::move(socket), pages)->start();
      accept();
    });
  }
};

Result<std::unique_ptr<Admin>> Admin::serve(const std::string& socket_path, Pages pages) {
  auto impl = std::make_unique<Impl>();
  impl->pages = std::move(pages);
  impl->path = socket_path;
  auto refused = [&](const std::string& why) {
    return fail(ErrorSource::internal, ErrorKind::unavailable, "--admin " + socket_path + ": " + why);
  };
  if (socket_path.size() >= sizeof(sockaddr_un::sun_path))
    return refused("the path is too long for a socket (107 bytes)");
  Result<void> cleared = clear_path(socket_path);
  if (!cleared) return std::unexpected(cleared.error());
  boost::system::error_code error;
  impl->acceptor.open(Local(), error);
  // Nobody else may connect between bind and chmod, so the socket is born with its mode.
  mode_t mask = umask(0177);
  if (!error) impl->acceptor.bind(Local::endpoint(socket_path), error);
  umask(mask);
  if (!error) impl->acceptor.listen(16, error);
  if (error) return refused(error.message());
  impl->accept();
  Impl* running = impl.get();
  impl->thread = std::thread([running] { running->context.run(); });
  return std::unique_ptr<Admin>(new Admin(std::move(impl)));
}

Admin::Admin(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Admin::~Admin() {
  impl_->context.stop();
  impl_->thread.join();
  ::unlink(impl_->path.c_str());
}

}  // namespace sallyport::guard
