#include "plan/snapshot_plan.hpp"

#include <bit>

#include "mining/mined_lists.hpp"
#include "objective/objective.hpp"
#include "prototypes/label_prototypes.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

int64_t snapshot_bytes(const MemoryShape& shape) {
  const auto& config = shape.config;
  if (!config.run.checkpoint_async) return 0;
  constexpr int64_t kFloat = 4, kHalf = 2, kId = 4;
  const auto own = [&](int64_t rows) { return RowShards(rows, static_cast<int>(shape.world_size)).max_rows(); };
  const int64_t queries = own(shape.data.queries), labels = own(shape.data.labels), d = shape.width;
  int64_t sum = 0;
  const auto add = [&](int64_t tensors, int64_t bytes) {
    sum += tensors * (shape.cpu ? bytes : static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(bytes))));
  };
  add(3, shape.trained_elements * kFloat);  // parameters and both moments
  sum += shape.data.queries * kId;          // clusters of the queries, on the host as the lists below
  add(1, queries * d * kHalf);              // bank
  if (make_objective(config)->uses_prototypes()) {
    constexpr int64_t kWithGradient = 4;
    add(3, LabelPrototypes::free_vector_bytes(config, shape.data.labels, d, shape.world_size) / kWithGradient);
    add(1, LabelPrototypes::centroid_bytes(shape.data.labels, d, shape.world_size));
    sum += shape.data.labels * kId;
  }
  const auto& mining = config.mining;
  if (mining.columns > 0) {
    const bool behind = mining.overlap > 0;  // labels and lists in the making
    sum += (behind ? 2 : 1) * MinedLists::bytes(mining, queries);
    if (mining.labels == MiningLabels::kBank) add(1, labels * d * kHalf);
    if (behind) add(1, labels * d * kFloat);
  }
  return sum;
}

}  // namespace vixen
