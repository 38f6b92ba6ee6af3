#include "policy-engine/flow/graph.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include "base/limits.h"
#include "policy-engine/flow/graph_compiler.h"

namespace sallyport::flow {

namespace {

// What may follow one request in one configuration, for as long as that stands where it was allowed. Both zero:
// nothing. Of bytes alone, as dominates() compares them.
struct Allowance {
  std::uint8_t retries = 0;
  std::uint8_t redirects = 0;
  bool operator==(const Allowance&) const = default;
};

// One state of the NFA with its counters; what `position` and `count` mean is the kind's.
struct Head {
  std::uint32_t node = 0;
  std::uint32_t pass = 0;      // the one that it is in, from 1; of a request: how many there were
  std::uint32_t position = 0;  // group, loop: the step it was at last
  std::uint32_t count = 0;     // group: requests of that step in this pass; loop: of this pass
  bool operator==(const Head&) const = default;
};

struct ConstConfiguration {
  const Head& head;
  std::span<const std::uint32_t> counts;  // set, loop: by step, of this pass
  std::span<const Allowance> allowances;  // by slot
};

struct Configuration {
  Head& head;
  std::span<std::uint32_t> counts;
  std::span<Allowance> allowances;
  operator ConstConfiguration() const { return {head, counts, allowances}; }
};

// At most kFlowConfigurationsMax of them, and room for one that is being made. Of the slots only the first few are in
// use, mostly; nothing looks at what configurations have for the others.
class Configurations {
 public:
  Configurations(std::size_t counters, std::size_t slots)
      : counters_(counters), slots_(slots), heads_(kRoom), counts_(kRoom * counters), allowances_(kRoom * slots) {}

  std::size_t size() const { return size_; }
  void clear() { size_ = 0; }
  void use_slots(std::size_t count) { slots_used_ = count; }  // more than before only while there are no configurations
  void grow() { ++size_; }

  Configuration operator[](std::size_t i) {
    return {heads_[i], std::span(counts_).subspan(i * counters_, counters_),
            std::span(allowances_).subspan(i * slots_, slots_used_)};
  }
  ConstConfiguration operator[](std::size_t i) const {
    return {heads_[i], std::span(counts_).subspan(i * counters_, counters_),
            std::span(allowances_).subspan(i * slots_, slots_used_)};
  }
  std::uint32_t node(std::size_t i) const { return heads_[i].node; }
  bool operator==(const Configurations& other) const {
    if (size_ != other.size_) return false;
    for (std::size_t i = 0; i < size_; ++i) {
      const ConstConfiguration a = (*this)[i], b = other[i];
      if (a.head != b.head || !std::ranges::equal(a.counts, b.counts)) return false;
      if (!std::ranges::equal(a.allowances, b.allowances)) return false;
    }
    return true;
  }
  // The last one takes its place.
  void remove(std::size_t i) {
    if (i != --size_) copy(size_, i);
  }
  void copy(std::size_t from, std::size_t to) {
    heads_[to] = heads_[from];
    std::ranges::copy((*this)[from].counts, (*this)[to].counts.begin());
    std::ranges::copy((*this)[from].allowances, (*this)[to].allowances.begin());
  }

 private:
  static constexpr std::size_t kRoom = limits::kFlowConfigurationsMax + 1;

  std::size_t counters_, slots_;
  std::size_t size_ = 0, slots_used_ = 0;
  std::vector<Head> heads_;
  std::vector<std::uint32_t> counts_;
  std::vector<Allowance> allowances_;
};

// A request whose answer is awaited, or failed, or redirected; kept while some configuration allows something after it.
struct Slot {
  enum class Status : std::uint8_t { free, open, failed, redirected };
  Status status = Status::free;
  std::uint32_t request = 0;
  std::uint32_t symbol = 0;
  std::uint64_t operation = 0;  // its hash: sent again means that nothing about it is different
  bool answered() const { return status == Status::failed || status == Status::redirected; }
  bool operator==(const Slot& other) const {
    if (status == Status::free || other.status == Status::free) return status == other.status;
    return status == other.status && request == other.request && symbol == other.symbol && operation == other.operation;
  }
};

// As many as the graph says. Those in use are among the first size() of them.
class Slots {
 public:
  explicit Slots(std::size_t most) : slots_(most) {}

  std::size_t size() const { return size_; }
  const Slot& operator[](std::size_t i) const { return slots_[i]; }
  std::span<const Slot> first() const { return std::span(slots_).first(size_); }
  bool operator==(const Slots& other) const { return std::ranges::equal(first(), other.first()); }

