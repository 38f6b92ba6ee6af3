#pragma once
// Repetitions within one sequence → grouped flows with counters.

#include <cstdint>
#include <set>
#include <vector>

#include "policy-engine/flow/learning/sequences.h"

namespace sallyport::flow::learning {

struct Token {
  Body body;
  std::uint32_t count = 1;           // passes; of a loop, requests in all
  std::vector<std::uint32_t> inner;  // by symbol of the body: in one pass at most; of a set and a loop, in all
};

struct Folded {
  std::vector<Token> tokens;
  // Symbols of repetitions that a group cannot hold, as there is a group or a set in them.
  std::set<Symbol> nested;
};

// Windows of 2 tokens and more, the smallest first, that stand next to each other at least twice and are alike but for
// their counts (S43). Tokens next to each other differ. limits::kFlowStepsMax bounds a window, and so the time: it is
// linear in the tokens.
Folded fold(std::vector<Token> tokens);

// One pass through a group that other executions repeat is that group, once. `groups` are tried in their order.
void fold_known(std::vector<Token>& tokens, const std::vector<Body>& groups);

}  // namespace sallyport::flow::learning
