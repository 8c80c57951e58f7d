#include "search/exact_search.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>

#include "base/check.hpp"
#include "base/lap.hpp"
#include "search/exact_search_aten.hpp"
#include "search/exact_search_cpu.hpp"
#include "search/scan_kernels.hpp"

namespace vixen {
namespace {

/// Seconds of a small product in a dtype: the better of a few.
double product_seconds(at::ScalarType dtype) {
  const at::Tensor a = at::ones({128, 256}, dtype), b = at::ones({512, 256}, dtype);
  at::Tensor c = at::empty({128, 512}, dtype);
  return fastest_seconds(4, [&] { at::mm_out(c, a, b.t()); });
}

/// Whether this machine multiplies bfloat16 so much faster that the wider candidate margin pays. The choice may differ
/// from run to run; the answer does not depend on it.
bool bfloat16_is_faster() {
  static const bool faster = product_seconds(at::kBFloat16) < 0.8 * product_seconds(at::kFloat);
  return faster;
}

bool wants_bfloat16(Prefilter prefilter, at::Device device) {
  if (!device.is_cpu() || prefilter == Prefilter::kFloat32) return false;
  return prefilter == Prefilter::kBfloat16 || bfloat16_is_faster();
}

}  // namespace

ExactIndex::ExactIndex(const at::Tensor& rows, int64_t first_id, const IndexConfig& config)
    : Index(rows.size(0), rows.size(1), first_id), block_queries_(config.block_queries) {
  VIXEN_CHECK(rows.dim() == 2, "rows of {} dimensions", rows.dim());
  VIXEN_CHECK(rows.size(0) <= std::numeric_limits<int32_t>::max(), "{} rows in one index", rows.size(0));
  VIXEN_CHECK(config.block_labels > 0 && config.block_queries > 0, "blocks of {} queries, {} labels",
              config.block_queries, config.block_labels);
  labels_.rows = rows.to(at::kFloat).contiguous();
  labels_.first_id = first_id;
  labels_.block_rows = config.block_labels;
  labels_.prefilter = wants_bfloat16(config.prefilter, rows.device()) ? labels_.rows.to(at::kBFloat16) : labels_.rows;
  const RowBounds bounds = row_bounds(labels_.rows, labels_.prefilter, "label", first_id);
  for (int64_t begin = 0; begin < rows.size(0); begin += labels_.block_rows) {
    labels_.bounds.push_back(block_bound(bounds, begin, std::min(rows.size(0), begin + labels_.block_rows)));
  }
}

std::unique_ptr<Index> make_exact_index(const IndexConfig& config, const at::Tensor& rows, int64_t first_id,
                                        bool /*show_progress*/) {
  return std::make_unique<ExactIndex>(rows, first_id, config);
}

int64_t exact_index_bytes(const IndexConfig& /*config*/, int64_t n, int64_t width, bool cpu) {
  return cpu ? n * width * int64_t{sizeof(at::BFloat16)} : 0;  // the prefilter's copy
}

int64_t ExactIndex::bytes() const {
  const bool copied = labels_.prefilter.scalar_type() == at::kBFloat16;
  return static_cast<int64_t>(labels_.rows.nbytes() + (copied ? labels_.prefilter.nbytes() : 0));
}

std::string ExactIndex::description() const {
  const bool bfloat16 = labels_.prefilter.scalar_type() == at::kBFloat16;
  return fmt::format("every label compared, candidates by {} products", bfloat16 ? "bf16" : "fp32");
}

TopK ExactIndex::search_rows(const at::Tensor& queries, int64_t k, bool show_progress) const {
  VIXEN_CHECK(queries.device() == labels_.rows.device(), "queries on {}", queries.device().str());
  return queries.is_cpu() ? search_on_cpu(labels_, queries, k, block_queries_, show_progress)
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
