// A step of an execution must not allocate: it runs once per request on the data path. A program of its own, as it
// counts what operator new is asked for.

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <string>

#include "policy-engine/flow/graph_compiler.h"

namespace {
std::size_t allocations = 0;
}

void* operator new(std::size_t size) {
  ++allocations;
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace sallyport::flow {
namespace {

TEST(Allocation, StepsMakeNone) {
  v1alpha1::FlowGraph document;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"(metadata { name: "shop" } spec { entry: "load"
         nodes { name: "load" request: "GET {word}.example.com/photos/{uuid}/*" times: "10" retries: 2 next: "store"
                 redirects: "GET cdn.example.com/{any}?*" }
         nodes { name: "store" next: ["turns", "exit"] times: "4" retries: 1
                 set { request: "PUT a.example.com/thumbnails/{any}-{int}" times: "3" } set { request: "POST a.example.com/" action: "Put" } }
         nodes { name: "turns" next: "exit" loop { starts: "ask" ends: "ask" total: "20"
                 steps { name: "ask" request: "POST a.example.com/ask?k={word}" next: "ask" } } } })",
      &document));
  const auto graph = GraphCompiler(document).compile({});
  Execution execution(graph);
  const std::string photo = "/photos/f81d4fae-7dec-11d0-a765-00a0c91e6bf6/of/a/long/path/{that}/is/not/copied";
  const std::string query = "k=a-value-that-is-longer-than-a-short-string-can-be";
  const Operation load{"GET", "images.example.com", photo, "", ""};
  const Operation other{"GET", "images.example.com", "/elsewhere/that/is/not/in/the/graph/at/all", "", ""};
  const Operation follow{"GET", "cdn.example.com", "/x", query, ""};
  const Operation store{"PUT", "a.example.com", "/thumbnails/some-name-with-dashes-7", "", ""};
  const Operation put{"POST", "a.example.com", "/", "", "Put"};
  const Operation ask{"POST", "a.example.com", "/ask", query, ""};

  const std::size_t before = allocations;
  bool good = true;
  Ticket ticket;
  const auto goes = [&](const Operation& operation, Answer answer) {
    good &= execution.could(operation);
    good &= execution.request(operation, ticket);
    execution.answered(ticket, answer);
  };
  goes(load, Answer::retryable);
  goes(load, Answer::redirecting);
  goes(follow, Answer::fine);
  goes(load, Answer::fine);
  good &= !execution.request(other, ticket);
  for (int i = 0; i < 4; ++i) {
    goes(store, Answer::retryable);
    goes(put, Answer::fine);
    goes(store, Answer::fine);
  }
  for (int i = 0; i < 20; ++i) goes(ask, Answer::fine);
  good &= !execution.could(ask);
  good &= execution.complete();
  EXPECT_EQ(allocations, before);
  EXPECT_TRUE(good);
}

}  // namespace
}  // namespace sallyport::flow
