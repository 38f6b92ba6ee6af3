#pragma once
// Alarms on their way to the store, the log and the metrics: what is alike is one alarm with a count, so that a storm
// is one line and one row.

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <tuple>

#include "controller/store/store.h"

namespace sallyport::controller {

class AlarmBook {
 public:
  // `say` gets each alarm that is not like one of the last limits::kAlarmsApart, on the book's thread.
  AlarmBook(Store& store, std::function<void(const AlarmRow&)> say);
  AlarmBook(const AlarmBook&) = delete;
  AlarmBook& operator=(const AlarmBook&) = delete;
  ~AlarmBook();  // writes what is left, once

  // Any thread; waits for nothing. Past limits::kAlarmsWaitingMax that differ, the others of a kind are one, and so are
  // those of a function past limits::kAlarmsDifferentMax in limits::kAlarmsApart: what guards say is in them.
  void raise(AlarmRow alarm);
  // Since the start, by application and kind.
  using Counts = std::map<std::pair<std::string, std::string>, std::uint64_t>;
  Counts counts() const;

 private:
  using Key = std::tuple<std::string, std::string, std::string, std::string>;  // application, kind, function, about
  static Key key_of(const AlarmRow& alarm);
  void run();
  void write(std::map<Key, AlarmRow>& waiting);

  Store& store_;
  const std::function<void(const AlarmRow&)> say_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Key, AlarmRow> waiting_;
  struct Different {
    Time since{};
    std::set<std::string> abouts;
  };
  std::map<std::tuple<std::string, std::string, std::string>, Different> different_;  // by application, kind, function
  Counts counts_;
  bool stopping_ = false;
  std::map<Key, Time> said_;  // of the thread's own
  std::thread thread_;
};

}  // namespace sallyport::controller
