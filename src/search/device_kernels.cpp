#include "search/device_kernels.hpp"

#include <ATen/ATen.h>

#include "base/check.hpp"
#include "kernels/device_form.hpp"

namespace vixen {
namespace {

const SearchTable* lent = nullptr;

DeviceTables<SearchTable> tables() {
  return {KernelFamily::kSearch, cuda_search_kernels(), lent};
}

RowStorage storage_of(const at::Tensor& rows) {
  switch (rows.scalar_type()) {
    case at::kFloat:
      return RowStorage::kFloat32;
    case at::kHalf:
      return RowStorage::kFloat16;
    case at::kBFloat16:
      return RowStorage::kBfloat16;
    default:
      VIXEN_CHECK(false, "rows of {}", c10::toString(rows.scalar_type()));
      return RowStorage::kFloat32;
  }
}

CandidateArgs arguments_of(const DeviceCandidates& candidates, const at::Tensor& queries, const DevicePart& part) {
  const int64_t m = candidates.size(), width = queries.size(1);
  VIXEN_CHECK(queries.scalar_type() == at::kFloat && queries.is_contiguous() && queries.size(0) == m,
              "{} queries for the candidates of {}", queries.size(0), m);
  VIXEN_CHECK(part.values.dim() == 2 && part.values.is_contiguous() && part.values.size(1) == width &&
                  part.values.device() == queries.device(),
              "rows of {} columns, queries of {}", part.values.size(1), width);
  VIXEN_CHECK(!part.divisors.defined() || (part.divisors.scalar_type() == at::kDouble &&
                                           part.divisors.is_contiguous() && part.divisors.device() == queries.device()),
              "divisors of rows");
  return {.k = candidates.k,
          .capacity = candidates.capacity(),
          .label = candidates.label.mutable_data_ptr<int32_t>(),
          .lower = candidates.lower.mutable_data_ptr<float>(),
          .upper = candidates.upper.mutable_data_ptr<float>(),
          .count = candidates.count.mutable_data_ptr<int32_t>(),
          .exact = candidates.exact.mutable_data_ptr<int32_t>(),
          .threshold = candidates.threshold.mutable_data_ptr<float>(),
          .queries = queries.const_data_ptr<float>(),
          .rows = {.storage = storage_of(part.values),
                   .width = width,
                   .first = part.first,
                   .rows = part.values.const_data_ptr(),
                   .divisors = part.divisors.defined() ? part.divisors.const_data_ptr<double>() : nullptr}};
}

}  // namespace

void filter_scores(DeviceCandidates& candidates, const ScoreTile& tile, const FilterBounds& bounds,
                   const at::Tensor& queries, const DevicePart& part, int64_t limit, bool may_exceed) {
  const int64_t m = candidates.size(), columns = tile.scores.size(1);
  VIXEN_CHECK(tile.scores.scalar_type() == at::kBFloat16 && tile.scores.size(0) == m && columns > 0 &&
                  tile.scores.stride(1) == 1 && tile.scores.stride(0) % 8 == 0 &&
                  reinterpret_cast<uintptr_t>(tile.scores.const_data_ptr()) % 16 == 0 &&
                  tile.first_label % kGroupLabels == 0,
              "a tile of {} x {} scores from label {}", tile.scores.size(0), columns, tile.first_label);
  VIXEN_CHECK(candidates.k <= limit && limit + columns <= candidates.capacity(), "{} + {} candidates in {} places",
              limit, columns, candidates.capacity());
  VIXEN_CHECK(bounds.weights.is_contiguous() && bounds.weights.size(0) == m && bounds.weights.size(1) == 3 &&
                  bounds.labels.is_contiguous() && bounds.labels.size(0) >= tile.first_label + columns &&
                  bounds.groups.is_contiguous() &&
                  bounds.groups.size(0) == (bounds.labels.size(0) + kGroupLabels - 1) / kGroupLabels,
              "bounds of {} queries and {} labels", bounds.weights.size(0), bounds.labels.size(0));
  const DeviceForm<FilterArgs> kernel(tables(), "filter_scores", &SearchTable::filter_scores, queries.device());
  if (!kernel) return reference::filter_scores(candidates, tile, bounds, queries, part, limit, may_exceed);
  const auto bound = [](const at::Tensor& of) { return static_cast<const LabelBound*>(of.const_data_ptr()); };
  kernel.run({.candidates = arguments_of(candidates, queries, part),
              .limit = limit,
              .first_label = tile.first_label,
              .columns = columns,
              .stride = tile.scores.stride(0),
              .scores = tile.scores.const_data_ptr(),
              .weights = static_cast<const BoundWeights*>(bounds.weights.const_data_ptr()),
              .bounds = bound(bounds.labels),
              .group_bounds = bound(bounds.groups),
              .relative = bounds.relative},
             m);
}

void settle_candidates(DeviceCandidates& candidates, const at::Tensor& queries, const DevicePart& part) {
  const DeviceForm<CandidateArgs> kernel(tables(), "settle_candidates", &SearchTable::settle_candidates,
                                         queries.device());
  if (!kernel) return reference::settle_candidates(candidates, queries, part);
  kernel.run(arguments_of(candidates, queries, part), candidates.size());
}

at::Tensor canonical_dots(const at::Tensor& a, const at::Tensor& b) {
  VIXEN_CHECK(a.scalar_type() == at::kFloat && b.scalar_type() == at::kFloat && a.sizes() == b.sizes() && a.dim() == 2,
              "rows of other shapes or types");
  const DeviceForm<CanonicalDotArgs> kernel(tables(), "canonical_dots", &SearchTable::canonical_dots, a.device());
  if (!kernel) return reference::canonical_dot(a, b);
  const at::Tensor dense_a = a.contiguous(), dense_b = b.contiguous();
  at::Tensor out = at::empty({a.size(0)}, a.options());
  kernel.run({.width = a.size(1),
              .a = dense_a.const_data_ptr<float>(),
              .b = dense_b.const_data_ptr<float>(),
              .out = out.mutable_data_ptr<float>()},
             a.size(0));
  return out;
}

void lend_search_kernels(const SearchTable* table) {
  lent = table;
}

}  // namespace vixen
