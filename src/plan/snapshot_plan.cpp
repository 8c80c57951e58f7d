#include "plan/snapshot_plan.hpp"

#include <bit>
#include <string>

#include "mining/mined_lists.hpp"
#include "objective/objective.hpp"
#include "prototypes/label_prototypes.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

std::vector<MemoryPart> snapshot_parts(const MemoryShape& shape) {
  const auto& config = shape.config;
  if (!config.run.checkpoint_async) return {};
  constexpr int64_t kFloat = 4, kHalf = 2, kId = 4;
  const auto own = [&](int64_t rows) { return RowShards(rows, static_cast<int>(shape.world_size)).max_rows(); };
  const auto held = [&](int64_t tensors, int64_t bytes) {
    return tensors * (shape.cpu ? bytes : static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(bytes))));
  };
  const int64_t queries = own(shape.data.queries), labels = own(shape.data.labels), d = shape.width;
  int64_t rows = held(1, queries * d * kHalf);  // bank
  int64_t lists = shape.data.queries * kId;     // clusters, on the host on every device
  if (make_objective(config)->uses_prototypes()) {
    constexpr int64_t kWithGradient = 4;
    rows += held(3, LabelPrototypes::free_vector_bytes(config, shape.data.labels, d, shape.world_size) / kWithGradient);
    rows += held(1, LabelPrototypes::centroid_bytes(shape.data.labels, d, shape.world_size));
    lists += shape.data.labels * kId;
  }
  const auto& mining = config.mining;
  if (mining.columns > 0) {
    const bool behind = mining.overlap > 0;  // labels and lists in the making
    rows += (behind ? 2 : 1) * MinedLists::bytes(mining, queries);
    if (mining.labels == MiningLabels::kBank) rows += held(1, labels * d * kHalf);
    if (behind) rows += held(1, labels * d * kFloat);
  }
  const std::string name = kSnapshot;
  return {{name + ": parameters and moments", held(3, shape.trained_elements * kFloat)},
          {name + ": rows of tables", rows},
          {name + ": clusters of queries and labels", lists}};
}

}  // namespace vixen
