// Blocks of queries visit every rank's shard, the ranks' lists come home and are merged. Lists of an exact index carry
// canonical scores, so that the merged list does not depend on how labels are dealt.
#include "search/sharded_search.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "base/progress.hpp"
#include "search/list_exchange.hpp"

namespace vixen {

int64_t queries_a_round(int64_t block_queries, int64_t k, int64_t world_size) {
  constexpr int64_t kMostBytes = int64_t{256} << 20;
  return std::max<int64_t>(1, std::min(block_queries, kMostBytes / list_bytes(1, k, world_size)));
}

int64_t list_bytes(int64_t queries, int64_t k, int64_t world_size) {
  return queries * k * 12 * 2 * world_size;
}

TopK sharded_search(const Index& index, const at::Tensor& queries, int64_t k, int64_t block_queries, Communicator& comm,
                    const std::string& progress_label) {
  const int world_size = comm.world_size();
  const int64_t m = queries.size(0);
  const bool show_progress = !progress_label.empty() && comm.rank() == 0;
  if (world_size == 1) return index.search(queries, k, show_progress);

  const auto query_rows = comm.all_gather_host(m);
  const int64_t step = queries_a_round(block_queries, k, world_size);
  const int64_t most = *std::max_element(query_rows.begin(), query_rows.end());
  const at::Tensor own = queries.to(at::kFloat).contiguous();
  TopK result{at::empty({m, k}, own.options().dtype(at::kLong)), at::empty({m, k}, own.options())};
  ListExchange exchange(comm);
  Progress progress(progress_label, "queries", most, show_progress);

  for (int64_t first = 0; first < most; first += step) {
    std::vector<int64_t> rows;  // of this round, by the rank that asks
    rows.reserve(query_rows.size());
    for (const int64_t n : query_rows) rows.push_back(std::clamp<int64_t>(n - first, 0, step));
    const int64_t asked = rows[static_cast<size_t>(comm.rank())];
    const int64_t begin = std::min(first, m);
    const TopK local = index.search(comm.all_gather_rows(own.narrow(0, begin, asked).contiguous(), rows), k);
    const TopK merged = exchange.exchange(local, rows, k);
    result.ids.narrow(0, begin, asked).copy_(merged.ids);
    result.scores.narrow(0, begin, asked).copy_(merged.scores);
    progress.advance(std::min(step, most - first));
  }
  return result;
}

}  // namespace vixen
