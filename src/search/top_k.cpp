// Merging two ranked lists of the same queries.
#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "base/check.hpp"
#include "search/top_k.hpp"

namespace vixen {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TopK merge_on_cpu(const TopK& a, const TopK& b, int64_t k) {
  const int64_t m = a.ids.size(0), width_a = a.ids.size(1), width_b = b.ids.size(1);
  const at::Tensor ids_a = a.ids.contiguous(), ids_b = b.ids.contiguous();
  const at::Tensor scores_a = a.scores.contiguous(), scores_b = b.scores.contiguous();
  TopK merged = empty_top_k(m, k);
  for (int64_t row = 0; row < m; ++row) {
    const int64_t* id_a = ids_a.const_data_ptr<int64_t>() + row * width_a;
    const int64_t* id_b = ids_b.const_data_ptr<int64_t>() + row * width_b;
    const float* score_a = scores_a.const_data_ptr<float>() + row * width_a;
    const float* score_b = scores_b.const_data_ptr<float>() + row * width_b;
    int64_t* id = merged.ids.mutable_data_ptr<int64_t>() + row * k;
    float* score = merged.scores.mutable_data_ptr<float>() + row * k;
    int64_t i = 0, j = 0;
    for (int64_t place = 0; place < k; ++place) {
      const bool left_a = i < width_a && id_a[i] >= 0;
      const bool left_b = j < width_b && id_b[j] >= 0;
      if (!left_a && !left_b) break;
      const bool take_a =
          !left_b || (left_a && (score_a[i] > score_b[j] || (score_a[i] == score_b[j] && id_a[i] < id_b[j])));
      id[place] = take_a ? id_a[i] : id_b[j];
      score[place] = take_a ? score_a[i] : score_b[j];
      ++(take_a ? i : j);
    }
  }
  return merged;
}

}  // namespace

TopK empty_top_k(int64_t n, int64_t k) {
  return {at::full({n, k}, -1, at::kLong), at::full({n, k}, -kInfinity, at::kFloat)};
}

TopK merge_top_k(const TopK& a, const TopK& b, int64_t k) {
  VIXEN_CHECK(a.ids.size(0) == b.ids.size(0), "{} and {} queries", a.ids.size(0), b.ids.size(0));
  if (a.ids.is_cpu()) return merge_on_cpu(a, b, k);
  // Sorted by id first, then stably by score; what is missing goes last by its score.
  at::Tensor ids = at::cat({a.ids, b.ids}, 1);
  const at::Tensor by_id = at::argsort(ids, /*stable=*/true, 1, false);
  const auto [scores, by_score] = at::sort(at::cat({a.scores, b.scores}, 1).gather(1, by_id), /*stable=*/true, 1, true);
  ids = ids.gather(1, by_id).gather(1, by_score);
  const int64_t kept = std::min(k, ids.size(1));
  return {at::constant_pad_nd(ids.narrow(1, 0, kept), {0, k - kept}, -1),
          at::constant_pad_nd(scores.narrow(1, 0, kept), {0, k - kept}, -kInfinity)};
}

}  // namespace vixen
