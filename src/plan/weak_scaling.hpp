// How a step goes with the number of GPUs at the same batch a rank: what is left of each one's speed, and what binds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/layered_encoder.hpp"
#include "model/parameters.hpp"
#include "model/prototype.hpp"
#include "plan/device_rates.hpp"
#include "plan/memory_plan.hpp"

namespace vixen {

/// The largest number of GPUs that is looked at.
inline constexpr int64_t kMostRanks = 1024;

struct ScalePoint {
  int64_t ranks = 1, nodes = 1;
  int64_t batch_size = 0;  // of all ranks
  int64_t peak_bytes = 0;  // of a rank; 0: does not fit, and what follows is 0 too
  double step_seconds = 0, waited_seconds = 0;
  double efficiency = 0;                      // queries a second and rank, of those of the fewest ranks that fit
  std::string binds = {}, longest_wait = {};  // as StepTimeline says
};

/// What a plan was made of.
struct PlannedRun {
  const MemoryShape& shape;  // of plan.world_size ranks
  const LayeredEncoder& encoder;
  const ParameterStore& store;
  const PrototypeNetwork* network;  // null: none
  const DeviceRates& device;
  int64_t budget_bytes;
};

/// 1, 2, 4 ... ranks of a node, then 1, 2, 4 ... nodes of plan.node_ranks, to kMostRanks in all, each with as many
/// queries and mined columns as a rank of the plan.
std::vector<ScalePoint> weak_scaling(const PlannedRun& run);

}  // namespace vixen