  // For another request: a free one; else that of the oldest, which then can no longer be sent again: fails closed.
  std::size_t place() const {
    std::size_t oldest = 0;
    for (std::size_t i = 0; i < size_; ++i) {
      if (slots_[i].status == Slot::Status::free) return i;
      if (slots_[i].request < slots_[oldest].request) oldest = i;
    }
    return size_ < slots_.size() ? size_ : oldest;
  }
  void put(std::size_t i, const Slot& slot) {
    if (slots_[i].answered()) --answered_;
    slots_[i] = slot;
    size_ = std::max(size_, i + 1);
  }
  // Whether something may be sent again, or be redirected.
  bool any_answered() const { return answered_ > 0; }
  // Whether the answer makes a difference.
  bool awaits(const Ticket& ticket) const {
    if (ticket.slot >= size_) return false;
    const Slot& slot = slots_[ticket.slot];
    return slot.status == Slot::Status::open && slot.request == ticket.request;
  }
  void answer(std::size_t i, Slot::Status status) {  // failed or redirected, and awaited
    slots_[i].status = status;
    ++answered_;
  }
  void free(std::size_t i) {
    if (slots_[i].answered()) --answered_;
    slots_[i].status = Slot::Status::free;
    while (size_ > 0 && slots_[size_ - 1].status == Slot::Status::free) --size_;
  }

 private:
  std::vector<Slot> slots_;
  std::size_t size_ = 0;
  std::size_t answered_ = 0;
};

// Whether a counter at `a` allows all that it allows at `b`: with the lower bound reached at both, less is better.
bool at_least_as_free(std::uint32_t a, std::uint32_t b, std::uint32_t least) { return a == b || (a < b && a >= least); }

// Whether every execution that goes on from `b` could go on from `a` in the same way.
bool dominates(const CompiledNode& node, const ConstConfiguration& a, const ConstConfiguration& b) {
  if (a.head.node != b.head.node || a.head.position != b.head.position) return false;
  if (!at_least_as_free(a.head.pass, b.head.pass, node.times.least)) return false;
  if (node.kind == NodeKind::group || node.kind == NodeKind::loop) {
    const bool loop = node.kind == NodeKind::loop;
    const std::uint32_t least = loop ? node.total.least : node.steps[a.head.position].times.least;
    if (!at_least_as_free(a.head.count, b.head.count, least)) return false;
  }
  if (node.kind == NodeKind::set || node.kind == NodeKind::loop) {
    for (std::size_t i = 0; i < node.steps.size(); ++i) {
      if (!at_least_as_free(a.counts[i], b.counts[i], node.steps[i].times.least)) return false;
    }
  }
  // To the end in any case: without a branch for each, compilers look at many at once.
  const auto in_a = std::as_bytes(a.allowances), in_b = std::as_bytes(b.allowances);
  bool more_in_b = false;
  for (std::size_t i = 0; i < in_a.size(); ++i) more_in_b |= in_a[i] < in_b[i];
  return !more_in_b;
}

// Whether what is left of this pass may be left out.
bool pass_complete(const CompiledNode& node, const ConstConfiguration& at) {
  switch (node.kind) {
    case NodeKind::entry:
    case NodeKind::request:
      return true;
    case NodeKind::group:
      if (at.head.count < node.steps[at.head.position].times.least) return false;
      return std::all_of(node.steps.begin() + at.head.position + 1, node.steps.end(),
                         [](const CompiledStep& step) { return step.times.least == 0; });
    case NodeKind::loop:
      if (!node.steps[at.head.position].end || at.head.count < node.total.least) return false;
      [[fallthrough]];
    case NodeKind::set:
      for (std::size_t i = 0; i < node.steps.size(); ++i) {
        if (at.counts[i] < node.steps[i].times.least) return false;
      }
      return true;
  }
  return false;
}

bool node_complete(const CompiledNode& node, const ConstConfiguration& at) {
  if (node.kind == NodeKind::entry) return true;
  return at.head.pass >= node.times.least && pass_complete(node, at);
}

}  // namespace

Answer answer_of(int status) {
  if (status == 0 || status == 408 || status == 425 || status == 429) return Answer::retryable;
  if (status >= 500 && status <= 599) return Answer::retryable;
  const bool redirect = (status >= 301 && status <= 303) || status == 307 || status == 308;
  return redirect ? Answer::redirecting : Answer::fine;
}

Graph::Graph() = default;
Graph::~Graph() = default;
const std::string& Graph::function() const { return compiled_->function; }
const std::string& Graph::image_digest() const { return compiled_->image_digest; }
std::size_t Graph::node_count() const { return compiled_->entry; }
std::string_view Graph::node_name(std::uint32_t node) const {
  return node < compiled_->nodes.size() ? std::string_view(compiled_->nodes[node].name) : std::string_view();
}
int Graph::node_line(std::uint32_t node) const {
  return node < compiled_->nodes.size() ? compiled_->nodes[node].line : 0;
}

bool Graph::has(const Operation& operation) const { return compiled_->index.find(operation) != SymbolIndex::kNone; }
Sighting Graph::sight(const Operation& operation) const {
  const std::uint32_t symbol = compiled_->index.find(operation);
  // Only what is sent again is known by it.
  return {symbol, compiled_->slots == 0 || symbol == SymbolIndex::kNone ? 0 : compiled_->hash(operation)};
}

namespace {

// What was looked up last: a request is looked at before it is taken, and loops send the same again and again.
class LastSight {
 public:
  const Sighting& of(const Graph& graph, const Operation& operation) {
    if (!is(operation)) keep(graph, operation);
    return sighting_;
  }

