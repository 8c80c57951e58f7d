// The timeline of a training step over the links between ranks: what computes, what travels, what of that goes on
// behind something else and what all wait for, and which part is the longest.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "plan/time_plan.hpp"
#include "plan/topology.hpp"
#include "plan/traffic_plan.hpp"

namespace vixen {

struct TimelineEvent {
  std::string name;
  bool computes = false;  // else something travels
  double begins = 0;      // seconds from the step's begin
  double ends = 0;        // of the last, where several of a name follow one another
  double busy = 0;        // seconds of computing, or of links
  double waited = 0;      // of them, those in which the device does nothing else
  LinkSeconds links;      // what `busy` consists of, where something travels
  int64_t calls = 0;      // collectives
};

struct StepTimeline {
  std::vector<TimelineEvent> events;  // by their begin
  double seconds = 0;                 // of the step

  /// Of `seconds`: in which the device waits for links.
  double waited() const;
  /// What travels and is waited for.
  std::vector<TimePart> waits() const;
  /// The exchange that is waited for longest, with what it spends most on, as "gradients (between nodes)"; empty: none.
  std::string longest_wait() const;
  /// The part that takes most of the step: "compute", or longest_wait().
  std::string binds() const;

 private:
  const TimelineEvent* longest() const;  // null: none
};

/// How a step's parts may overlap.
struct StepOverlap {
  int64_t chunks = 1;  // of gradient caching: gradients are final in the last one only
  bool behind = true;  // a device computes while something travels; false (CPUs): all wait for everything
};

/// exchanges: as step_exchanges() gives them. Links carry one exchange at a time; those of kBackward set out in turn,
/// each when its gradients are there and the one before has arrived.
StepTimeline step_timeline(const StepCompute& compute, std::span<const Exchange> exchanges, const Topology& topology,
                           const StepOverlap& overlap);

}  // namespace vixen
