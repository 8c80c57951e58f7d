// The host memory that a checkpoint's snapshot takes (run.checkpoint_async): a copy of what a rank writes.
#pragma once

#include <vector>

#include "plan/memory_plan.hpp"

namespace vixen {

/// Every part's name begins so.
inline constexpr const char* kSnapshot = "snapshot of a checkpoint";

/// On rank 0, which copies what all ranks have beside its own rows; from a GPU into pinned memory, whose blocks are
/// powers of two. Nothing without run.checkpoint_async.
std::vector<MemoryPart> snapshot_parts(const MemoryShape& shape);

}  // namespace vixen