 private:
  using Parts = std::array<std::string_view, 5>;
  static Parts parts_of(const Operation& operation) {
    return {operation.path, operation.host, operation.method, operation.query, operation.action};
  }

  bool is(const Operation& operation) const {
    const char* at = bytes_.data();
    const Parts parts = parts_of(operation);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (parts[i] != std::string_view(at, sizes_[i])) return false;
      at += sizes_[i];
    }
    return true;
  }

  // What is too long is looked up each time.
  void keep(const Graph& graph, const Operation& operation) {
    sighting_ = graph.sight(operation);
    sizes_.fill(0);
    std::size_t size = 0;
    const Parts parts = parts_of(operation);
    for (const std::string_view part : parts) size += part.size();
    if (size > bytes_.size()) return;
    char* at = bytes_.data();
    for (std::size_t i = 0; i < parts.size(); ++i) {
      at = std::ranges::copy(parts[i], at).out;
      sizes_[i] = static_cast<std::uint16_t>(parts[i].size());
    }
  }

  Sighting sighting_;
  std::array<std::uint16_t, 5> sizes_{};  // no request has an empty path
  std::array<char, 192> bytes_;           // one part behind the other
};

}  // namespace

struct Execution::State {
  explicit State(const Compiled& graph)
      : now(graph.counters, graph.slots), next(graph.counters, graph.slots), slots(graph.slots) {
    Configuration first = now[0];
    first.head = Head{graph.entry, 1, 0, 0};
    now.grow();
  }

  Configurations now, next;
  Slots slots;
  std::uint32_t requests = 0;
  LastSight last;
};

namespace {

// One request against all configurations: `next` becomes those that it leads to.
class Step {
 public:
  Step(const Compiled& graph, const Configurations& now, Configurations& next, const Slots& slots)
      : graph_(graph), now_(now), next_(next), slots_(slots) {}

  void take(std::uint32_t symbol, std::uint64_t operation) {
    symbol_ = symbol;
    slot_ = slots_.place();
    next_.clear();
    next_.use_slots(graph_.slots == 0 ? 0 : std::max(slots_.size(), slot_ + 1));
    for (std::size_t i = 0; i < now_.size(); ++i) {
      const ConstConfiguration at = now_[i];
      const CompiledNode& node = graph_.nodes[at.head.node];
      if (slots_.any_answered()) go_on_from_answers(node, at, operation);
      stay(node, at);
      if (node_complete(node, at)) enter_next(node);
    }
  }

  std::size_t slot() const { return slot_; }

 private:
  // A new one, beside those of next_, that is not yet settled: like `from`, or without anything.
  Configuration draft(const ConstConfiguration& from) {
    Configuration made = next_[next_.size()];
    made.head = from.head;
    std::ranges::copy(from.counts, made.counts.begin());
    const auto rest = std::ranges::copy(from.allowances, made.allowances.begin()).out;
    std::fill(rest, made.allowances.end(), Allowance{});
    return made;
  }
  Configuration draft(std::uint32_t node) {
    Configuration made = next_[next_.size()];
    made.head = Head{node, 1, 0, 0};
    std::ranges::fill(made.counts, 0U);
    std::ranges::fill(made.allowances, Allowance{});
    return made;
  }

