#include "search/exact_search.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>

#include "base/check.hpp"
#include "device/device.hpp"
#include "search/device_kernels.hpp"
#include "search/exact_search_cpu.hpp"
#include "search/exact_search_device.hpp"
#include "search/scan_kernels.hpp"

namespace vixen {

ExactIndex::ExactIndex(const ScaledRows& rows, int64_t first_id, const IndexConfig& config)
    : Index(rows.size(), rows.width(), first_id), config_(config) {
  VIXEN_CHECK(rows.size() <= std::numeric_limits<int32_t>::max(), "{} rows in one index", rows.size());
  VIXEN_CHECK(config.block_queries > 0, "blocks of {} queries", config.block_queries);
  if (!rows.device().is_cpu()) {
    const DeviceSizes sizes = device_sizes(config, rows.size(), rows.width(), 1, l2_cache_bytes(rows.device()));
    on_device_.emplace(rows, first_id, sizes.part_labels);
    return;
  }
  on_cpu_.emplace(OnCpu{LabelRows(rows, first_id, config.block_labels), nullptr});
  on_cpu_->prepared = prepare_labels(config.prefilter, on_cpu_->labels);
}

std::unique_ptr<Index> make_exact_index(const IndexConfig& config, const ScaledRows& rows, int64_t first_id,
                                        bool /*show_progress*/) {
  return std::make_unique<ExactIndex>(rows, first_id, config);
}

int64_t exact_index_bytes(const IndexConfig& config, int64_t n, int64_t width, bool cpu) {
  if (!cpu) return device_labels_bytes(n, width, /*streamed=*/false);
  // A block of labels as the prefilter multiplies it, widened first.
  return std::min(n, config.block_labels) * width * int64_t{sizeof(float) + sizeof(at::BFloat16)};
}

int64_t ExactIndex::bytes() const {
  return on_cpu_ ? on_cpu_->labels.rows.bytes() : on_device_->bytes();
}

std::string ExactIndex::description() const {
  const std::string products = on_cpu_ ? on_cpu_->prepared->description() : "bf16 products";
  return fmt::format("every label compared, candidates by {}{}", products,
                     on_device_ && on_device_->streamed() ? ", rows in host memory" : "");
}

TopK ExactIndex::search_rows(const at::Tensor& queries, int64_t k, bool show_progress) const {
  const at::Device device = on_cpu_ ? at::Device(at::kCPU) : on_device_->device();
  VIXEN_CHECK(queries.device() == device, "queries on {}, labels for {}", queries.device().str(), device.str());
  if (!on_cpu_) return search_on_device(*on_device_, queries, k, config_, show_progress);
  return search_on_cpu(on_cpu_->labels, *on_cpu_->prepared, queries, k, config_.block_queries, show_progress);
}

at::Tensor canonical_dot(const at::Tensor& a, const at::Tensor& b) {
  VIXEN_CHECK(a.dim() == 2 && a.sizes() == b.sizes(), "shapes differ");
  if (!a.is_cpu()) return canonical_dots(a.to(at::kFloat), b.to(at::kFloat));
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
