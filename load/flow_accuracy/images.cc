// Photos and their renditions, as tests/apps/images.

#include "load/flow_accuracy/recorder.h"

namespace sallyport::flow_accuracy {

// A photo of one of five widths is made smaller, to those of four widths that are less than its own; over four
// connections at once. One of ten is broken.
Round images_round(Random& random) {
  static constexpr int kOriginals[] = {12, 24, 48, 96, 160};
  const std::string name = std::to_string(between(random, 1, 500)) + "/" + uuid(random) + ".ppm";
  const int original = kOriginals[between(random, 0, 4)];
  Recorder recorder("renditions", random);
  recorder.send({"photo", "GET", bucket("photos"), "/uploads/" + name});
  if (!chance(random, 0.1)) {
    std::vector<Request> renditions;
    for (const int width : {16, 32, 64, 128}) {
      const std::string text = std::to_string(width);
      if (width < original) {
        renditions.push_back({"rendition-" + text, "PUT", bucket("photo-renditions"), "/" + text + "/" + name});
      }
    }
    recorder.send_beside(renditions, 4);
  }
  recorder.send(call("note", "dynamodb.us-east-1.amazonaws.com", "DynamoDB_20120810.PutItem"));
  return {recorder.done()};
}

}  // namespace sallyport::flow_accuracy