  // Keeps the draft unless one of next_ allows all that it allows; those of which that is true of the draft are
  // dropped.
  void settle(Configuration made, Allowance allowance) {
    if (!made.allowances.empty()) made.allowances[slot_] = allowance;
    const CompiledNode& node = graph_.nodes[made.head.node];
    const std::size_t place = next_.size();
    for (std::size_t i = 0; i < place; ++i) {
      if (dominates(node, next_[i], made)) return;
    }
    for (std::size_t i = place; i-- > 0;) {
      if (dominates(node, made, next_[i])) next_.remove(i);
    }
    if (next_.size() == limits::kFlowConfigurationsMax) {
      if (const std::size_t instead = superfluous(made.head.node); instead < place) next_.copy(place, instead);
      return;
    }
    if (next_.size() != place) next_.copy(place, next_.size());
    next_.grow();
  }

  // Past the limit one is forgotten, which can only make the execution refuse more: the draft, unless it is alone at
  // its node. Then the last that is not: what may be sent again in many ways at one node crowds out no other node.
  std::size_t superfluous(std::uint32_t node) const {
    const auto at = [&](std::uint32_t which) {
      std::size_t count = 0;
      for (std::size_t i = 0; i < next_.size(); ++i) count += next_.node(i) == which ? 1 : 0;
      return count;
    };
    for (std::size_t i = next_.size(); at(node) == 0 && i-- > 0;) {
      if (at(next_.node(i)) > 1) return i;
    }
    return next_.size();
  }

  static Allowance full(const CompiledNode& node) {
    return {static_cast<std::uint8_t>(node.retries), static_cast<std::uint8_t>(node.redirects)};
  }

  // Of hundreds of answers of which any may be the one that the request follows, those that leave the same allowances
  // lead to the same.
  class Seen {
   public:
    bool is_new(Allowance left) {
      const auto end = seen_.begin() + static_cast<std::ptrdiff_t>(count_);
      if (std::find(seen_.begin(), end, left) != end) return false;
      if (count_ < seen_.size()) seen_[count_++] = left;  // more kinds than these are all looked at
      return true;
    }

   private:
    std::array<Allowance, 16> seen_{};
    std::size_t count_ = 0;
  };

  // The same request again after a failure, or one to which an answer has redirected: nothing is counted.
  void go_on_from_answers(const CompiledNode& node, const ConstConfiguration& at, std::uint64_t operation) {
    Seen retried, redirected;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      Allowance left = at.allowances[i];
      const Slot& slot = slots_[i];
      if (slot.status == Slot::Status::failed) {
        if (left.retries == 0 || slot.symbol != symbol_ || slot.operation != operation) continue;
        if (!retried.is_new(left)) continue;
        --left.retries;
      } else if (slot.status == Slot::Status::redirected) {
        if (left.redirects == 0 || !std::ranges::binary_search(node.redirect_symbols, symbol_)) continue;
        if (!redirected.is_new(left)) continue;
        --left.redirects;
      } else {
        continue;
      }
      Configuration made = draft(at);
      made.allowances[i] = {};
      settle(made, left);
    }
  }

  // Within the node: the same step again, another step, another pass.
  void stay(const CompiledNode& node, const ConstConfiguration& at) {
    switch (node.kind) {
      case NodeKind::entry:
        return;
      case NodeKind::request:
        if (node.steps[0].symbol != symbol_ || at.head.pass == node.times.most) return;
        return again(node, at);
      case NodeKind::group:
        stay_in_group(node, at);
        break;
      case NodeKind::set:
        for (std::uint32_t i = 0; i < node.steps.size(); ++i) count_step(node, at, i);
        break;
      case NodeKind::loop:
        if (at.head.count == node.total.most) break;
        for (const std::uint32_t i : node.steps[at.head.position].next) count_step(node, at, i);
        break;
    }
    if (at.head.pass < node.times.most && pass_complete(node, at)) begin(node, at.head.node, at.head.pass + 1);
  }

  void again(const CompiledNode& node, const ConstConfiguration& at) {
    Configuration made = draft(at);
    ++made.head.pass;
    settle(made, full(node));
  }

