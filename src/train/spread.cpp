#include "train/spread.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

namespace vixen {

Spread spread_of(const at::Tensor& rows) {
  const auto n = static_cast<double>(rows.size(0));
  const auto x = rows.to(at::kFloat);
  const auto cosines = x.sum(0).square().sum();  // of all pairs, each row with itself included
  const auto moments = rows.size(0) < rows.size(1) ? x.matmul(x.t()) : x.t().matmul(x);
  return {(cosines - n) / std::max(1.0, n * (n - 1)), n * n / moments.square().sum()};
}

std::optional<std::string> CollapseWatch::look(double queries, double labels, int64_t step) {
  constexpr double kTogether = 0.005;  // 1 - cosine: 5.7 degrees
  constexpr double kShrunk = 0.2;      // of the widest
  constexpr int kLooks = 2;
  const double apart = 1 - std::min(queries, labels);
  first_ = std::max(first_, apart);
  together_ = apart < kTogether && apart < kShrunk * first_ ? together_ + 1 : 0;
  if (together_ < kLooks || warned_) return std::nullopt;
  warned_ = true;
  return fmt::format(
      "step {}: the embeddings collapse: mean cosine of queries {:.4f}, of labels {:.4f}. Stop the run; what helps: "
      "negatives that are soft at first (loss.soft_steps 200), smaller batches (train.batch_size), softer negatives "
      "all "
      "along (loss.negatives 100, loss.temperature 1), mean pooling, a lower train.lr",
      step, queries, labels);
}

}  // namespace vixen
