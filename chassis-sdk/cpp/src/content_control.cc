// See content_control.h.

#include "content_control.h"

#include <chrono>
#include <optional>
#include <stdexcept>
#include <utility>

#include "katamari/chassis.h"
#include "thrown.h"
#include "wire.h"

namespace katamari::detail {

using namespace apache::thrift::protocol;
using apache::thrift::TApplicationException;

namespace {

/** Returns the texts in fields 1 and 2 of the arguments; a field that is not sent is an error. */
std::pair<std::string, std::string> readTexts(const Call& call, bool hasSecond) {
  const auto in = binary(memory(call.bytes.data() + call.start, call.bytes.size() - call.start), call.bytes.size());
  std::string name;
  TMessageType type;
  std::int32_t seqId = 0;
  in->readMessageBegin(name, type, seqId);
  std::pair<std::string, std::string> found;
  bool isShard = false;
  bool isPath = !hasSecond;
  readFields(*in, [&](std::int16_t id, TType kind) {
    if (kind != T_STRING || (id != 1 && id != 2)) return false;
    in->readString(id == 1 ? found.first : found.second);
    (id == 1 ? isShard : isPath) = true;
    return true;
  });
  if (!isShard || !isPath) throw std::invalid_argument(isShard ? "path is missing" : "shard is missing");
  return found;
}

/** Encodes a result with one struct. `write` writes the fields of the struct. */
template <class Write>
std::string structResult(const Call& call, std::int16_t id, Write write) {
  return message(T_REPLY, call.method, call.seqId, [&](TProtocol& out) {
    out.writeFieldBegin("", T_STRUCT, id);
    Fields fields(out);
    write(fields);
    fields.stop();
    out.writeFieldEnd();
    out.writeFieldStop();
  });
}

}  // namespace

ContentControl::ContentControl(ContentBase& content, std::function<void(Call&)> onEnd)
    : content_(content), onEnd_(std::move(onEnd)) {}

ContentControl::~ContentControl() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    isClosed_ = true;
    changed_.notify_all();
  }
  for (auto& thread : threads_) thread.join();
}

void ContentControl::take(std::unique_ptr<Call> call) {
  const auto& method = call->method;
  if (method == "open" || method == "close") {
    std::optional<std::pair<std::string, std::string>> texts;
    try {
      texts = readTexts(*call, method == "open");
    } catch (const std::exception& error) {
      call->refuse(ErrorCode::badRequest, TApplicationException::PROTOCOL_ERROR,
                   "The arguments of katamari.Content." + method + " do not match idl/content.thrift: " + error.what());
    }
    if (texts) {
      add({std::move(call), std::move(texts->first), std::move(texts->second)});
      return;
    }
  } else if (method == "shards") {
    call->answer(message(T_REPLY, method, call->seqId, [this](TProtocol& out) { Fields(out).texts(0, content_.names()).stop(); }));
  } else {
    call->refuse(ErrorCode::noPool, TApplicationException::UNKNOWN_METHOD,
                 "katamari.Content has no method \"" + method + "\"; it has open, close, shards");
  }
  onEnd_(*call);
}

void ContentControl::add(Task task) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto& tasks = tasks_[task.shard];
  if (tasks.empty()) waiting_.push_back(task.shard);
  tasks.push_back(std::move(task));
  if (idle_ < waiting_.size() && threads_.size() < contentThreadsMax) threads_.emplace_back([this] { work(); });
  changed_.notify_one();
}

void ContentControl::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    idle_++;
    changed_.wait(lock, [this] { return isClosed_ || !waiting_.empty(); });
    idle_--;
    if (waiting_.empty()) return;
    const auto tasks = tasks_.find(waiting_.front());
    waiting_.pop_front();
    // The task stays in its queue while it runs, so that no other thread takes this shard.
    while (!tasks->second.empty()) {
      auto& task = tasks->second.front();
      lock.unlock();
      run(task);
      lock.lock();
      tasks->second.pop_front();
    }
    tasks_.erase(tasks);
  }
}

void ContentControl::run(Task& task) {
  auto& call = *task.call;
  // Do not run a call whose connection has closed.
  if (std::chrono::steady_clock::now() >= call.deadline)
    call.refuse(ErrorCode::timeout, TApplicationException::INTERNAL_ERROR,
                "The deadline of " + call.method + " passed before this copy started it");
  else if (!call.from->isGone()) call.answer(answerOf(task));
  onEnd_(call);
}

std::string ContentControl::answerOf(const Task& task) {
  const auto& call = *task.call;
  if (call.method == "close") {
    content_.close(task.shard);
    return message(T_REPLY, call.method, call.seqId, [](TProtocol& out) { out.writeFieldStop(); });
  }
  std::string why;
  bool isDamaged = false;
  try {
    const auto facts = content_.open(task.shard, task.path);
    return structResult(call, 0, [&](Fields& fields) { fields.i64(1, facts.entries).map(2, facts.more); });
  } catch (const DamagedShard& error) {
    why = error.what();
    isDamaged = true;
  } catch (...) {
    const auto thrown = currentException();
    why = thrown.message.empty() ? thrown.type : thrown.message;
  }
  log(Level::warning) << "shard " << task.shard << " is refused: " << why;
  return structResult(call, 1, [&](Fields& fields) { fields.text(1, why).flag(2, isDamaged); });
}

}  // namespace katamari::detail
