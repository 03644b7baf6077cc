// The sockets of a chassis: one thread listens, reads frames, and watches for what ends the process. What a frame
// says is for others. Limits: bytes of a frame, connections, calls under way and unread answers of one connection; a
// peer that has too many is not read.

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>

#include <thrift/transport/TServerSocket.h>
#include <thrift/transport/TSocket.h>

namespace katamari::detail {

/** One end of a pipe wakes the server, from any thread and from a signal handler. */
class Waker {
 public:
  Waker();
  ~Waker();
  Waker(const Waker&) = delete;
  Waker& operator=(const Waker&) = delete;
  void wake() const noexcept;
  void quiet() const noexcept;
  int fd() const { return ends_[0]; }

 private:
  int ends_[2];
};

/** A peer. Any thread may send and look; the rest is the server's. */
class Connection {
 public:
  Connection(std::shared_ptr<apache::thrift::transport::TSocket> socket, const Waker& waker);

  /** Hands the frame to the kernel, and what that does not take at once to the thread of the server. */
  void send(const std::string& frame);
  bool isGone() const { return isGone_; }

  // What follows is for the thread of the server.
  int fd() const { return fd_; }
  void close();
  /** Writes what waits. */
  void flush();
  std::size_t unsentBytes();
  /** Reads what is there; false when the peer has ended the connection. */
  bool read();
  /** Takes the next whole frame off what was read. Throws std::runtime_error when its length is none. */
  bool nextFrame(std::string& frame);

  /** The peer puts contexts first: it knows what a drain notice is. */
  bool isOfMesh = false;
  /** Calls that were read and have not been answered. */
  std::atomic<int> underWay{0};

 private:
  void closeLocked();

  const std::shared_ptr<apache::thrift::transport::TSocket> socket_;
  const Waker& waker_;
  const int fd_;
  std::atomic<bool> isGone_{false};
  std::mutex mutex_;
  std::string unsent_;
  std::string unread_;
  std::size_t unreadFrom_ = 0;
};

class Server {
 public:
  using OnFrame = std::function<void(const std::shared_ptr<Connection>&, std::string&&)>;

  /** Listens on `unix:PATH` or `tcp:HOST:PORT`. Throws what says why it cannot. */
  explicit Server(const std::string& listen);

  /** As it really listens, with the port that was found for port 0. */
  std::string address() const;

  /** Until drained. `onFrame` runs on this thread; what it throws closes the connection. */
  void run(const OnFrame& onFrame);

  /** Takes no further call, answers what is under way, ends. From any thread, and from signal handlers. */
  void drain() noexcept;
  bool isDraining() const noexcept { return isDraining_; }

  /** A call of that peer was taken, or has been answered. */
  void begin(Connection& peer);
  void end(Connection& peer);

 private:
  using Clock = std::chrono::steady_clock;
  void readLifeline();
  void accept();
  void serve(const std::shared_ptr<Connection>& peer, short events, const OnFrame& onFrame);
  /** Closes what can be closed; true when nothing is left to wait for. */
  bool isDrained();

  Waker waker_;
  std::shared_ptr<apache::thrift::transport::TServerSocket> listener_;
  std::list<std::shared_ptr<Connection>> peers_;
  std::atomic<int> underWay_{0};
  std::atomic<bool> isDraining_{false};
  /** Ends when the resource manager does; -1 for none. Kept open for good. */
  const int lifeline_;
  bool isNoticed_ = false;
  Clock::time_point idleSince_{};
};

}  // namespace katamari::detail
