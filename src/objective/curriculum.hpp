// From soft to hard negatives over the first steps of a run.
#pragma once

#include <cstdint>

#include "config/config.hpp"

namespace vixen {

/// The settings of step `step` (from 0) of batches with so many label columns: before loss.soft_steps, the number of
/// negatives and the temperature are between their soft values, at step 0, and those of all later steps, evenly in the
/// logarithm.
LossConfig loss_at(const LossConfig& config, int64_t step, int64_t columns);

/// The settings of the steps that take most: for memory plans.
LossConfig widest_loss(const LossConfig& config, int64_t columns);

}  // namespace vixen
