#include "policy-engine/request/percent.h"

#include <gtest/gtest.h>

namespace sallyport::request {
namespace {

TEST(Percent, EveryByteComesBack) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(percent_decoded(percent_encoded(all)), all);
  EXPECT_EQ(percent_encoded("a-B.c_1~/ ?"), "a-B.c_1~%2F%20%3F");
  EXPECT_EQ(percent_decoded("%2f%2F+"), "//+");
}

TEST(Percent, WhatBeginsNoEscapeIsRefused) {
  for (const char* text : {"%", "a%2", "%2", "%g0", "%0g", "%-1", "%+1", "% 1", "%%41"}) {
    EXPECT_FALSE(percent_decoded(text)) << text;
  }
}

}  // namespace
}  // namespace sallyport::request
