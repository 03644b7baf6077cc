// The load generator: one thread, epoll, no library. Repeats one prepared request to servers that must all return the
// same prepared reply, compares every reply byte by byte, and prints the results as one line of JSON.
//
//   load framed --to HOST:PORT[,HOST:PORT...] --request FILE --reply FILE [--connections 64] [--depth 1]
//               [--seconds 5] [--warm-up 1] [--rate CALLS_A_SECOND] [--deadline-ms 0]
//   load nats   --to HOST:PORT --subject echo --request FILE ...
//   load serve  --port PORT --reply FILE      answers framed requests, to measure this program itself
//
// Closed loop: every connection has `depth` calls in flight, and each reply triggers the next call. Open loop
// (--rate): calls are due at random times (exponential intervals, fixed seed), whether or not replies arrive. Latency
// counts from the time when a call was due, so a stall of the server counts for every call that had to wait (no
// coordinated omission). A reply later than --deadline-ms counts as late. FILE contains a whole frame. In framed mode
// each request gets its own sequence id, and replies may arrive in any order.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <string>
#include <vector>

namespace {

using Micros = int64_t;

Micros now() {
  timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000000LL + at.tv_nsec / 1000;
}

[[noreturn]] void die(const std::string& why) {
  fprintf(stderr, "load: %s\n", why.c_str());
  exit(1);
}

uint32_t read32(const char* at) {
  uint32_t value;
  memcpy(&value, at, 4);
  return ntohl(value);
}

void write32(char* at, uint32_t value) {
  value = htonl(value);
  memcpy(at, &value, 4);
}

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) die("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Histogram of times in microseconds, with buckets of at most 1/128 of the value.
class Histogram {
 public:
  void add(Micros value) {
    const size_t at = slot(std::max<Micros>(value, 0));
    if (at >= counts_.size()) counts_.resize(at + 1);
    counts_[at]++;
    total_++;
    max_ = std::max(max_, value);
    sum_ += static_cast<double>(value);
  }

  double quantile(double q) const {
    const double wanted = std::ceil(q * static_cast<double>(total_));
    double seen = 0;
    for (size_t at = 0; at < counts_.size(); at++) {
      seen += static_cast<double>(counts_[at]);
      if (seen >= wanted && counts_[at] > 0) return std::min(middle(at), static_cast<double>(max_));
    }
    return static_cast<double>(max_);
  }

  double mean() const { return total_ == 0 ? 0 : sum_ / static_cast<double>(total_); }
  Micros max() const { return max_; }

 private:
  static constexpr int kBits = 7;

  static size_t slot(Micros value) {
    const auto wide = static_cast<uint64_t>(value);
    if (wide < (1U << (kBits + 1))) return wide;
    const int shift = 63 - __builtin_clzll(wide) - kBits;
    return (static_cast<size_t>(shift) << kBits) + (wide >> shift);
  }

  static double middle(size_t at) {
    if (at < (1U << (kBits + 1))) return static_cast<double>(at);
    const size_t shift = (at >> kBits) - 1;
    const size_t rest = at - (shift << kBits);
    return std::ldexp(static_cast<double>(rest) + 0.5, static_cast<int>(shift));
  }

  std::vector<uint64_t> counts_;
  uint64_t total_ = 0;
  Micros max_ = 0;
  double sum_ = 0;
};

struct Options {
  std::string mode;
  std::vector<std::string> to;
  std::string request;
  std::string reply;
  std::string subject = "echo";
  int connections = 64;
  int depth = 1;
  double seconds = 5;
  double warmUp = 1;
  double rate = 0;
  Micros deadline = 0;
  int port = 0;
};

struct Results {
  uint64_t answered = 0, right = 0, late = 0, exceptions = 0, wrong = 0, lost = 0, due = 0;
  std::string firstError;
  Histogram times;
};

/// The interface of the two protocols.
class Protocol {
 public:
  virtual ~Protocol() = default;
  /// Returns the bytes to send once after connecting.
  virtual std::string greeting(int connection) const = 0;
  virtual void appendRequest(std::string& out, int connection, uint32_t id) const = 0;
  /// What the received bytes contain: too few bytes (kMore), no reply (kNothing), or a reply of some kind.
  enum class Seen { kMore, kNothing, kRight, kException, kWrong };
  virtual Seen next(const char* at, size_t size, size_t& used, uint32_t& id, std::string& reply, std::string& error) const = 0;
};

/// Framed strict binary Thrift. Layout: length, version and type, length of the name, name, sequence id, body.
class Framed : public Protocol {
 public:
  Framed(std::string request, std::string reply) : request_(std::move(request)), reply_(std::move(reply)) {
    idAt_ = idOffset(request_);
    replyIdAt_ = idOffset(reply_);
  }

  static size_t idOffset(const std::string& frame) {
    if (frame.size() < 16) die("a frame of less than 16 bytes is not a Thrift message");
    return 12 + read32(frame.data() + 8);
  }

  std::string greeting(int) const override { return ""; }

  void appendRequest(std::string& out, int, uint32_t id) const override {
    const size_t begin = out.size();
    out += request_;
    write32(&out[begin + idAt_], id);
  }

  Seen next(const char* at, size_t size, size_t& used, uint32_t& id, std::string&, std::string& error) const override {
    if (size < 4) return Seen::kMore;
    const size_t length = 4 + read32(at);
    if (size < length) return Seen::kMore;
    used = length;
    if (length < 16) return Seen::kWrong;
    const size_t idAt = 12 + read32(at + 8);
    if (idAt + 4 > length) return Seen::kWrong;
    id = read32(at + idAt);
    if (length == reply_.size() && idAt == replyIdAt_ && memcmp(at, reply_.data(), idAt) == 0 &&
        memcmp(at + idAt + 4, reply_.data() + idAt + 4, length - idAt - 4) == 0)
      return Seen::kRight;
    if (at[7] != 3) return Seen::kWrong;
    if (error.empty()) error = printable(at + idAt + 4, length - idAt - 4);
    return Seen::kException;
  }

 private:
  static std::string printable(const char* at, size_t size) {
    std::string text;
    for (size_t i = 0; i < size && text.size() < 200; i++)
      if (at[i] >= ' ' && at[i] != '"' && at[i] != '\\') text += at[i];
    return text;
  }

  std::string request_, reply_;
  size_t idAt_, replyIdAt_;
};

/// NATS: each connection subscribes to one subject, on which its replies arrive in order.
class Nats : public Protocol {
 public:
  Nats(std::string payload, std::string subject) : payload_(std::move(payload)), subject_(std::move(subject)) {}

  std::string greeting(int connection) const override {
    return "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB _R." + std::to_string(connection) + " 1\r\n";
  }

  void appendRequest(std::string& out, int connection, uint32_t) const override {
    out += "PUB " + subject_ + " _R." + std::to_string(connection) + " " + std::to_string(payload_.size()) + "\r\n";
    out += payload_;
    out += "\r\n";
  }

  Seen next(const char* at, size_t size, size_t& used, uint32_t& id, std::string& reply, std::string& error) const override {
    const auto* end = static_cast<const char*>(memmem(at, size, "\r\n", 2));
    if (end == nullptr) return Seen::kMore;
    const size_t line = static_cast<size_t>(end - at) + 2;
    used = line;
    if (memcmp(at, "MSG ", 4) != 0) {
      if (memcmp(at, "PING", 4) == 0) reply = "PONG\r\n";
      if (memcmp(at, "-ERR", 4) == 0) die(std::string(at, line));
      return Seen::kNothing;
    }
    const char* space = end;
    while (space > at && space[-1] != ' ') space--;
    const size_t length = strtoul(space, nullptr, 10);
    if (size < line + length + 2) return Seen::kMore;
    used = line + length + 2;
    id = kInOrder;
    if (length == payload_.size() && memcmp(at + line, payload_.data(), length) == 0) return Seen::kRight;
    if (error.empty()) error = std::string(at, std::min<size_t>(line, 100));
    return Seen::kWrong;
  }

  static constexpr uint32_t kInOrder = 0xffffffff;

 private:
  std::string payload_, subject_;
};

struct Connection {
  int fd = -1;
  int number = 0;
  std::string out;
  size_t sent = 0;
  std::string in;
  size_t read = 0;
  bool waitsToWrite = false;
  /// Calls in flight by id, with the time from which the latency of each counts.
  std::deque<std::pair<uint32_t, Micros>> inFlight;
  uint32_t lastId = 0;
};

class Load {
 public:
  Load(const Options& options, const Protocol& protocol) : options_(options), protocol_(protocol) {}

  void run() {
    poll_ = epoll_create1(0);
    if (options_.rate > 0) watchTimer();
    for (int i = 0; i < options_.connections; i++) open(i);
    const Micros begin = now();
    measureFrom_ = begin + static_cast<Micros>(options_.warmUp * 1e6);
    measureTo_ = measureFrom_ + static_cast<Micros>(options_.seconds * 1e6);
    if (options_.rate > 0) {
      dueAt_ = static_cast<double>(begin);
      for (size_t i = 0; i < connections_.size(); i++) idle_.push_back(i);
    } else
      for (auto& connection : connections_) {
        for (int i = 0; i < options_.depth; i++) send(*connection, begin);
        flush(*connection);
      }
    // In an open loop, calls that were due have one more second to get a reply.
    const Micros end = measureTo_ + (options_.rate > 0 ? 1000000 + options_.deadline : 0);
    while (now() < end) poll(end);
    // Wait for the replies to calls in flight, because some servers crash when a connection is reset.
    isEnding_ = true;
    const Micros limit = now() + 1000000;
    while (now() < limit && isBusy()) poll(limit);
    for (auto& connection : connections_)
      for (auto& [id, from] : connection->inFlight)
        if (options_.rate > 0 && isMeasured(from)) results_.lost++;
    print();
  }

 private:
  void open(int number) {
    const std::string& to = options_.to[static_cast<size_t>(number) % options_.to.size()];
    const size_t colon = to.rfind(':');
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(atoi(to.c_str() + colon + 1)));
    if (inet_pton(AF_INET, to.substr(0, colon).c_str(), &address.sin_addr) != 1) die("no IPv4 address in " + to);
    auto connection = std::make_unique<Connection>();
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    connection->number = number;
    if (connect(connection->fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      die("cannot connect to " + to + ": " + strerror(errno));
    const int on = 1;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = connection.get();
    epoll_ctl(poll_, EPOLL_CTL_ADD, connection->fd, &event);
    connection->out = protocol_.greeting(number);
    flush(*connection);
    connections_.push_back(std::move(connection));
  }

  void poll(Micros end) {
    if (options_.rate > 0 && dueAt_ < static_cast<double>(measureTo_)) {
      sendDue();
      setTimer();
    }
    epoll_event events[256];
    const int count = epoll_wait(poll_, events, 256, static_cast<int>(std::min<Micros>((end - now()) / 1000 + 1, 100)));
    for (int i = 0; i < count; i++) {
      if (events[i].data.ptr == nullptr) {
        uint64_t expirations;
        if (read(timer_, &expirations, sizeof expirations) < 0) continue;
        continue;
      }
      auto& connection = *static_cast<Connection*>(events[i].data.ptr);
      if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) receive(connection);
      if (connection.fd >= 0) flush(connection);
    }
  }

  /// Uses a timerfd, because timeouts of epoll have a resolution of one millisecond.
  void watchTimer() {
    timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = nullptr;
    epoll_ctl(poll_, EPOLL_CTL_ADD, timer_, &event);
  }

  /// If all connections are busy, a due call can only queue behind others. Such calls are sent in batches, every
  /// kStep microseconds, which saves one wake-up per call. Their latency still counts from when they were due.
  void setTimer() {
    const auto due = static_cast<Micros>(dueAt_) + 1;
    const Micros at = idle_.empty() ? std::max(due, now() + kStep) : due;
    itimerspec when{};
    when.it_value.tv_sec = at / 1000000;
    when.it_value.tv_nsec = at % 1000000 * 1000;
    timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);
  }

  static constexpr Micros kStep = 200;

  void sendDue() {
    const auto until = static_cast<double>(std::min(now(), measureTo_));
    while (dueAt_ <= until) {
      const auto from = static_cast<Micros>(dueAt_);
      if (isMeasured(from)) results_.due++;
      Connection& connection = *connections_[idle_.empty() ? nextConnection_++ % connections_.size() : idle_.back()];
      if (!idle_.empty()) idle_.pop_back();
      if (connection.fd >= 0) {
        if (connection.sent == connection.out.size()) touched_.push_back(&connection);
        send(connection, from);
      } else if (isMeasured(from)) {
        results_.lost++;
      }
      dueAt_ += pause_(random_) * 1e6 / options_.rate;
    }
    for (Connection* connection : touched_)
      if (connection->fd >= 0) flush(*connection);
    touched_.clear();
  }

  void send(Connection& connection, Micros from) {
    const uint32_t id = connection.lastId = (connection.lastId + 1) & 0x7fffffff;
    connection.inFlight.emplace_back(id, from);
    protocol_.appendRequest(connection.out, connection.number, id);
  }

  void receive(Connection& connection) {
    static char buffer[1 << 18];
    for (;;) {
      const ssize_t count = recv(connection.fd, buffer, sizeof buffer, 0);
      if (count < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (count <= 0) {
        lose(connection);
        return;
      }
      connection.in.append(buffer, static_cast<size_t>(count));
      if (count < static_cast<ssize_t>(sizeof buffer)) break;
    }
    const Micros at = now();
    std::string reply;
    for (;;) {
      size_t used = 0;
      uint32_t id = 0;
      const auto seen = protocol_.next(connection.in.data() + connection.read, connection.in.size() - connection.read, used, id,
                                     reply, results_.firstError);
      if (seen == Protocol::Seen::kMore) break;
      connection.read += used;
      if (!reply.empty()) connection.out += std::exchange(reply, "");
      if (seen != Protocol::Seen::kNothing) answered(connection, seen, id, at);
    }
    if (connection.read == connection.in.size()) {
      connection.in.clear();
      connection.read = 0;
    } else if (connection.read > (1U << 20)) {
      connection.in.erase(0, connection.read);
      connection.read = 0;
    }
  }

  void answered(Connection& connection, Protocol::Seen seen, uint32_t id, Micros at) {
    auto& inFlight = connection.inFlight;
    auto found = inFlight.begin();
    if (id != Nats::kInOrder)
      while (found != inFlight.end() && found->first != id) ++found;
    if (found == inFlight.end()) die("a reply to a call that is not in flight");
    const Micros from = found->second;
    inFlight.erase(found);
    // A closed loop counts the calls that end within the measured time, an open loop those that were due within it.
    if (options_.rate > 0 ? isMeasured(from) : isMeasured(at)) count(seen, at - from);
    if (options_.rate == 0 && !isEnding_) send(connection, at);
    else if (inFlight.empty()) idle_.push_back(static_cast<size_t>(connection.number));
  }

  void count(Protocol::Seen seen, Micros took) {
    results_.answered++;
    if (seen == Protocol::Seen::kException) results_.exceptions++;
    else if (seen == Protocol::Seen::kWrong) results_.wrong++;
    else if (options_.deadline > 0 && took > options_.deadline) results_.late++;
    else results_.right++;
    if (seen == Protocol::Seen::kRight) results_.times.add(took);
  }

  void flush(Connection& connection) {
    while (connection.sent < connection.out.size()) {
      const ssize_t count =
          ::send(connection.fd, connection.out.data() + connection.sent, connection.out.size() - connection.sent, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno == EAGAIN) break;
      if (count < 0) {
        lose(connection);
        return;
      }
      connection.sent += static_cast<size_t>(count);
    }
    const bool isLeft = connection.sent < connection.out.size();
    if (!isLeft) {
      connection.out.clear();
      connection.sent = 0;
    }
    if (isLeft == connection.waitsToWrite) return;
    connection.waitsToWrite = isLeft;
    epoll_event event{};
    event.events = EPOLLIN | (isLeft ? EPOLLOUT : 0U);
    event.data.ptr = &connection;
    epoll_ctl(poll_, EPOLL_CTL_MOD, connection.fd, &event);
  }

  void lose(Connection& connection) {
    close(connection.fd);
    connection.fd = -1;
    results_.lost += connection.inFlight.size();
    connection.inFlight.clear();
    if (options_.rate == 0 && !isEnding_) die("a server closed a connection");
  }

  bool isBusy() const {
    return std::any_of(connections_.begin(), connections_.end(), [](auto& one) { return !one->inFlight.empty(); });
  }

  bool isMeasured(Micros at) const { return at >= measureFrom_ && at < measureTo_; }

  void print() const {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    const double cpu = static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                       static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    const auto& times = results_.times;
    printf(
        "{\"seconds\":%g,\"due\":%lu,\"answered\":%lu,\"right\":%lu,\"late\":%lu,\"exceptions\":%lu,\"wrong\":%lu,\"lost\":%lu,"
        "\"meanUs\":%.1f,\"p50Us\":%.1f,\"p99Us\":%.1f,\"p999Us\":%.1f,\"maxUs\":%ld,\"cpuSeconds\":%.2f,\"firstError\":\"%s\"}\n",
        options_.seconds, results_.due, results_.answered, results_.right, results_.late, results_.exceptions, results_.wrong,
        results_.lost, times.mean(), times.quantile(0.5), times.quantile(0.99), times.quantile(0.999), times.max(), cpu,
        results_.firstError.c_str());
  }

  const Options& options_;
  const Protocol& protocol_;
  int poll_ = -1;
  int timer_ = -1;
  std::vector<std::unique_ptr<Connection>> connections_;
  /// Open loop: connections without calls in flight, like the idle connections of a client's pool. If there are none,
  /// calls queue on all connections in turn.
  std::vector<size_t> idle_;
  size_t nextConnection_ = 0;
  /// Open loop: connections with unsent calls of this round.
  std::vector<Connection*> touched_;
  bool isEnding_ = false;
  Micros measureFrom_ = 0, measureTo_ = 0;
  double dueAt_ = 0;
  std::mt19937_64 random_{20080101};
  std::exponential_distribution<double> pause_{1.0};
  Results results_;
};

/// Answers every framed request with the prepared reply under its sequence id, as fast as one thread can.
void serve(int port, std::string reply) {
  const size_t replyIdAt = Framed::idOffset(reply);
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(listener, 1024) != 0)
    die("cannot listen at port " + std::to_string(port) + ": " + strerror(errno));
  const int poll = epoll_create1(0);
  const auto watch = [poll](int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
  };
  watch(listener);
  std::map<int, std::string> held;
  std::string out;
  static char buffer[1 << 18];
  epoll_event events[256];
  for (;;) {
    const int count = epoll_wait(poll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      const int fd = events[i].data.fd;
      if (fd == listener) {
        const int client = accept(listener, nullptr, nullptr);
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(client);
        continue;
      }
      const ssize_t size = recv(fd, buffer, sizeof buffer, 0);
      if (size <= 0) {
        close(fd);
        held.erase(fd);
        continue;
      }
      std::string& in = held[fd].append(buffer, static_cast<size_t>(size));
      size_t at = 0;
      out.clear();
      while (in.size() - at >= 4 && in.size() - at >= 4 + read32(&in[at])) {
        write32(&reply[replyIdAt], read32(&in[at + 12 + read32(&in[at + 8])]));
        out += reply;
        at += 4 + read32(&in[at]);
      }
      in.erase(0, at);
      // A blocking send is sufficient for small replies.
      if (!out.empty() && send(fd, out.data(), out.size(), MSG_NOSIGNAL) < 0) close(fd);
    }
  }
}

