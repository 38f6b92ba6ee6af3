#pragma once
// The one error type of Sallyport. Nothing on the data path throws: functions that can fail return Result<T>.

#include <expected>
#include <string>
#include <utility>

namespace sallyport {

// Who is to blame. Decides between 4xx, 502 and closing the connection, and labels metrics.
enum class ErrorSource {
  downstream,  // the guarded function or its client library
  upstream,    // the server that the function talks to, or the path to it
  policy,      // the policy document or the credential that it names
  controller,  // the controller or the link to it
  internal,    // this program or the machine it runs on
};

enum class ErrorKind {
  closed,       // orderly end of stream where more was expected
  reset,        // the peer or the kernel broke the connection
  timeout,      // a deadline passed
  cancelled,    // given up by this program: drain, policy change, shutdown
  limit,        // a cap of limits.h was reached
  malformed,    // bytes that the protocol does not allow
  refused,      // a rule or a peer said no
  unverified,   // a certificate was not good enough
  unresolved,   // a name has no usable address
  unavailable,  // a file, a peer or a facility of the machine is missing
  invalid,      // an argument or a document is wrong
};

struct Error {
  ErrorSource source = ErrorSource::internal;
  ErrorKind kind = ErrorKind::invalid;
  std::string text;  // for a person: what was expected, what was found, what to do. Never a secret.
};

template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(ErrorSource source, ErrorKind kind, std::string text) {
  return std::unexpected(Error{source, kind, std::move(text)});
}

}  // namespace sallyport
