// A deployment pipeline of nine functions, as tests/apps/codepipeline.

#include <utility>

#include "load/flow_accuracy/recorder.h"

namespace sallyport::flow_accuracy {

namespace {

constexpr double kNewPipelines = 0.2;  // of revisions: the others are of one that there is already
constexpr int kPipelines = 50;

// Nine functions and three ways through their state machine: a stack is created, changed, or left as it is.
class CodePipeline {
 public:
  explicit CodePipeline(Random& random) : random_(random), revision_(revision()) {}

  Round run() {
    one("trigger", {revision_, states("StartExecution"), pipeline("PutJobSuccessResult")});
    one("check-stack-exists", {cloudformation("DescribeStacks")});
    const int path = between(random_, 0, 2);
    if (path == 0) {
      one("create-stack", {revision_, cloudformation("CreateStack")});
      poll("check-stack-creation-status", "DescribeStacks");
    } else {
      one("create-change-set", {revision_, cloudformation("CreateChangeSet")});
      poll("check-change-set-creation-status", "DescribeChangeSet");
      one("inspect-change-set", {cloudformation("DescribeChangeSet")});
      path == 1 ? one("execute-change-set", {cloudformation("ExecuteChangeSet")})
                : one("delete-change-set", {cloudformation("DeleteChangeSet")});
    }
    follow(path == 2 ? "PutJobFailureResult" : "PutJobSuccessResult");
    return std::move(out_);
  }

 private:
  // In a bucket whose name ends in a number of the pipeline's own.
  Request revision() {
    Random numbers(static_cast<unsigned>(between(random_, 0, kPipelines - 1)));
    const std::string number = digits(chance(random_, kNewPipelines) ? random_ : numbers, 12);
    return {"revision", "GET", bucket("codepipeline-us-east-1-" + number),
            "/shop/Revision/" + alphanumeric(random_, 7)};
  }
  static Request cloudformation(const std::string& action) {
    return call(action, "cloudformation.us-east-1.amazonaws.com", action);
  }
  static Request states(const std::string& action) {
    return call(action, "states.us-east-1.amazonaws.com", "AWSStepFunctions." + action);
  }
  static Request pipeline(const std::string& action) {
    return {action, "POST", "codepipeline.us-east-1.amazonaws.com",
            "/service/CodePipeline_20150709/operation/" + action};
  }

  void one(const std::string& function, const std::vector<Request>& requests) {
    Recorder recorder(function, random_);
    for (const Request& request : requests) recorder.send(request);
    out_.push_back(recorder.done());
  }

  void follow(const std::string& answer) { one("trigger", {states("DescribeExecution"), pipeline(answer)}); }

  void poll(const std::string& function, const std::string& action) {
    for (int i = between(random_, 1, 3); i > 0; --i) {
      follow("PutJobSuccessResult");
      one(function, {cloudformation(action)});
    }
  }

  Random& random_;
  const Request revision_;
  Round out_;
};

}  // namespace

Round code_pipeline_round(Random& random) { return CodePipeline(random).run(); }

}  // namespace sallyport::flow_accuracy
