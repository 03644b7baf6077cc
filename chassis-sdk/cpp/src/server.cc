// See server.h.

#include "server.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "katamari/chassis.h"
#include "wire.h"

namespace katamari::detail {

using apache::thrift::transport::TServerSocket;
using apache::thrift::transport::TSocket;

namespace {

/** The same in every kit. */
constexpr std::size_t connectionsMax = 256;
/** Largest frame whose rest is dropped. */
constexpr std::size_t skippedBytesMax = 0x40000000;
/** Calls in flight on one connection, above which it is not read. */
constexpr int pipelineMax = 1024;
/** Time for a peer of the mesh to close its connection after a drain notice and the last reply. */
constexpr std::chrono::milliseconds leaveTime{1000};
constexpr std::size_t readBytes = 64 * 1024;
constexpr std::size_t frameLengthBytes = 4;

bool isTemporary(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

std::shared_ptr<TServerSocket> listenOn(const std::string& listen) {
  const auto [path, host, port] = parseAddress(listen);
  const auto socket = path.empty() ? std::make_shared<TServerSocket>(host, port) : std::make_shared<TServerSocket>(path);
  socket->setInterruptableChildren(false);
  try {
    socket->listen();
  } catch (const std::exception& error) {
    throw std::runtime_error("cannot listen on " + listen + ": " + error.what() +
                             ". Is another process there? KATAMARI_LISTEN says where else to listen");
  }
  ::fcntl(socket->getSocketFD(), F_SETFD, FD_CLOEXEC);
  return socket;
}

/**
 * Returns standard input as the lifeline, and gives handlers and their child processes an empty one. Returns -1
 * without a lifeline.
 */
int takeLifeline() {
  const char* const lifeline = std::getenv("KATAMARI_LIFELINE");
  if (lifeline == nullptr || std::strcmp(lifeline, "stdin") != 0) return -1;
  const int taken = ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  const int empty = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (taken < 0 || empty < 0 || ::dup2(empty, STDIN_FILENO) < 0)
    throw std::runtime_error(std::string("cannot watch standard input: ") + std::strerror(errno));
  ::close(empty);
  return taken;
}

}  // namespace

Waker::Waker() {
  if (::pipe(ends_) != 0) throw std::runtime_error(std::string("cannot make a pipe: ") + std::strerror(errno));
  for (const int end : ends_) {
    ::fcntl(end, F_SETFL, O_NONBLOCK);
    ::fcntl(end, F_SETFD, FD_CLOEXEC);
  }
}

Waker::~Waker() {
  for (const int end : ends_) ::close(end);
}

void Waker::wake() const noexcept {
  const int before = errno;
  // If the pipe is full, the server thread wakes anyway.
  if (::write(ends_[1], "w", 1) < 0) errno = before;
}

void Waker::quiet() const noexcept {
  char bytes[64];
  while (::read(ends_[0], bytes, sizeof bytes) > 0) {
  }
}

Connection::Connection(std::shared_ptr<TSocket> socket, const Waker& waker)
    : socket_(std::move(socket)), waker_(waker), fd_(socket_->getSocketFD()) {
  const int yes = 1;
  // Fails on Unix sockets, which do not delay small writes.
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  ::fcntl(fd_, F_SETFD, FD_CLOEXEC);
}

void Connection::send(const std::string& frame) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (isGone_) return;
  std::size_t sent = 0;
  while (unsent_.empty() && sent < frame.size()) {
    const auto taken = ::send(fd_, frame.data() + sent, frame.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (taken < 0 && errno == EINTR) continue;
    // Other errors are left to the reading side, which sees them too.
    if (taken <= 0) break;
    sent += static_cast<std::size_t>(taken);
  }
  if (sent == frame.size()) return;
  unsent_.append(frame, sent, std::string::npos);
  waker_.wake();
}

void Connection::flush() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (isGone_ || unsent_.empty()) return;
  const auto taken = ::send(fd_, unsent_.data(), unsent_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (taken > 0) unsent_.erase(0, static_cast<std::size_t>(taken));
  else if (!isTemporary(errno)) closeLocked();
}

std::size_t Connection::unsentBytes() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return unsent_.size();
}

void Connection::close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  closeLocked();
}

