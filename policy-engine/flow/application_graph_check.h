#pragma once
// What is wrong with an application graph's document, each mistake at its place and with what to do about it.

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy-engine/api/application_graph.pb.h"
#include "policy-engine/document/diagnostics.h"
#include "policy-engine/document/places.h"
#include "policy-engine/flow/pattern.h"

namespace sallyport::flow {

class ApplicationGraphChecker {
 public:
  // `written`: the reader of the YAML has said what is missing already.
  ApplicationGraphChecker(const v1alpha1::ApplicationGraph& document, const document::Places& places,
                          document::Diagnostics& diagnostics, bool written)
      : document_(document), places_(places), diagnostics_(diagnostics), written_(written) {}

  void check();

 private:
  struct Edge {  // of one function, from one predecessor
    document::Place place;
    Pattern pattern;
  };

  bool check_size();
  void check_application();
  void check_names();
  void check_function(const v1alpha1::ApplicationFunction& function);
  void check_predecessor(const v1alpha1::ApplicationFunction& function, const v1alpha1::Predecessor& source);
  void check_name_of(const v1alpha1::Predecessor& source, const std::string& to);
  void check_through(const v1alpha1::Predecessor& source, const std::string& to);
  void check_overlaps(const std::vector<Edge>& edges, const std::string& from, const std::string& to);
  void check_numbers(const v1alpha1::Predecessor& source);
  void check_time(const v1alpha1::Predecessor& source, int field, bool given, const std::string& text);
  void check_reached();

  const v1alpha1::ApplicationGraph& document_;
  const document::Places& places_;
  document::Diagnostics& diagnostics_;
  bool written_;
  std::map<std::string, std::size_t, std::less<>> names_;     // of functions, to the first of the name
  std::map<std::string, document::Place> direct_;             // of one function: by predecessor
  std::map<std::string, std::vector<Edge>> through_;          // of one function: by predecessor
  std::map<std::size_t, std::vector<std::size_t>> leads_to_;  // by function
  bool dangling_ = false;  // some edge comes from nowhere, so that it is not known what can begin
};

}  // namespace sallyport::flow
