#include "plan/growth.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "base/check.hpp"
#include "base/text.hpp"
#include "cluster/two_means_arithmetic.hpp"
#include "objective/objective.hpp"
#include "sampling/sampler.hpp"

namespace vixen {
namespace {

constexpr int64_t kLargestFactor = 4096;

// A count that the program does not hold; empty: none.
std::string count_beyond(const MemoryShape& shape) {
  const int64_t most_ids = std::numeric_limits<int32_t>::max();
  const auto& [config, data] = std::tie(shape.config, shape.data);
  const auto beyond = [](const char* what, int64_t rows, int64_t most, const char* why) {
    return fmt::format("{} {}, {} {}", with_commas(rows), what, why, with_commas(most));
  };
  const int64_t most_rows = two_means::kMaxRows - 1;
  if (make_objective(config)->uses_prototypes() && data.labels > most_rows)
    return beyond("labels", data.labels, most_rows, "sums of balanced 2-means are exact up to");
  if (make_sampler(config, data.queries)->updates() > 0 && data.queries > most_rows)
    return beyond("queries", data.queries, most_rows, "sums of balanced 2-means are exact up to");
  if (std::max(data.labels, data.queries) > most_ids)
    return beyond("rows", std::max(data.labels, data.queries), most_ids, "ids of labels and queries end at");
  return {};
}

// The part that takes most where nothing fits.
std::string largest_part(const MemoryShape& shape, const LayeredEncoder& encoder, int64_t budget_bytes) {
  const auto tables = shape.cpu ? TablePlacement::kDevice : TablePlacement::kHost;
  const auto plan = predict_memory(shape, encoder, {encoder.n_layers(), most_chunks(shape), tables});
  MemoryPart largest;
  for (const auto* parts : {&plan.resident, &plan.step, &plan.passes})
    for (const auto& part : *parts)
      if (part.bytes > largest.bytes) largest = part;
  return fmt::format("no way to run fits {:.1f} GB a rank; the largest part is \"{}\" with {:.1f} GB",
                     static_cast<double>(budget_bytes) / 1e9, largest.name, static_cast<double>(largest.bytes) / 1e9);
}

bool fits(const MemoryShape& shape, const LayeredEncoder& encoder, int64_t budget_bytes) {
  try {
    plan_memory(shape, encoder, budget_bytes);
    return true;
  } catch (const UserError&) {
    return false;
  }
}

}  // namespace

std::string GrowthLimit::text() const {
  if (factor == 0) return fmt::format("nothing, up to {} times the labels and queries", kLargestFactor);
  return fmt::format("at {} times the labels and queries ({} labels): {}", factor, with_commas(labels), reason);
}

GrowthLimit first_limit(const MemoryShape& shape, const LayeredEncoder& encoder, int64_t budget_bytes) {
  for (int64_t factor = 2; factor <= kLargestFactor; factor *= 2) {
    MemoryShape grown = shape;
    for (int64_t* count : {&grown.data.queries, &grown.data.labels, &grown.data.test_queries, &grown.data.pairs})
      *count *= factor;
    auto reason = count_beyond(grown);
    if (reason.empty() && !fits(grown, encoder, budget_bytes)) reason = largest_part(grown, encoder, budget_bytes);
    if (!reason.empty()) return {factor, grown.data.labels, reason};
  }
  return {};
}

}  // namespace vixen
