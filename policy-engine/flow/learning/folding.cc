#include "policy-engine/flow/learning/folding.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include "base/limits.h"

namespace sallyport::flow::learning {

namespace {

bool same_bodies(const std::vector<Token>& tokens, std::size_t a, std::size_t b, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) {
    if (tokens[a + i].body != tokens[b + i].body) return false;
  }
  return true;
}

// How often the window at `at` stands there.
std::size_t repetitions(const std::vector<Token>& tokens, std::size_t at, std::size_t width) {
  std::size_t times = 1;
  while (at + (times + 1) * width <= tokens.size() && same_bodies(tokens, at, at + times * width, width)) ++times;
  return times;
}

Token group_of(const std::vector<Token>& tokens, std::size_t at, std::size_t width, std::size_t times) {
  Token out;
  out.body.kind = StepKind::group;
  out.count = static_cast<std::uint32_t>(times);
  for (std::size_t i = 0; i < width; ++i) {
    out.body.symbols.push_back(tokens[at + i].body.symbols[0]);
    std::uint32_t most = 1;
    for (std::size_t pass = 0; pass < times; ++pass) most = std::max(most, tokens[at + pass * width + i].count);
    out.inner.push_back(most);
  }
  return out;
}

bool is_request(const Token& token) { return token.body.kind == StepKind::request; }

std::vector<Token> fold_width(std::vector<Token> tokens, std::size_t width, std::set<Symbol>& nested) {
  std::vector<Token> out;
  for (std::size_t at = 0; at < tokens.size();) {
    const std::size_t times = repetitions(tokens, at, width);
    if (times >= 2 && std::ranges::all_of(std::span(tokens).subspan(at, width), is_request)) {
      out.push_back(group_of(tokens, at, width, times));
      at += times * width;
      continue;
    }
    if (times >= 2) {
      for (std::size_t i = 0; i < width; ++i) {
        const std::vector<Symbol>& symbols = tokens[at + i].body.symbols;
        nested.insert(symbols.begin(), symbols.end());
      }
    }
    // All of a repetition that is not folded at once: looking at each of its passes again would take quadratic time.
    const std::size_t passed = times >= 2 ? times * width : 1;
    for (std::size_t i = 0; i < passed; ++i) out.push_back(std::move(tokens[at + i]));
    at += passed;
  }
  return out;
}

bool stands_at(const std::vector<Token>& tokens, std::size_t at, const Body& group) {
  if (at + group.symbols.size() > tokens.size()) return false;
  for (std::size_t i = 0; i < group.symbols.size(); ++i) {
    if (!is_request(tokens[at + i]) || tokens[at + i].body.symbols[0] != group.symbols[i]) return false;
  }
  return true;
}

}  // namespace

Folded fold(std::vector<Token> tokens) {
  Folded out;
  for (std::size_t width = 2; width <= std::min(tokens.size() / 2, limits::kFlowStepsMax); ++width) {
    tokens = fold_width(std::move(tokens), width, out.nested);
  }
  out.tokens = std::move(tokens);
  return out;
}

void fold_known(std::vector<Token>& tokens, const std::vector<Body>& groups) {
  if (groups.empty()) return;
  std::vector<Token> out;
  for (std::size_t at = 0; at < tokens.size();) {
    const auto found = std::ranges::find_if(groups, [&](const Body& group) { return stands_at(tokens, at, group); });
    Token token = found == groups.end() ? std::move(tokens[at]) : group_of(tokens, at, found->symbols.size(), 1);
    at += found == groups.end() ? 1 : found->symbols.size();
    if (!out.empty() && out.back().body == token.body && token.body.kind == StepKind::group) {
      out.back().count += token.count;
      for (std::size_t i = 0; i < token.inner.size(); ++i) {
        out.back().inner[i] = std::max(out.back().inner[i], token.inner[i]);
      }
    } else {
      out.push_back(std::move(token));
    }
  }
  tokens = std::move(out);
}

}  // namespace sallyport::flow::learning
