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

bool wants_bfloat16(const std::string& prefilter, at::Device device) {
  if (prefilter != "auto" && prefilter != "fp32" && prefilter != "bf16") {
    fail_user("search.prefilter = '{}'; expected auto, fp32 or bf16", prefilter);
  }
  if (!device.is_cpu() || prefilter == "fp32") return false;
  return prefilter == "bf16" || bfloat16_is_faster();
}

}  // namespace

struct LabelIndex::Impl {
  LabelRows labels;
  SearchOptions options;
};

LabelIndex::LabelIndex(at::Tensor rows, int64_t first_id, const SearchOptions& options)
    : impl_(std::make_unique<Impl>()) {
  VIXEN_CHECK(rows.dim() == 2, "rows of {} dimensions", rows.dim());
  VIXEN_CHECK(rows.size(0) <= std::numeric_limits<int32_t>::max(), "{} rows in one index", rows.size(0));
  VIXEN_CHECK(options.block_labels > 0 && options.block_queries > 0, "blocks of {} queries, {} labels",
              options.block_queries, options.block_labels);
  LabelRows& labels = impl_->labels;
  impl_->options = options;
  labels.rows = rows.to(at::kFloat).contiguous();
  labels.first_id = first_id;
  labels.block_rows = options.block_labels;
  labels.prefilter = wants_bfloat16(options.prefilter, rows.device()) ? labels.rows.to(at::kBFloat16) : labels.rows;
  const RowBounds bounds = row_bounds(labels.rows, labels.prefilter, "label", first_id);
  for (int64_t begin = 0; begin < rows.size(0); begin += labels.block_rows) {
    labels.bounds.push_back(block_bound(bounds, begin, std::min(rows.size(0), begin + labels.block_rows)));
  }
}

LabelIndex::~LabelIndex() = default;
LabelIndex::LabelIndex(LabelIndex&&) noexcept = default;

int64_t LabelIndex::rows() const {
  return impl_->labels.rows.size(0);
}

TopK LabelIndex::search(const at::Tensor& queries, int64_t k) const {
  const LabelRows& labels = impl_->labels;
  VIXEN_CHECK(k > 0, "k = {}", k);
  VIXEN_CHECK(queries.dim() == 2 && queries.device() == labels.rows.device(), "queries of {} dimensions on {}",
              queries.dim(), queries.device().str());
  if (queries.size(1) != labels.rows.size(1)) {
    fail_user("queries have {} columns, labels {}; expected the same width", queries.size(1), labels.rows.size(1));
  }
  const at::Tensor dense = queries.to(at::kFloat).contiguous();
  return dense.is_cpu() ? search_on_cpu(labels, dense, k, impl_->options)
                        : search_with_aten(labels, dense, k, impl_->options);
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
