#pragma once
// What the models of applications are written with: requests of an execution, and the trace that a guard would make of
// them.

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "load/flow_accuracy/models.h"

namespace sallyport::flow_accuracy {

using Random = std::mt19937;

int between(Random& random, int least, int most);
bool chance(Random& random, double probability);
// 1 in the middle, and now and then many times that: what services take.
double long_tailed(Random& random);
std::string alphanumeric(Random& random, std::size_t size);
std::string hex(Random& random, std::size_t size);
std::string digits(Random& random, std::size_t size);
std::string uuid(Random& random);

struct Request {
  std::string line;
  std::string method;
  std::string host;
  std::string path;
  std::string query = "";
  std::string action = "";
};

// Of an API that has one path for everything.
Request call(std::string line, std::string_view host, std::string action);
std::string bucket(std::string_view name);

class Recorder {
 public:
  // `failing` is the share of requests that are refused (429, 503), break (500), or have no answer at all, and are sent
  // again.
  Recorder(std::string function, Random& random, double failing = 0.01);

  void send(const Request& request) { now_us_ = at(request, now_us_); }
  // The request is answered with `status`, and where it leads is asked instead.
  void send_redirected(const Request& request, std::uint32_t status, const Request& to);
  // With so many connections at once.
  void send_beside(const std::vector<Request>& requests, std::size_t connections);
  Execution done();

 private:
  std::int64_t took();
  void add(const Request& request, std::int64_t began, std::int64_t ended, std::uint32_t status);
  // With its retries, from `began` on; when the last has ended.
  std::int64_t at(const Request& request, std::int64_t began);

  Random& random_;
  const double failing_;
  Execution out_;
  std::vector<std::int64_t> began_us_;
  std::int64_t now_us_ = 1'000;
};

}  // namespace sallyport::flow_accuracy
