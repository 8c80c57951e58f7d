// When the scheduler will end this job, by what it tells its processes.
#pragma once

#include <optional>

namespace vixen {

/// Seconds from now until the end of the SLURM job that this process is part of (SLURM_JOB_END_TIME); none outside of
/// one, or where it has no end that is known.
std::optional<double> seconds_of_allocation();

}  // namespace vixen
