#pragma once
// Where each part of a message stood in its document. A message that came over the wire has no places: then every
// question is answered with the whole file.

#include <google/protobuf/message.h>

#include <map>
#include <set>
#include <tuple>

#include "policy-engine/document/diagnostics.h"

namespace sallyport::document {

// Messages are known by their address, so the message must outlive this and must not move.
class Places {
 public:
  void set(const google::protobuf::Message& message, Place place) { places_[{&message, 0, 0}] = place; }
  // Element `index` of a list, or -1 for the field as a whole.
  void set(const google::protobuf::Message& message, int field, int index, Place place) {
    places_[{&message, field, index}] = place;
  }

  Place of(const google::protobuf::Message& message) const { return find({&message, 0, 0}); }
  // The element, else the field, else the message.
  Place of(const google::protobuf::Message& message, int field, int index = -1) const {
    for (const Key& key : {Key{&message, field, index}, Key{&message, field, -1}}) {
      if (const auto found = places_.find(key); found != places_.end()) return found->second;
    }
    return of(message);
  }

  // Did the document have this field?
  bool given(const google::protobuf::Message& message, int field) const {
    return places_.contains({&message, field, -1});
  }

  // Parts that could not be read whole. Checks that would follow from what is missing in them are left out.
  void mark_broken(const google::protobuf::Message& message) { broken_.insert(&message); }
  bool broken(const google::protobuf::Message& message) const { return broken_.contains(&message); }

 private:
  using Key = std::tuple<const google::protobuf::Message*, int, int>;

  Place find(const Key& key) const {
    const auto found = places_.find(key);
    return found == places_.end() ? Place{} : found->second;
  }

  std::map<Key, Place> places_;
  std::set<const google::protobuf::Message*> broken_;
};

}  // namespace sallyport::document
