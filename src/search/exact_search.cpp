#include "search/exact_search.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>

#include "base/check.hpp"
#include "search/exact_search_aten.hpp"
#include "search/exact_search_cpu.hpp"
#include "search/scan_kernels.hpp"

namespace vixen {

ExactIndex::ExactIndex(const ScaledRows& rows, int64_t first_id, const IndexConfig& config)
    : Index(rows.size(), rows.width(), first_id),
      labels_(rows, first_id, config.block_labels),
      block_queries_(config.block_queries) {
  VIXEN_CHECK(rows.size() <= std::numeric_limits<int32_t>::max(), "{} rows in one index", rows.size());
  VIXEN_CHECK(config.block_queries > 0, "blocks of {} queries", config.block_queries);
  if (rows.values.is_cpu()) prepared_ = prepare_labels(config.prefilter, labels_);
}

std::unique_ptr<Index> make_exact_index(const IndexConfig& config, const ScaledRows& rows, int64_t first_id,
                                        bool /*show_progress*/) {
  return std::make_unique<ExactIndex>(rows, first_id, config);
}

int64_t exact_index_bytes(const IndexConfig& config, int64_t n, int64_t width, bool cpu) {
  // A block of labels as the prefilter multiplies it, widened first.
  return cpu ? std::min(n, config.block_labels) * width * int64_t{sizeof(float) + sizeof(at::BFloat16)} : 0;
}

int64_t ExactIndex::bytes() const {
  return labels_.rows.bytes();
}

std::string ExactIndex::description() const {
  return fmt::format("every label compared, candidates by {}", prepared_ ? prepared_->description() : "fp32 products");
}

TopK ExactIndex::search_rows(const at::Tensor& queries, int64_t k, bool show_progress) const {
  VIXEN_CHECK(queries.device() == labels_.rows.values.device(), "queries on {}", queries.device().str());
  return prepared_ ? search_on_cpu(labels_, *prepared_, queries, k, block_queries_, show_progress)
                   : search_with_aten(labels_, queries, k, block_queries_, show_progress);
}

at::Tensor canonical_dot(const at::Tensor& a, const at::Tensor& b) {
  VIXEN_CHECK(a.dim() == 2 && a.sizes() == b.sizes(), "shapes differ");
  if (!a.is_cpu()) return canonical_dot_aten(a.to(at::kFloat), b.to(at::kFloat));
  const at::Tensor dense_a = a.to(at::kFloat).contiguous(), dense_b = b.to(at::kFloat).contiguous();
  const int64_t d = a.size(1);
  at::Tensor scores = at::empty({a.size(0)}, at::kFloat);
  const auto* data_a = dense_a.const_data_ptr<float>();
  const auto* data_b = dense_b.const_data_ptr<float>();
  auto* out = scores.mutable_data_ptr<float>();
  const auto dot = scan_kernels().dot;
  at::parallel_for(0, a.size(0), 256, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      out[i] = static_cast<float>(dot(data_a + i * d, data_b + i * d, d)) + 0.0F;
    }
  });
  return scores;
}

}  // namespace vixen
