// Centroids of the label shard, block by block.
#include "prototypes/centroids.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

namespace vixen {
namespace {

// Rows of the bank that are fetched at a time: 65,536 of 768 floats are 200 MB.
constexpr int64_t kBlockRows = 65536;

}  // namespace

int64_t update_centroids_bytes(int64_t n_queries, int64_t width, int64_t world_size) {
  // Rows of the bank (fp16) as they are picked, sent, put in order, and in float32.
  constexpr int64_t kHalf = 2, kFloat = 4;
  return std::min(kBlockRows, n_queries) * width * ((world_size > 1 ? 3 : 2) * kHalf + kFloat);
}

void update_centroids(ShardedTable& centroids, const ShardedTable& bank, const Ragged<int32_t>& queries_of_label,
                      Communicator& comm) {
  const auto range = centroids.local_range();
  const auto& offsets = queries_of_label.offsets;
  centroids.local().zero_();
  const int64_t labels = range.size();
  int64_t label = 0;  // of this rank
  // Ranks meet in every gather, so all go on until the last one is done.
  while (comm.max_host(static_cast<int64_t>(label < labels)) != 0) {
    int64_t last = label;
    while (last < labels && offsets[last + 1] - offsets[label] <= kBlockRows) ++last;
    if (last == label && label < labels) ++last;  // a label with more queries than a block: alone

    const int64_t first_pair = label < labels ? offsets[label] : 0;
    const int64_t pairs = label < labels ? offsets[last] - first_pair : 0;
    std::vector<int64_t> ids(queries_of_label.values.begin() + first_pair,
                             queries_of_label.values.begin() + first_pair + pairs);
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    const auto rows = bank.gather(at::tensor(ids, at::kLong));  // [distinct queries, D]

    if (pairs > 0) {
      auto places = at::empty({pairs}, at::kLong);
      auto* place = places.data_ptr<int64_t>();
      for (int64_t pair = 0; pair < pairs; ++pair)
        place[pair] =
            std::lower_bound(ids.begin(), ids.end(), queries_of_label.values[first_pair + pair]) - ids.begin();
      auto bags = at::empty({last - label}, at::kLong);
      for (int64_t i = label; i < last; ++i) bags.data_ptr<int64_t>()[i - label] = offsets[i] - first_pair;
      constexpr int64_t kMeanMode = 1;
      const auto means = std::get<0>(at::embedding_bag(rows, places.to(rows.device()), bags.to(rows.device()),
                                                       /*scale_grad_by_freq=*/false, kMeanMode));
      centroids.local().narrow(0, label, last - label).copy_(means);
    }
    label = last;
  }
}

}  // namespace vixen
