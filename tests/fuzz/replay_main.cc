// Runs a fuzzer over a folder of inputs, where libFuzzer is not linked in. A missing or empty folder is a failure: a
// test that replays nothing shows nothing.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
    return 2;
  }
  std::error_code error;
  int replayed = 0;
  for (const auto& entry : std::filesystem::directory_iterator(arguments[1], error)) {
    if (!entry.is_regular_file()) continue;
    std::fprintf(stderr, "%s\n", entry.path().c_str());  // the last name printed is the one that failed
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!file.good() && !file.eof()) {
      std::fprintf(stderr, "cannot be read\n");
      return 1;
    }
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    ++replayed;
  }
  if (error || replayed == 0) {
    std::fprintf(stderr, "%s: %s\n", arguments[1], error ? error.message().c_str() : "no inputs");
    return 1;
  }
  std::fprintf(stderr, "%d inputs replayed\n", replayed);
  return 0;
}