Options parse(int argc, char** argv) {
  Options options;
  if (argc < 2) die("usage: load framed|nats|serve --to HOST:PORT --request FILE --reply FILE ...");
  options.mode = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    if (flag == "--to") {
      for (size_t at = 0; at <= value.size();) {
        const size_t comma = std::min(value.find(',', at), value.size());
        options.to.push_back(value.substr(at, comma - at));
        at = comma + 1;
      }
    } else if (flag == "--request") options.request = contents(value);
    else if (flag == "--reply") options.reply = contents(value);
    else if (flag == "--subject") options.subject = value;
    else if (flag == "--connections") options.connections = atoi(value.c_str());
    else if (flag == "--depth") options.depth = atoi(value.c_str());
    else if (flag == "--seconds") options.seconds = atof(value.c_str());
    else if (flag == "--warm-up") options.warmUp = atof(value.c_str());
    else if (flag == "--rate") options.rate = atof(value.c_str());
    else if (flag == "--deadline-ms") options.deadline = atoll(value.c_str()) * 1000;
    else if (flag == "--port") options.port = atoi(value.c_str());
    else die("unknown flag: " + flag);
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  const Options options = parse(argc, argv);
  if (options.mode == "serve") serve(options.port, options.reply);
  if (options.to.empty()) die("--to is missing: HOST:PORT of the server");
  std::unique_ptr<Protocol> protocol;
  if (options.mode == "framed") protocol = std::make_unique<Framed>(options.request, options.reply);
  else if (options.mode == "nats") protocol = std::make_unique<Nats>(options.request, options.subject);
  else die("unknown mode: " + options.mode + "; expected framed, nats or serve");
  Load(options, *protocol).run();
}