void Connection::closeLocked() {
  if (isGone_.exchange(true)) return;
  unsent_.clear();
  socket_->close();
}

bool Connection::read() {
  char bytes[readBytes];
  const auto taken = ::recv(fd_, bytes, sizeof bytes, MSG_DONTWAIT);
  if (taken > 0) unread_.append(bytes, static_cast<std::size_t>(taken));
  return taken > 0 || (taken < 0 && isTemporary(errno));
}

bool Connection::nextFrame(std::string& frame, std::size_t& oversized) {
  const auto skipped = std::min(skip_, unread_.size() - unreadFrom_);
  skip_ -= skipped;
  unreadFrom_ += skipped;
  oversized = 0;
  const auto have = unread_.size() - unreadFrom_;
  const auto wordAt = [this](std::size_t at) {
    std::uint32_t word = 0;
    std::memcpy(&word, unread_.data() + unreadFrom_ + at, sizeof word);
    return static_cast<std::size_t>(ntohl(word));
  };
  const std::size_t length = have >= frameLengthBytes ? wordAt(0) : 0;
  if (length > skippedBytesMax)
    throw std::runtime_error("a frame of " + std::to_string(length) + " bytes, the limit is " +
                             std::to_string(frameBytesMax()));
  if (length > static_cast<std::size_t>(frameBytesMax()) + contextBytesMax) {
    if (have < frameLengthBytes + headBytes) return false;
    const auto nameBytes = wordAt(2 * frameLengthBytes);
    if (wordAt(frameLengthBytes) >> 16U != 0x8001U || nameBytes > static_cast<std::size_t>(nameBytesMax))
      throw std::runtime_error("a frame of " + std::to_string(length) + " bytes that begins like no message");
    const auto start = headBytes + nameBytes + contextHeadBytes;
    if (have < frameLengthBytes + start) return false;
    frame.assign(unread_, unreadFrom_ + frameLengthBytes, start);
    oversized = length;
    skip_ = frameLengthBytes + length;
    return true;
  }
  if (have < frameLengthBytes + length) {
    unread_.erase(0, unreadFrom_);
    unreadFrom_ = 0;
    // Free the memory of a large frame.
    if (unread_.empty() && unread_.capacity() > 16 * readBytes) unread_.shrink_to_fit();
    return false;
  }
  frame.assign(unread_, unreadFrom_ + frameLengthBytes, length);
  unreadFrom_ += frameLengthBytes + length;
  return true;
}

Server::Server(const std::string& listen) : listener_(listenOn(listen)), lifeline_(takeLifeline()) {}

std::string Server::address() const {
  if (listener_->isUnixDomainSocket()) return "unix:" + listener_->getPath();
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  char host[INET6_ADDRSTRLEN] = "";
  ::getsockname(listener_->getSocketFD(), reinterpret_cast<sockaddr*>(&bound), &size);
  if (bound.ss_family == AF_INET6) {
    const auto& found = reinterpret_cast<const sockaddr_in6&>(bound);
    ::inet_ntop(AF_INET6, &found.sin6_addr, host, sizeof host);
    return "tcp:[" + std::string(host) + "]:" + std::to_string(ntohs(found.sin6_port));
  }
  const auto& found = reinterpret_cast<const sockaddr_in&>(bound);
  ::inet_ntop(AF_INET, &found.sin_addr, host, sizeof host);
  return "tcp:" + std::string(host) + ":" + std::to_string(ntohs(found.sin_port));
}

