// Times the two collectives that a training step is made of.
#pragma once

#include "comm/communicator.hpp"

namespace vixen {

struct CollectiveTimes {
  double all_reduce_seconds = 0;
  double all_gather_seconds = 0;  // of kGatherRows x kGatherWidth float32 a rank
};
constexpr int64_t kGatherRows = 512, kGatherWidth = 384;

/// Means over five rounds; the all-reduce is of `elements` float32. Collective.
CollectiveTimes bench_collectives(Communicator& comm, int64_t elements);

}  // namespace vixen
