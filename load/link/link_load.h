#pragma once
// What the programs of this folder share: measured calls, a server in another process, and lines of JSON.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sallyport::load {

inline constexpr std::size_t kPayloadBytes = 1'024;  // of an ask and of its answer

struct Calls {
  std::vector<double> microseconds;  // of each
  double seconds = 0;
  double server_cpu_seconds = 0;

  double rate() const { return static_cast<double>(microseconds.size()) / seconds; }
  double per_core() const { return static_cast<double>(microseconds.size()) / server_cpu_seconds; }
  double percentile(double part) const;
};

// A program in a process of its own; ended with the object.
class Child {
 public:
  explicit Child(std::vector<std::string> arguments);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();
  double cpu_seconds() const;
  double resident_mib() const;
  void signal(int number) const;

 private:
  int pid_ = -1;
};

std::uint16_t free_port();

// One line: {"measure":"…","name":number,…}.
void print(const std::string& measure, const std::vector<std::pair<std::string, double>>& figures);

// gRPC's own library beside it: unary calls over TLS, `channels` connections with `each` calls under way on each.
Calls grpc_calls(const std::string& origin, const std::string& certificate_pem, const std::string& key_pem,
                 const std::string& root_pem, unsigned channels, unsigned each, double seconds);
bool has_grpc();

}  // namespace sallyport::load