void Server::run(const OnFrame& onFrame) {
  while (!isDraining_ || !isDrained()) {
    std::vector<pollfd> watched{{waker_.fd(), POLLIN, 0}};
    watched.push_back({lifeline_, POLLIN, 0});
    watched.push_back({isDraining_ ? -1 : listener_->getSocketFD(), POLLIN, 0});
    for (const auto& peer : peers_) {
      const auto unsent = peer->unsentBytes();
      const bool mayRead = peer->inFlight < pipelineMax && unsent < static_cast<std::size_t>(frameBytesMax());
      const int events = (mayRead ? POLLIN : 0) | (unsent > 0 ? POLLOUT : 0);
      watched.push_back({peer->fd(), static_cast<short>(events), 0});
    }
    const bool isWaitingForPeers = isDraining_ && inFlight_ == 0;
    if (::poll(watched.data(), watched.size(), isWaitingForPeers ? 20 : -1) < 0) continue;
    if (watched[0].revents != 0) waker_.quiet();
    if (watched[1].revents != 0) readLifeline();
    auto seen = watched.begin() + 3;
    for (auto peer = peers_.begin(); peer != peers_.end(); ++seen) {
      if (seen->revents != 0) serve(*peer, seen->revents, onFrame);
      peer = (*peer)->isGone() ? peers_.erase(peer) : std::next(peer);
    }
    // Last, because it adds to the peers.
    if (watched[2].revents != 0 && !isDraining_) accept();
  }
  for (const auto& peer : peers_) peer->close();
}

void Server::drain() noexcept {
  isDraining_ = true;
  waker_.wake();
}

void Server::begin(Connection& peer) {
  peer.inFlight++;
  inFlight_++;
}

void Server::end(Connection& peer) {
  inFlight_--;
  // Wake the server thread if it has stopped reading this peer, or waits for the last call of a drain.
  if (peer.inFlight-- >= pipelineMax || isDraining_) waker_.wake();
}

/**
 * Exits when standard input closes, so that a chassis never outlives its resource manager. It does not wait for
 * handlers, which may hang.
 */
void Server::readLifeline() {
  char bytes[256];
  const auto taken = ::read(lifeline_, bytes, sizeof bytes);
  if (taken == 0 || (taken < 0 && !isTemporary(errno))) std::_Exit(0);
}

void Server::accept() {
  try {
    const auto socket = std::dynamic_pointer_cast<TSocket>(listener_->accept());
    if (socket == nullptr) return;
    if (peers_.size() < connectionsMax) peers_.push_back(std::make_shared<Connection>(socket, waker_));
    else log(Level::warning) << "refused a connection: " << connectionsMax << " are open, which is the limit";
  } catch (const std::exception& error) {
    log(Level::warning) << "cannot accept a connection: " << error.what();
  }
}

void Server::serve(const std::shared_ptr<Connection>& peer, short events, const OnFrame& onFrame) {
  if ((events & POLLOUT) != 0) peer->flush();
  if ((events & (POLLIN | POLLHUP | POLLERR)) == 0) return;
  try {
    const bool isThere = peer->read();
    std::string frame;
    std::size_t oversized = 0;
    while (peer->nextFrame(frame, oversized)) onFrame(peer, std::move(frame), oversized);
    // A peer that has ended its side wants no answers.
    if (!isThere) peer->close();
  } catch (const std::exception& error) {
    // Nothing sensible can be read from here on.
    log(Level::warning) << "closed a connection that does not speak framed, strict-binary Thrift: " << error.what();
    peer->close();
  }
}

bool Server::isDrained() {
  if (!isNoticed_) {
    isNoticed_ = true;
    listener_->close();
    for (const auto& peer : peers_)
      if (peer->isOfMesh)
        peer->send(message(apache::thrift::protocol::T_ONEWAY, "katamari.Link:drain", 0,
                           [](TProtocol& out) { out.writeFieldStop(); }));
  }
  if (inFlight_ > 0) return false;
  if (idleSince_ == Clock::time_point{}) idleSince_ = Clock::now();
  // Let peers of the mesh close their connections, so that no call is in transit when the connection closes.
  for (auto peer = peers_.begin(); peer != peers_.end();) {
    const bool hasAll = !(*peer)->isOfMesh && (*peer)->unsentBytes() == 0;
    if (hasAll) (*peer)->close();
    peer = hasAll ? peers_.erase(peer) : std::next(peer);
  }
  return peers_.empty() || Clock::now() - idleSince_ >= leaveTime;
}

}  // namespace katamari::detail
