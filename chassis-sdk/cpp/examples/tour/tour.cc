// The tour: a chassis with one method per feature of the library. Build it, then run `katamari up` in this folder.

#include <cstdlib>
#include <stdexcept>
#include <thread>

#include <unistd.h>

#include <katamari/chassis.h>

#include "Tour.h"

namespace {

class TourHandler : public tour::TourIf {
 public:
  void whoAreYou(tour::Which& _return) override {
    const char* const resource = std::getenv("KATAMARI_RESOURCE");
    _return.resource = resource == nullptr ? "run by hand" : resource;
    _return.pid = getpid();
  }

  std::int32_t add(const std::int32_t a, const std::int32_t b) override { return a + b; }

  std::int32_t divide(const std::int32_t dividend, const std::int32_t divisor) override {
    if (divisor == 0) {
      tour::DivisionByZero ouch;
      ouch.dividend = dividend;
      throw ouch;
    }
    return dividend / divisor;
  }

  void fail(const std::string& why) override { throw std::runtime_error(why); }

  void note(const std::string& text) override { katamari::log() << katamari::context().caller() << " notes: " << text; }

  void facts(tour::CallFacts& _return) override {
    const auto& call = katamari::context();
    _return.method = call.method();
    _return.caller = call.caller();
    _return.key = call.key();
    _return.traceparent = call.traceparent();
    _return.tracestate = call.tracestate();
    _return.headers = call.headers();
    _return.attempt = call.attempt();
    _return.timeLeftMs = std::chrono::duration_cast<std::chrono::milliseconds>(call.timeLeft()).count();
  }

  std::int32_t sum(const std::vector<std::int32_t>& numbers, const std::string& version) override {
    const auto& call = katamari::context();
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(call.timeLeft());
    auto others = call.client<tour::TourClient>("Tour", {version, left / 2});
    std::int32_t sum = 0;
    for (const auto number : numbers) sum = others.add(sum, number);
    return sum;
  }

  bool work(const std::int32_t ms) override {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(ms);
    while (std::chrono::steady_clock::now() < end) {
      if (katamari::context().isAbandoned()) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  void lastWords(std::string& _return) override {
    katamari::context().retireAfterReply();
    _return = "That was all.";
  }
};

}  // namespace

int main() {
  const char* const version = std::getenv("TOUR_VERSION");
  const char* const concurrency = std::getenv("TOUR_CONCURRENCY");
  katamari::Options options;
  options.idl = "tour.thrift";
  options.service = "Tour";
  options.version = version == nullptr ? "1.0.0" : version;
  options.concurrency = concurrency == nullptr ? 1 : std::atoi(concurrency);
  options.tags = {"sample"};
  options.more = {{"language", "cpp"}};
  return katamari::serve(std::make_shared<tour::TourProcessor>(std::make_shared<TourHandler>()), options);
}
