// The socket server of a chassis. One thread accepts connections, reads frames and watches standard input, whose end
// ends the process. It does not interpret frames. Of a frame above the limit it keeps the begin only, so that its call
// can be refused and the connection lives on. Limits: bytes of a frame, connections, and per connection the calls in
// flight and the unread reply bytes; above these two, the connection is not read (backpressure).

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

/** A pipe that wakes the server thread, from any thread or from a signal handler. */
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

/** The connection of one peer. Any thread may call `send` and `isGone`, only the server thread the rest. */
class Connection {
 public:
  Connection(std::shared_ptr<apache::thrift::transport::TSocket> socket, const Waker& waker);

  /** Writes the frame. Bytes that the kernel does not accept at once are left to the server thread. */
  void send(const std::string& frame);
  bool isGone() const { return isGone_; }

  // The members below are only for the server thread.
  int fd() const { return fd_; }
  void close();
  /** Writes unsent bytes. */
  void flush();
  std::size_t unsentBytes();
  /** Reads the available bytes. Returns false if the peer has closed the connection. */
  bool read();
  /**
   * Moves the next complete frame into `frame`; false if there is none. Of one above the limit, moves the head and
   * what may begin a context, and sets `oversized` to its bytes; else sets it to 0. Throws std::runtime_error for what
   * is no frame.
   */
  bool nextFrame(std::string& frame, std::size_t& oversized);

  /** Whether the peer sends contexts. Then it is of the mesh and understands a drain notice. */
  bool isOfMesh = false;
  /** Calls in flight on this connection. */
  std::atomic<int> inFlight{0};

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
  /** Bytes of a frame above the limit that are to be dropped. */
  std::size_t skip_ = 0;
};

class Server {
 public:
  /** Gets a frame, or the begin of one of `oversized` bytes. */
  using OnFrame = std::function<void(const std::shared_ptr<Connection>&, std::string&&, std::size_t oversized)>;

  /** Listens on `unix:PATH` or `tcp:HOST:PORT`. Throws an exception if it cannot. */
  explicit Server(const std::string& listen);

  /** The actual address, with the chosen port for port 0. */
  std::string address() const;

  /** Serves until a drain ends. `onFrame` runs on this thread; an exception from it closes the connection. */
  void run(const OnFrame& onFrame);

  /** Starts a graceful shutdown: calls in flight finish, then `run` returns. Safe in threads and signal handlers. */
  void drain() noexcept;
  bool isDraining() const noexcept { return isDraining_; }

  /** Count a call of that peer as begun, or as ended. */
  void begin(Connection& peer);
  void end(Connection& peer);

 private:
  using Clock = std::chrono::steady_clock;
  void readLifeline();
  void accept();
  void serve(const std::shared_ptr<Connection>& peer, short events, const OnFrame& onFrame);
  /** Closes connections that have nothing left to do. Returns true if the drain is complete. */
  bool isDrained();

  Waker waker_;
  std::shared_ptr<apache::thrift::transport::TServerSocket> listener_;
  std::list<std::shared_ptr<Connection>> peers_;
  std::atomic<int> inFlight_{0};
  std::atomic<bool> isDraining_{false};
  /** Standard input, which closes when the resource manager exits; -1 for none. Never closed here. */
  const int lifeline_;
  bool isNoticed_ = false;
  Clock::time_point idleSince_{};
};

}  // namespace katamari::detail
