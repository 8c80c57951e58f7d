#include "pretend/streams.hpp"

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "pretend/ledger.hpp"
#include "pretend/memory.hpp"

namespace vixen::pretend {
namespace {

constexpr int kStreams = 33;  // the default one, and a pool

using Clock = std::vector<uint64_t>;  // [kStreams]

struct Clocks {
  std::vector<Clock> streams = std::vector<Clock>(kStreams, Clock(kStreams, 0));
  Clock host = Clock(kStreams, 0);
  int next_of_pool = 1;
};

Clocks& clocks() {
  static auto* all = new Clocks;
  return *all;
}

thread_local int stream_of_thread = 0;

void follow(Clock& clock, const Clock& other) {
  for (size_t s = 0; s < clock.size(); ++s) clock[s] = std::max(clock[s], other[s]);
}

bool covers(const Clock& clock, const Stamp& stamp) {
  return clock[static_cast<size_t>(stamp.stream)] >= stamp.tick;
}

Clock& clock_of(int stream) {
  return clocks().streams.at(static_cast<size_t>(stream));
}

Stamp tick(int stream) {
  Clock& clock = clock_of(stream);
  follow(clock, clocks().host);
  return {stream, ++clock[static_cast<size_t>(stream)]};
}

// What a stream's work on these bytes should have waited for; null where it is in order.
const Touch* missed(const std::vector<Touch>& earlier, const Access& access, int stream) {
  for (const Touch& touch : earlier)
    if (touch.begin < access.end && access.begin < touch.end && !covers(clock_of(stream), touch.when)) return &touch;
  return nullptr;
}

// One fault a launch.
void check_order(const std::string& name, int stream, const std::vector<Access>& reads,
                 const std::vector<Access>& writes) {
  const Touch* found = nullptr;
  for (const Access& access : reads)
    if (found == nullptr) found = missed(access.use->writes, access, stream);
  for (const Access& access : writes) {
    if (found == nullptr) found = missed(access.use->writes, access, stream);
    if (found == nullptr) found = missed(access.use->reads, access, stream);
  }
  if (found != nullptr)
    add_fault(FaultKind::kUnordered, fmt::format("{} on stream {} does not wait for {} on stream {}", name, stream,
                                                 found->by, found->when.stream));
}

void forget_within(std::vector<Touch>& touches, const Access& access, std::optional<int> of_stream) {
  std::erase_if(touches, [&](const Touch& touch) {
    return access.begin <= touch.begin && touch.end <= access.end && (!of_stream || touch.when.stream == *of_stream);
  });
}

void host_follows(const Clock& clock) {
  follow(clocks().host, clock);
  deliver_what_the_host_knows();
}

struct EventState {
  Clock clock;
};

const Clock& clock_of(const void* event) {
  return static_cast<const EventState*>(event)->clock;
}

class GuardImpl final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return c10::kPrivateUse1; }
  c10::Device exchangeDevice(c10::Device) const override { return only(); }
  c10::Device getDevice() const override { return only(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }

  c10::Stream getStream(c10::Device) const override { return stream(stream_of_thread); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(0); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return next_of_pool(); }
  c10::Stream getNewStream(c10::Device, int) const override { return next_of_pool(); }
  c10::Stream exchangeStream(c10::Stream next) const override {
    const auto last = stream(stream_of_thread);
    stream_of_thread = static_cast<int>(next.id());
    return last;
  }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream& of) const override {
    wait_for_stream(static_cast<int>(of.id()), "synchronize of a stream");
  }
  void synchronizeDevice(c10::DeviceIndex) const override {
    for (int s = 0; s < kStreams; ++s) wait_for_stream(s, "synchronize of the device");
  }

  void record(void** event, const c10::Stream& on, c10::DeviceIndex, c10::EventFlag) const override {
    const std::lock_guard lock(device_lock());
    if (*event == nullptr) *event = new EventState;
    static_cast<EventState*>(*event)->clock = clock_of(static_cast<int>(on.id()));
  }
  void block(void* event, const c10::Stream& waiting) const override {
    const std::lock_guard lock(device_lock());
    follow(clock_of(static_cast<int>(waiting.id())), clock_of(event));
  }
  bool queryEvent(void* event) const override {  // all work is done by the time it is asked for
    const std::lock_guard lock(device_lock());
    host_follows(clock_of(event));
    return true;
  }
  void synchronizeEvent(void* event) const override {
    const std::lock_guard lock(device_lock());
    ++ledger().event_waits;
    host_follows(clock_of(event));
  }
  double elapsedTime(void*, void*, c10::DeviceIndex) const override { return 0; }  // nothing takes time here
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override { delete static_cast<EventState*>(event); }

  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& on) const override {
    record_on_stream(data, static_cast<int>(on.id()));
  }

 private:
  static c10::Device only() { return {c10::kPrivateUse1, 0}; }
  static c10::Stream stream(int id) { return c10::Stream(c10::Stream::UNSAFE, only(), id); }
  static c10::Stream next_of_pool() {
    const std::lock_guard lock(device_lock());
    int& next = clocks().next_of_pool;
    const int id = next;
    next = next + 1 < kStreams ? next + 1 : 1;
    return stream(id);
  }
};

}  // namespace

int current_stream() {
  return stream_of_thread;
}

Use new_use() {
  const std::lock_guard lock(device_lock());
  Use use;
  use.made_on = stream_of_thread;
  use.writes.push_back({0, std::numeric_limits<size_t>::max(), tick(stream_of_thread), "its allocation"});
  return use;
}

Stamp launch_on_current(const std::string& name, const std::vector<Access>& reads, const std::vector<Access>& writes) {
  const std::lock_guard lock(device_lock());
  const int stream = stream_of_thread;
  const Stamp now = tick(stream);
  check_order(name, stream, reads, writes);
  for (const Access& access : reads) {
    forget_within(access.use->reads, access, stream);
    access.use->reads.push_back({access.begin, access.end, now, name});
  }
  for (const Access& access : writes) {
    forget_within(access.use->reads, access, {});
    forget_within(access.use->writes, access, {});
    access.use->writes.push_back({access.begin, access.end, now, name});
  }
  return now;
}

void check_freed(const Use& use) {
  const std::lock_guard lock(device_lock());
  Clock owner = clock_of(use.made_on);
  follow(owner, clocks().host);
  for (const auto* touches : {&use.writes, &use.reads})
    for (const Touch& touch : *touches) {
      const bool known = std::find(use.recorded.begin(), use.recorded.end(), touch.when.stream) != use.recorded.end();
      if (known || covers(owner, touch.when)) continue;
      add_fault(FaultKind::kFreed, fmt::format("memory of stream {} is freed while {} on stream {} may not have ended",
                                               use.made_on, touch.by, touch.when.stream));
    }
}

bool host_knows(const Stamp& stamp) {
  const std::lock_guard lock(device_lock());
  return covers(clocks().host, stamp);
}

bool current_follows(const Stamp& stamp) {
  const std::lock_guard lock(device_lock());
  return covers(clock_of(stream_of_thread), stamp);
}

void wait_for_stream(int stream, const std::string& reason) {
  const std::lock_guard lock(device_lock());
  ++ledger().waits;
  add_fault_in_step(FaultKind::kWait, reason);
  host_follows(clock_of(stream));
}

}  // namespace vixen::pretend

namespace c10::impl {
C10_REGISTER_GUARD_IMPL(PrivateUse1, vixen::pretend::GuardImpl)
}  // namespace c10::impl
