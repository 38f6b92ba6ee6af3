#pragma once
// Where each of the executions that are open stands in the flow graph, though it is not always known which of them sent
// a request (DESIGN: attribution by set). Then every distribution of the requests over the executions that the graph
// admits is kept, as a reading; a request is refused when no reading is left, and the others are dropped. So what is
// allowed in all is what all of them together may send, in some order of theirs, and not once more.
//
// An execution of which no request is known for certain is one of a crowd: only how many stand where is kept, not which
// is which. Two that are open at the same time may then use what the other was allowed, which who can give requests to
// either could anyway.
//
// Nothing here does I/O, looks at the clock, or locks. With one execution open a request costs one step of the matcher.

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "policy-engine/flow/graph.h"

namespace sallyport::flow {

class OpenExecutions {
 public:
  using Id = std::uint64_t;  // of an execution or a request: the caller's, unique, not 0

  // m_in.
  void begin(const std::shared_ptr<const Graph>& graph);
  // m_out of `id`: it is over. Empty, or where by no reading it may end here what was expected of it, for people.
  std::string end(Id id);
  // The same without a judgement: it was cut, or timed out.
  void forget(Id id);
  std::size_t size() const { return readings_.front().size(); }

  struct Allowed {
    std::string_view node;  // for people: at which it is; of its graph, which must outlive this
    bool awaited = false;   // answered() is to be called: what may follow depends on the answer
  };
  // A request of execution `sender`; nothing: of some open execution. Nothing: none could send it, and nothing has
  // changed. Fails closed: past limits::kFlowReadingsMax readings the rest is forgotten, which can only refuse more.
  std::optional<Allowed> request(std::optional<Id> sender, const Operation& operation, Id request);
  // To an allowed request, once.
  void answered(Id request, Answer answer);

  // For people: what was expected instead of a request that was refused, in which node the execution stands and by
  // which way it came. Where the sender is not known, of the one that began first.
  std::string refusal(std::optional<Id> sender, const Operation& operation) const;

 private:
  // The nodes by which an execution came: the last limits::kFlowHistoryMax, each with how often in a row.
  struct Way {
    std::array<std::pair<std::uint32_t, std::uint32_t>, limits::kFlowHistoryMax> visits{};
    std::size_t count = 0;
    void add(std::uint32_t node);
    std::string text(const Graph& graph) const;
  };
  // A request without an answer, which makes a difference.
  struct Awaited {
    Id request = 0;
    Ticket ticket;
  };
  // One way through the graph, shared by the readings that have it in common.
  struct Walk {
    explicit Walk(const std::shared_ptr<const Graph>& graph) : graph(graph), at(graph) {}
    std::optional<Allowed> take(const Operation& operation, Id request);
    std::string standing() const;
    std::shared_ptr<const Graph> graph;
    Execution at;
    std::vector<Awaited> awaited;
    Way way;
  };
  struct Member {
    Id owner = 0;  // 0: one of the crowd
    std::shared_ptr<Walk> walk;
  };
  using Reading = std::vector<Member>;  // in the order in which they began
  // A way on: that member of that reading has sent the request, or has ended.
  struct Branch {
    std::size_t reading = 0, member = 0;
  };

  static bool alike(const Member& a, const Member& b);
  static bool alike(const Reading& a, const Reading& b);
  std::size_t readings_max() const;
  template <typename Could>
  std::vector<Branch> branches(std::optional<Id> id, bool crowd_only, const Could& could) const;
  void remove(const std::vector<Branch>& ways);
  template <typename Change>
  std::vector<Reading> follow(const std::vector<Branch>& ways, const Change& change) const;
  const Member* member_of(std::optional<Id> id) const;

  std::vector<Reading> readings_ = std::vector<Reading>(1);  // never empty, all of one size
};

}  // namespace sallyport::flow
