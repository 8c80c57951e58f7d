// How long training takes, by part, from FLOPs, bytes and a device's rates: an estimate before anyone queues for it.
#pragma once

#include <string>
#include <vector>

#include "config/config.hpp"
#include "plan/device_rates.hpp"
#include "plan/memory_plan.hpp"

namespace vixen {

struct TimePart {
  std::string name;
  double seconds = 0;
};

struct TimePlan {
  double forward_flops = 0, backward_flops = 0, repeated_flops = 0;  // of a step of one rank; repeated: recomputation
  std::vector<TimePart> step;                                        // parts of a step
  std::vector<TimePart> run;  // parts of the whole run: steps, passes, clustering, evaluations
  int64_t steps_per_epoch = 0;

  double step_seconds() const;
  double run_seconds() const;
};

/// Of the mean batch. `chosen` as plan_memory gave it.
TimePlan plan_time(const MemoryShape& shape, const LayeredEncoder& encoder, const MemoryChoice& chosen,
                   const DeviceRates& device);

}  // namespace vixen
