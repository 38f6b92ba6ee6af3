#include "proxy/net/read_buffer.h"

#include <gtest/gtest.h>

#include <list>

namespace sallyport::net {
namespace {

TEST(ReadBuffer, OnlySoManyGrowForBulk) {
  std::list<ReadBuffer> buffers;
  const auto grown = [&buffers] {
    ReadBuffer& buffer = buffers.emplace_back();
    buffer.space();
    buffer.grow_for_bulk();
    return buffer.space().size() == limits::kBulkBufferBytes;
  };
  for (std::size_t i = 0; i < limits::kBulkBuffersPerWorkerMax; ++i) EXPECT_TRUE(grown()) << i;
  EXPECT_FALSE(grown());
  buffers.pop_back();
  buffers.pop_back();
  EXPECT_TRUE(grown()) << "one has been given back";
  buffers.back().release();
  EXPECT_TRUE(grown()) << "or released";
}

TEST(ReadBuffer, WhatIsUnreadStaysWhereItIs) {
  ReadBuffer buffer;
  buffer.space()[0] = 'x';
  buffer.filled(1);
  buffer.grow_for_bulk();
  EXPECT_EQ(buffer.unread(), "x");
  EXPECT_EQ(buffer.space().size(), limits::kBufferBytes - 1);
}

}  // namespace
}  // namespace sallyport::net
