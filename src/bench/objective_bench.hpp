// Times the two ways to evaluate an objective: the whole batch on every rank, or each rank's rows of it.
#pragma once

#include <optional>

#include "comm/communicator.hpp"
#include "config/config.hpp"

namespace vixen {

struct ObjectiveTiming {
  double seconds = 0;         // of one evaluation, collectives included: median of three, or one if it is long
  int64_t peak_bytes = 0;     // of tensors, beyond the input: scores, gradients
  int64_t planned_bytes = 0;  // of the scores, as the memory plan counts them
};
constexpr int64_t kObjectiveWidth = 384;
/// What the replicated way may take on a rank to be timed.
constexpr int64_t kMostObjectiveBytes = 6'000'000'000;

/// train.method with train.batch_size queries and mining.columns further label columns, of unit rows that are drawn at
/// random, kObjectiveWidth wide. way: kReplicated, null where it would take more than kMostObjectiveBytes; or kSharded.
/// Collective.
std::optional<ObjectiveTiming> bench_objective(const Config& config, ObjectiveWay way, Communicator& comm);

}  // namespace vixen
