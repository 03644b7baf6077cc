// Serves `katamari.Content` (idl/content.thrift), by which the mesh opens and closes the shards of a content server.
// The calls of one shard run one after the other, in the order in which they arrive. Those of different shards run in
// threads of their own, at most contentThreadsMax. So pings, handlers and other shards do not wait for a slow open.

#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "call.h"
#include "katamari/content.h"

namespace katamari::detail {

/** Shards that are opened or closed at a time. The mesh opens 4 and closes 16. */
constexpr std::size_t contentThreadsMax = 20;

class ContentControl {
 public:
  /** `onEnd` runs after the reply to each call, in any thread. */
  ContentControl(ContentBase& content, std::function<void(Call&)> onEnd);
  /** Waits for the calls that run. */
  ~ContentControl();
  ContentControl(const ContentControl&) = delete;
  ContentControl& operator=(const ContentControl&) = delete;

  /** Starts a call and returns at once. The server limits the number of calls in flight. */
  void take(std::unique_ptr<Call> call);

 private:
  /** A call with its arguments. */
  struct Task {
    std::unique_ptr<Call> call;
    std::string shard;
    /** Only of `open`. */
    std::string path;
  };

  void add(Task task);
  void work();
  void run(Task& task);
  std::string answerOf(const Task& task);

  ContentBase& content_;
  const std::function<void(Call&)> onEnd_;
  std::mutex mutex_;
  std::condition_variable changed_;
  /** Tasks of each shard that has any; the first one may be running. */
  std::map<std::string, std::deque<Task>> tasks_;
  /** Shards that wait for a thread. */
  std::deque<std::string> waiting_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;
  bool isClosed_ = false;
};

}  // namespace katamari::detail
