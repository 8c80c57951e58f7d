// How long training takes, by part, from FLOPs, bytes and a device's rates: an estimate before anyone queues for it.
#pragma once

#include <string>
#include <vector>

#include "config/config.hpp"
#include "plan/memory_plan.hpp"

namespace vixen {

/// What a device does, and what is in it.
struct DeviceRates {
  std::string name;
  double memory_bytes = 0;
  double peak_flops = 0;   // matrix products of the backbone, dense, in model.compute
  double attainable = 1;   // share of it that whole layers reach
  double float_flops = 0;  // float32 matrix products: objective, search
  double memory_rate = 0;  // bytes/s of its memory
  double reduce_rate = 0;  // bytes/s, bus bandwidth of an all-reduce
  std::string source;

  double rate() const { return peak_flops * attainable; }
};

/// The table's row of plan.gpu with plan.tflops and plan.bandwidth_gbs over it. "cpu" is measured here and now, with
/// the threads of this process (about a second).
DeviceRates device_rates(const Config& config);

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
