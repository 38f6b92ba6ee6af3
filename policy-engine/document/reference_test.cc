// docs/policy.md is kept true: every YAML block in it is loaded.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "policy-engine/document/test_support.h"

namespace sallyport::document {
namespace {

struct Block {
  std::string info;  // what stands after the fence: "yaml endpoint"
  std::string text;
};

std::vector<Block> blocks_of(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::vector<Block> out;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("```")) {
      if (!inside) out.push_back({line.substr(3), ""});
      inside = !inside;
    } else if (inside) {
      out.back().text += line + "\n";
    }
  }
  EXPECT_FALSE(inside) << "a block has no end";
  return out;
}

std::string indented(const std::string& text) {
  std::string out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) out += "  " + line + "\n";
  return out;
}

TEST(Reference, EveryExampleIsWhatTheTextSays) {
  const auto blocks = blocks_of(SALLYPORT_SOURCE_DIR "/docs/policy.md");
  const std::string head = kHead.substr(0, kHead.find("  endpoints:"));
  int good = 0, wrong = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto& [info, text] = blocks[i];
    if (info == "yaml") {
      load_clean(text);
    } else if (info == "yaml spec") {
      load_clean(head + indented(text));
    } else if (info == "yaml endpoint") {
      load_clean(kHead + indented(text));
    } else if (info == "yaml wrong") {
      ASSERT_LT(i + 1, blocks.size());
      EXPECT_EQ(diagnostics_text(load_policy(text, "policy.yaml", nullptr)), blocks[i + 1].text);
    } else {
      EXPECT_EQ(info, "text") << "a block that this test does not know";
      continue;
    }
    ++(info == "yaml wrong" ? wrong : good);
  }
  EXPECT_GE(good, 5);
  EXPECT_GE(wrong, 2);
}

}  // namespace
}  // namespace sallyport::document
