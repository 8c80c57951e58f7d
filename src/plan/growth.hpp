// How far a plan reaches: what ends it first when the data grows.
#pragma once

#include <cstdint>
#include <string>

#include "plan/memory_plan.hpp"

namespace vixen {

struct GrowthLimit {
  int64_t factor = 0;  // labels and queries this many times as many are too many; 0: none of those looked at are
  int64_t labels = 0;  // then
  std::string reason;

  /// A line: "at 4 times ...".
  std::string text() const;
};

/// Doubles queries, labels and pairs of a plan, on as many ranks, until no way to run fits the budget or a count passes
/// what its type or its arithmetic holds.
GrowthLimit first_limit(const MemoryShape& shape, const LayeredEncoder& encoder, int64_t budget_bytes);

}  // namespace vixen
