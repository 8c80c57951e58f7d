// The host memory that a checkpoint's snapshot takes (run.checkpoint_async): a copy of what a rank writes.
#pragma once

#include <cstdint>

#include "plan/memory_plan.hpp"

namespace vixen {

/// Bytes on rank 0, which copies what all ranks have beside its own rows; from a GPU into pinned memory, whose blocks
/// are powers of two. 0 without run.checkpoint_async.
int64_t snapshot_bytes(const MemoryShape& shape);

}  // namespace vixen
