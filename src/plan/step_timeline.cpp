#include "plan/step_timeline.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace vixen {
namespace {

// Adds what follows what: `now` is where the device has got to.
class Timeline {
 public:
  Timeline(std::span<const Exchange> exchanges, const Topology& topology)
      : exchanges_(exchanges), topology_(&topology) {}

  void compute(const char* name, double seconds) {
    if (seconds <= 0) return;
    events_.push_back({name, true, now_, now_ + seconds, seconds, seconds, {}, 0});
    now_ += seconds;
  }

  // Exchanges that all wait for, one after another.
  void exchange(Moment moment) {
    for (const auto& exchange : exchanges_) {
      if (exchange.moment != moment) continue;
      auto& event = travel(exchange, now_);
      event.waited += event.ends - now_;
      now_ = event.ends;
    }
  }

  // Of the backward pass: gradients are there from first_final on, and travel while the rest is computed.
  void backward(double seconds, double first_final, bool behind) {
    const double begins = now_, last_part = begins + first_final;
    compute("backward", seconds);
    double links = begins;  // free again
    for (const auto& exchange : exchanges_) {
      if (exchange.moment != Moment::kBackward) continue;
      const double ready = behind ? last_part + exchange.done * (begins + seconds - last_part) : begins + seconds;
      auto& event = travel(exchange, std::max(links, ready));
      links = event.ends;
      event.waited += std::max(0.0, links - now_);
      now_ = std::max(now_, links);
    }
  }

  // What goes on behind the whole step is waited for where it takes longer.
  void aside(Moment moment, bool behind) {
    double links = behind ? 0 : now_;
    for (const auto& exchange : exchanges_) {
      if (exchange.moment != moment) continue;
      auto& event = travel(exchange, links);
      links = event.ends;
      event.waited += std::max(0.0, links - now_);
      now_ = std::max(now_, links);
    }
  }

  StepTimeline finished() {
    std::stable_sort(events_.begin(), events_.end(), [](const auto& a, const auto& b) { return a.begins < b.begins; });
    return {std::move(events_), now_};
  }

 private:
  // What sets out at `begins`. Those of one name are one event.
  TimelineEvent& travel(const Exchange& exchange, double begins) {
    const auto links = collective_seconds(*topology_, exchange.collective, exchange.payload_bytes);
    const auto same = [&](const auto& event) { return !event.computes && event.name == exchange.name; };
    auto event = std::find_if(events_.begin(), events_.end(), same);
    if (event == events_.end())
      event = events_.insert(events_.end(), TimelineEvent{exchange.name, false, begins, begins, 0, 0, {}, 0});
    event->links += links;
    event->busy += links.total();
    event->ends = begins + links.total();
    ++event->calls;
    return *event;
  }

  std::span<const Exchange> exchanges_;
  const Topology* topology_;
  std::vector<TimelineEvent> events_;
  double now_ = 0;
};

const char* most_of(const LinkSeconds& links) {
  if (links.network >= links.node && links.network >= links.latency) return "between nodes";
  return links.node >= links.latency ? "within nodes" : "latency";
}

}  // namespace

double StepTimeline::waited() const {
  double waited = 0;
  for (const auto& event : events)
    if (!event.computes) waited += event.waited;
  return waited;
}

std::vector<TimePart> StepTimeline::waits() const {
  std::vector<TimePart> parts;
  for (const auto& event : events)
    if (!event.computes && event.waited > 0) parts.push_back({"waiting: " + event.name, event.waited});
  return parts;
}

const TimelineEvent* StepTimeline::longest() const {
  const TimelineEvent* longest = nullptr;
  for (const auto& event : events)
    if (!event.computes && event.waited > (longest == nullptr ? 0 : longest->waited)) longest = &event;
  return longest;
}

std::string StepTimeline::longest_wait() const {
  const auto* event = longest();
  return event == nullptr ? std::string() : fmt::format("{} ({})", event->name, most_of(event->links));
}

std::string StepTimeline::binds() const {
  const auto* event = longest();
  return event == nullptr || event->waited <= seconds - waited() ? "compute" : longest_wait();
}

StepTimeline step_timeline(const StepCompute& compute, std::span<const Exchange> exchanges, const Topology& topology,
                           const StepOverlap& overlap) {
  Timeline timeline(exchanges, topology);
  timeline.compute("rows of the tables in host memory", compute.host_tables);
  timeline.compute("forward", compute.forward);
  timeline.exchange(Moment::kForward);
  timeline.exchange(Moment::kGather);
  timeline.compute("prototypes and objective", compute.objective);
  timeline.exchange(Moment::kObjective);
  const double backward = compute.repeated + compute.backward;
  timeline.backward(backward, backward * static_cast<double>(overlap.chunks - 1) / static_cast<double>(overlap.chunks),
                    overlap.behind);
  timeline.exchange(Moment::kUpdate);
  timeline.compute("optimiser", compute.optimiser);
  for (const Moment moment : {Moment::kAhead, Moment::kBehind}) timeline.aside(moment, overlap.behind);
  return timeline.finished();
}

}  // namespace vixen