  void stay_in_group(const CompiledNode& node, const ConstConfiguration& at) {
    const CompiledStep& here = node.steps[at.head.position];
    if (here.symbol == symbol_ && at.head.count < here.times.most) {
      Configuration made = draft(at);
      ++made.head.count;
      settle(made, full(node));
    }
    if (at.head.count < here.times.least) return;
    for (std::uint32_t i = at.head.position + 1; i < node.steps.size(); ++i) {
      if (node.steps[i].symbol == symbol_) enter_step(node, at.head.node, at.head.pass, i);
      if (node.steps[i].times.least > 0) return;
    }
  }

  // One more request of a step of a set or a loop.
  void count_step(const CompiledNode& node, const ConstConfiguration& at, std::uint32_t step) {
    if (node.steps[step].symbol != symbol_ || at.counts[step] == node.steps[step].times.most) return;
    Configuration made = draft(at);
    ++made.counts[step];
    if (node.kind == NodeKind::loop) {
      made.head.position = step;
      ++made.head.count;
    }
    settle(made, full(node));
  }

  // A pass of a node, by its first request.
  void begin(const CompiledNode& node, std::uint32_t index, std::uint32_t pass) {
    for (std::uint32_t i = 0; i < node.steps.size(); ++i) {
      if (node.steps[i].symbol == symbol_ && may_begin(node, i)) enter_step(node, index, pass, i);
    }
  }

  void enter_step(const CompiledNode& node, std::uint32_t index, std::uint32_t pass, std::uint32_t step) {
    Configuration made = draft(index);
    made.head.pass = pass;
    if (node.kind == NodeKind::group || node.kind == NodeKind::loop) {
      made.head.position = step;
      made.head.count = 1;
    }
    if (node.kind == NodeKind::set || node.kind == NodeKind::loop) made.counts[step] = 1;
    settle(made, full(node));
  }

  // The nodes that come next and those that begin with the symbol: the shorter list is looked up in the longer one.
  void enter_next(const CompiledNode& node) {
    std::span<const std::uint32_t> few = node.next, many = graph_.first[symbol_];
    if (few.size() > many.size()) std::swap(few, many);
    for (const std::uint32_t next : few) {
      if (std::ranges::binary_search(many, next)) begin(graph_.nodes[next], next, 1);
    }
  }

  const Compiled& graph_;
  const Configurations& now_;
  Configurations& next_;
  const Slots& slots_;
  std::uint32_t symbol_ = 0;
  std::size_t slot_ = 0;
};

// Whether some configuration allows something after the request of slot `i`.
bool slot_needed(const Configurations& configurations, std::size_t i) {
  for (std::size_t c = 0; c < configurations.size(); ++c) {
    if (configurations[c].allowances[i] != Allowance{}) return true;
  }
  return false;
}

void free_slot(Configurations& configurations, Slots& slots, std::size_t i) {
  for (std::size_t c = 0; c < configurations.size(); ++c) configurations[c].allowances[i] = {};
  slots.free(i);
  configurations.use_slots(slots.size());
}

}  // namespace

Execution::Execution(std::shared_ptr<const Graph> graph)
    : graph_(std::move(graph)), state_(std::make_unique<State>(*graph_->compiled_)) {}
Execution::~Execution() = default;
Execution::Execution(const Execution& other) : graph_(other.graph_), state_(std::make_unique<State>(*other.state_)) {}
Execution::Execution(Execution&&) noexcept = default;
Execution& Execution::operator=(const Execution& other) {
  if (this != &other) *this = Execution(other);
  return *this;
}
Execution& Execution::operator=(Execution&&) noexcept = default;

bool Execution::operator==(const Execution& other) const {
  return graph_ == other.graph_ && state_->now == other.state_->now && state_->slots == other.state_->slots;
}

bool Execution::could(const Operation& operation) const {
  const Compiled& graph = *graph_->compiled_;
  const Sighting sighting = state_->last.of(*graph_, operation);
  if (sighting.symbol == SymbolIndex::kNone) return false;
  Step(graph, state_->now, state_->next, state_->slots).take(sighting.symbol, sighting.operation);
  return state_->next.size() > 0;
}

bool Execution::request(const Operation& operation, Ticket& ticket) {
  return request(state_->last.of(*graph_, operation), ticket);
}

