#pragma once
// Models of the five applications in tests/apps, as generators of the traces that the guards of their functions write:
// the same requests, branches and frequencies, with random input, and with what the paper names as causes of variation
// (section VIII-A): random strings in hosts, redirects, failures and retries.

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "policy-engine/api/flow.pb.h"

namespace sallyport::flow_accuracy {

// Behind the name of a line: a request that a redirect of its answer led to.
inline constexpr char kRedirected[] = " redirected";

// An execution, and for each of its flows which line of the function's code sent it. The learner is not told the lines.
struct Execution {
  flow::v1alpha1::Trace trace;
  std::vector<std::string> lines;
};

// All the executions that one use of the application leads to.
using Round = std::vector<Execution>;

struct Model {
  std::string name;
  std::function<Round(std::mt19937&)> round;
};

std::vector<Model> models();

Round map_reduce_round(std::mt19937& random);
Round code_pipeline_round(std::mt19937& random);
Round webhook_round(std::mt19937& random);
Round images_round(std::mt19937& random);
Round agent_round(std::mt19937& random);

}  // namespace sallyport::flow_accuracy
