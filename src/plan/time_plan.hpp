// How long training takes, by part, from FLOPs, bytes and a device's rates: an estimate before anyone queues for it.
#pragma once

#include <optional>
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

/// Matrix products, what is read and written between them, and arithmetic of kernels that is more than that.
struct Work {
  double flops = 0, bytes = 0, core_flops = 0;

  double seconds(const DeviceRates& device) const {
    return flops / device.rate() + bytes / device.memory_rate + core_flops / device.core_flops;
  }
};

/// Of an encoder's forward and backward passes over a batch; repeated: recomputed layers, the first pass of gradient
/// caching.
struct EncoderWork {
  Work forward, repeated, backward;

  /// FLOPs of the model in a step, once each, whatever computes them.
  double model_flops() const { return forward.flops + backward.flops + 3 * forward.core_flops; }
  /// All of it.
  Work sum() const {
    return {forward.flops + repeated.flops + backward.flops, forward.bytes + repeated.bytes + backward.bytes,
            forward.core_flops + repeated.core_flops + backward.core_flops};
  }
};
EncoderWork encoder_work(const LayeredEncoder& encoder, const BatchShape& batch, const MemoryChoice& choice, bool cpu);

/// Seconds of what a rank computes in a step, which waits for no other.
struct StepCompute {
  double forward = 0, repeated = 0, backward = 0;  // repeated: recomputation, gradient caching
  double objective = 0;                            // and prototypes
  double optimiser = 0, host_tables = 0;
};

struct TimePlan {
  EncoderWork encoder;  // of a step of one rank
  StepCompute compute;
  std::vector<TimePart> step;  // parts of a step
  std::vector<TimePart> run;   // parts of the whole run: steps, passes, clustering, evaluations
  int64_t steps_per_epoch = 0;

  double step_seconds() const;
  double run_seconds() const;
};

/// Of the mean batch. `chosen` as plan_memory gave it. waits: what ranks wait for one another in a step, by a model of
/// their links (plan/step_timeline.hpp); none: rings over the device's links, with nothing behind anything.
TimePlan plan_time(const MemoryShape& shape, const LayeredEncoder& encoder, const MemoryChoice& chosen,
                   const DeviceRates& device, const std::optional<std::vector<TimePart>>& waits = {});

}  // namespace vixen
