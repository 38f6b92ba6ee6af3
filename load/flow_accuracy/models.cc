#include "load/flow_accuracy/models.h"

namespace sallyport::flow_accuracy {

std::vector<Model> models() {
  return {{"mapreduce", map_reduce_round},
          {"codepipeline", code_pipeline_round},
          {"webhook", webhook_round},
          {"images", images_round},
          {"agent", agent_round}};
}

}  // namespace sallyport::flow_accuracy
