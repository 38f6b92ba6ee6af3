// Jobs of a driver, mappers, a coordinator and reducers, as tests/apps/mapreduce.

#include <algorithm>
#include <cmath>
#include <queue>
#include <utility>

#include "load/flow_accuracy/recorder.h"

namespace sallyport::flow_accuracy {

namespace {

constexpr int kMapperBytes = 6'000;
constexpr int kReducerFiles = 4;
constexpr std::size_t kMappersAtOnce = 3, kReducersAtOnce = 2;
constexpr double kPollSeconds = 5;
// Of reads: to the bucket's region, as S3 does for a while after a bucket was made.
constexpr double kRedirects = 0.2;

// 1 to 9 files of words, rankings or visits. Mappers read them in batches; the coordinator is called for each file that
// a mapper or a reducer has written, one call after the other, and starts the next reducers when a step is over.
class MapReduce {
 public:
  explicit MapReduce(Random& random) : random_(random), job_("job-" + hex(random, 12)) {}

  Round run() {
    static constexpr const char* kQueries[] = {"wordcount", "rankings", "uservisits"};
    const int query = between(random_, 0, 2);
    source_ = std::string(kQueries[query]) + "/" + hex(random_, 8);
    const std::vector<int> batches = batches_of(query);
    int first = 0;
    for (const int files : batches) {
      mapper(first, files);
      first += files;
    }
    coordinate();
    driver();
    return std::move(out_);
  }

 private:
  struct Written {
    double at = 0;
    int step = 0;
    bool operator>(const Written& other) const { return at > other.at; }
  };

  int size_of_file(int query) {
    switch (query) {
      case 0:
        return between(random_, 10, 60) * between(random_, 24, 34);
      case 1:
        return 150 * 20 - between(random_, 20, 70);
      default:
        return between(random_, 20, 100) * 56;
    }
  }

  std::vector<int> batches_of(int query) {
    std::vector<int> out;
    int bytes = 0;
    for (int file = between(random_, 1, 9); file > 0; --file) {
      const int size = size_of_file(query);
      if (out.empty() || bytes + size > kMapperBytes) {
        out.push_back(0);
        bytes = 0;
      }
      ++out.back();
      bytes += size;
    }
    return out;
  }

  Request of_job(std::string line, std::string method, const std::string& rest) const {
    return {std::move(line), std::move(method), bucket("mapreduce-jobs"), "/" + job_ + "/" + rest};
  }
  static Request list(const std::string& in, const std::string& prefix) {
    return {"list", "GET", bucket(in), "/", "list-type=2&prefix=" + prefix + "%2F&encoding-type=url"};
  }
  static Request invoke(const std::string& function) {
    return {"invoke", "POST", "lambda.us-east-1.amazonaws.com", "/2015-03-31/functions/" + function + "/invocations"};
  }

  // When the first of `instances` that has nothing to do begins and ends its work.
  double ends(std::vector<double>& instances, double from) {
    double& free = *std::ranges::min_element(instances);
    free = std::max(free, from) + long_tailed(random_);
    return free;
  }

  void mapper(int first, int files) {
    Recorder recorder("mapper", random_);
    for (int i = first; i < first + files; ++i) {
      const Request get{"read", "GET", bucket("crawl-data"), "/" + source_ + "/part-0000" + std::to_string(i)};
      if (chance(random_, kRedirects)) {
        Request there = get;
        there.host = "crawl-data.s3.us-west-2.amazonaws.com";
        recorder.send_redirected(get, 307, there);
      } else {
        recorder.send(get);
      }
    }
    recorder.send(of_job("write", "PUT", "task/mapper/" + std::to_string(mappers_++)));
    files_.push_back({ends(mapping_, 0), 0});
    written_.push(files_.back());
    all_mapped_ = std::max(all_mapped_, files_.back().at);
    out_.push_back(recorder.done());
  }

  void coordinate() {
    double free = 0;
    int step = 0, expected = mappers_;
    while (!written_.empty()) {
      const double now = std::max(free, written_.top().at);
      written_.pop();
      free = now + 0.3 * long_tailed(random_);
      Recorder recorder("reducer-coordinator", random_);
      recorder.send(list("mapreduce-jobs", job_));
      if (now < result_at_) {
        recorder.send(of_job("describe", "GET", "jobdata"));
        if (step > 0) recorder.send(of_job("state", "GET", "reducerstate." + std::to_string(step)));
        const int made = files_of(step, now);
        if (made == expected) expected = start_reducers(recorder, ++step, made, free);
      }
      out_.push_back(recorder.done());
    }
  }

  int files_of(int step, double now) const {
    const auto done = [&](const Written& file) { return file.step == step && file.at <= now; };
    return static_cast<int>(std::ranges::count_if(files_, done));
  }

  int start_reducers(Recorder& recorder, int step, int files, double now) {
    const int reducers = (files + kReducerFiles - 1) / kReducerFiles;
    last_ = reducers == 1;
    for (int i = 0; i < reducers; ++i) recorder.send(invoke("reducer"));
    recorder.send(of_job("save", "PUT", "reducerstate." + std::to_string(step)));
    for (int i = 0; i < reducers; ++i) {
      const double end = ends(reducing_, now);
      reducer(step, i, std::min(kReducerFiles, files - i * kReducerFiles));
      if (last_) {
        result_at_ = end;
      } else {
        files_.push_back({end, step});
        written_.push(files_.back());
      }
    }
    return reducers;
  }

  void reducer(int step, int id, int files) {
    Recorder recorder("reducer", random_);
    for (int i = 0; i < files; ++i) {
      const std::string from = step == 1 ? "task/mapper/" : "task/reducer/" + std::to_string(step - 1) + "/";
      recorder.send(of_job(step == 1 ? "mapped" : "reduced", "GET", from + std::to_string(id * kReducerFiles + i)));
    }
    recorder.send(last_ ? of_job("result", "PUT", "result")
                        : of_job("partial", "PUT", "task/reducer/" + std::to_string(step) + "/" + std::to_string(id)));
    out_.push_back(recorder.done());
  }

  void driver() {
    Recorder recorder("driver", random_);
    recorder.send(list("crawl-data", source_));
    recorder.send({"configure", "PUT", bucket("mapreduce-jobs"), "/", "notification"});
    recorder.send(of_job("describe", "PUT", "jobdata"));
    recorder.send_beside(std::vector<Request>(static_cast<std::size_t>(mappers_), invoke("mapper")), 9);
    const int polls = 1 + static_cast<int>(std::ceil((result_at_ - all_mapped_) / kPollSeconds));
    for (int i = 0; i < polls; ++i) recorder.send(of_job("poll", "HEAD", "result"));
    out_.push_back(recorder.done());
  }

  Random& random_;
  const std::string job_;
  std::string source_;
  int mappers_ = 0;
  bool last_ = false;           // the reducers that were started are the last
  std::vector<Written> files_;  // that steps have read, or will
  std::priority_queue<Written, std::vector<Written>, std::greater<>> written_;  // that the coordinator is called for
  std::vector<double> mapping_ = std::vector<double>(kMappersAtOnce, 0.0);      // by instance, when it is free
  std::vector<double> reducing_ = std::vector<double>(kReducersAtOnce, 0.0);
  double all_mapped_ = 0;
  double result_at_ = HUGE_VAL;
  Round out_;
};

}  // namespace

Round map_reduce_round(Random& random) { return MapReduce(random).run(); }

}  // namespace sallyport::flow_accuracy
