#include "search/faiss_index.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/progress.hpp"
#include "search/error_bound.hpp"
#include "search/scan_kernels.hpp"

namespace vixen {
namespace {

constexpr int64_t kQueryBlock = 64;     // queries of one call of FAISS
constexpr int64_t kBarQueries = 4096;   // queries between two draws of the progress bar
constexpr int64_t kAssignBlock = 1024;  // points that are assigned to centroids in one call

static_assert(sizeof(faiss::Index::idx_t) == sizeof(int64_t));

}  // namespace

void for_each_block(int64_t n, int64_t block, const std::function<void(int64_t, int64_t)>& work) {
  at::parallel_for(0, (n + block - 1) / block, 1, [&](int64_t first, int64_t last) {
    const OneThread alone;
    for (int64_t i = first; i < last; ++i) work(i * block, std::min(n, (i + 1) * block));
  });
}

void BlockedFlat::search(idx_t n, const float* x, idx_t k, float* distances, idx_t* labels,
                         const faiss::SearchParameters* params) const {
  for_each_block(n, kAssignBlock, [&](int64_t begin, int64_t end) {
    faiss::IndexFlat::search(end - begin, x + begin * d, k, distances + begin * k, labels + begin * k, params);
  });
  if (progress != nullptr) progress->advance(n);
}

at::Tensor faiss_rows(const ScaledRows& rows, int64_t begin, int64_t n, int64_t first_id) {
  at::Tensor dense = rows.wide(begin, n).cpu();
  row_bounds(dense, dense, "label", first_id + begin);
  return dense;
}

void FaissIndex::search_block(int64_t m, const float* queries, int64_t k, int64_t* ids, float* scores) const {
  const int64_t d = width(), places = std::min(k, rows()), count = std::min(candidates(k), rows());
  std::vector<int64_t> found(static_cast<size_t>(m * count));
  std::vector<float> found_scores(static_cast<size_t>(m * count));
  find(m, queries, count, found.data(), found_scores.data());

  const float* exact = exact_rows();
  const auto dot = scan_kernels().dot;
  std::vector<std::pair<float, int64_t>> best;
  for (int64_t i = 0; i < m; ++i) {
    const float* query = queries + i * d;
    int64_t* rows_found = found.data() + i * count;
    float* scores_found = found_scores.data() + i * count;
    if (std::count_if(rows_found, rows_found + count, [](int64_t row) { return row >= 0; }) < places)
      find_all(1, query, count, rows_found, scores_found);
    best.clear();
    for (int64_t j = 0; j < count; ++j) {
      const int64_t row = rows_found[j];
      if (row < 0) continue;
      best.emplace_back(exact == nullptr ? scores_found[j] : static_cast<float>(dot(query, exact + row * d, d)) + 0.0F,
                        row);
    }
    const auto kept = std::min(static_cast<int64_t>(best.size()), places);
    std::partial_sort(best.begin(), best.begin() + kept, best.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    for (int64_t place = 0; place < kept; ++place) {
      scores[i * k + place] = best[static_cast<size_t>(place)].first;
      ids[i * k + place] = first_id() + best[static_cast<size_t>(place)].second;
    }
  }
}

TopK FaissIndex::search_rows(const at::Tensor& queries, int64_t k, bool show_progress) const {
  const at::Tensor dense = queries.cpu();
  row_bounds(dense, dense, "query", 0);
  const int64_t m = dense.size(0);
  TopK result = empty_top_k(m, k);
  const auto* data = dense.const_data_ptr<float>();
  auto* ids = result.ids.mutable_data_ptr<int64_t>();
  auto* scores = result.scores.mutable_data_ptr<float>();
  Progress progress("search", "queries", m, show_progress);
  for (int64_t first = 0; first < m && rows() > 0; first += kBarQueries) {
    const int64_t size = std::min(kBarQueries, m - first);
    for_each_block(size, kQueryBlock, [&](int64_t begin, int64_t end) {
      search_block(end - begin, data + (first + begin) * width(), k, ids + (first + begin) * k,
                   scores + (first + begin) * k);
    });
    progress.advance(size);
  }
  return {result.ids.to(queries.device()), result.scores.to(queries.device())};
}

}  // namespace vixen