bool Execution::request(const Sighting& sighting, Ticket& ticket) {
  const auto [symbol, hash] = sighting;
  if (symbol == SymbolIndex::kNone) return false;
  const Compiled& graph = *graph_->compiled_;
  State& state = *state_;
  Step step(graph, state.now, state.next, state.slots);
  step.take(symbol, hash);
  if (state.next.size() == 0) return false;
  std::swap(state.now, state.next);
  ticket = {std::as_const(state.now)[0].head.node, static_cast<std::uint32_t>(step.slot()), ++state.requests};
  if (graph.slots > 0) state.slots.put(ticket.slot, {Slot::Status::open, ticket.request, symbol, hash});
  for (std::size_t i = state.slots.size(); i-- > 0;) {
    const bool used = state.slots[i].status != Slot::Status::free;
    if (used && !slot_needed(state.now, i)) free_slot(state.now, state.slots, i);
  }
  if (!state.slots.awaits(ticket)) ticket.request = 0;
  return true;
}

void Execution::answered(const Ticket& ticket, Answer answer) {
  State& state = *state_;
  if (!state.slots.awaits(ticket)) return;
  switch (answer) {
    case Answer::fine:
      return free_slot(state.now, state.slots, ticket.slot);
    case Answer::retryable:
      return state.slots.answer(ticket.slot, Slot::Status::failed);
    case Answer::redirecting:
      return state.slots.answer(ticket.slot, Slot::Status::redirected);
  }
}

bool Execution::complete() const {
  const Compiled& graph = *graph_->compiled_;
  for (std::size_t i = 0; i < state_->now.size(); ++i) {
    const ConstConfiguration at = std::as_const(state_->now)[i];
    const CompiledNode& node = graph.nodes[at.head.node];
    if (node.may_end && node_complete(node, at)) return true;
  }
  return false;
}

// All that stands in the nodes where it is, and of the nodes behind a complete one; whether the counters allow it, a
// step says. The most specific first.
std::vector<std::uint32_t> Execution::candidates() const {
  const Compiled& graph = *graph_->compiled_;
  const State& state = *state_;
  std::vector<bool> found(graph.symbols.size());
  const auto add_steps = [&](const CompiledNode& node) {
    for (const CompiledStep& step : node.steps) {
      if (step.symbol < found.size()) found[step.symbol] = true;
    }
  };
  for (std::size_t i = 0; i < state.now.size(); ++i) {
    const ConstConfiguration at = state.now[i];
    const CompiledNode& node = graph.nodes[at.head.node];
    add_steps(node);
    for (const std::uint32_t symbol : node.redirect_symbols) {
      if (symbol < found.size()) found[symbol] = true;
    }
    if (!node_complete(node, at)) continue;
    for (const std::uint32_t next : node.next) add_steps(graph.nodes[next]);
  }
  std::vector<std::uint32_t> out;
  for (std::uint32_t symbol = 0; symbol < found.size(); ++symbol) {
    if (found[symbol]) out.push_back(symbol);
  }
  std::ranges::sort(out, {}, [&](std::uint32_t symbol) { return graph.ranks[symbol]; });
  return out;
}

std::string Execution::expected() const {
  std::string out;
  std::size_t named = 0;
  for (const std::uint32_t symbol : candidates()) {
    if (!could_come(symbol)) continue;
    if (++named > limits::kFlowExpectedMax) {
      out += ", …";
      break;
    }
    const Pattern& pattern = graph_->compiled_->symbols[symbol];
    if (!out.empty()) out += ", ";
    out += pattern.to_string();
    if (!pattern.action.empty()) out += " (" + pattern.action + ")";
  }
  if (complete()) out += out.empty() ? "the end" : ", or the end";
  return out.empty() ? "nothing" : out;
}

bool Execution::could_come(std::uint32_t symbol) const {
  const Compiled& graph = *graph_->compiled_;
  State& state = *state_;
  Step step(graph, state.now, state.next, state.slots);
  step.take(symbol, 0);
  if (state.next.size() > 0) return true;
  for (const Slot& slot : state.slots.first()) {
    if (slot.status != Slot::Status::failed || slot.symbol != symbol) continue;
    step.take(symbol, slot.operation);
    if (state.next.size() > 0) return true;
  }
  return false;
}

std::vector<std::string_view> Execution::nodes() const {
  const Compiled& graph = *graph_->compiled_;
  std::vector<std::string_view> out;
  for (std::size_t i = 0; i < state_->now.size(); ++i) {
    const std::uint32_t node = std::as_const(state_->now)[i].head.node;
    if (node == graph.entry) continue;
    if (std::ranges::find(out, graph.nodes[node].name) == out.end()) out.emplace_back(graph.nodes[node].name);
  }
  return out;
}

}  // namespace sallyport::flow
