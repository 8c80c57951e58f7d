// The table of objectives, and the costs that follow from their terms.
#include "objective/objective.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace vixen {

#define VIXEN_OBJECTIVE(enumerator, name) std::unique_ptr<Objective> make_##name(const LossConfig& config);
#include "config/objectives.inl"
#undef VIXEN_OBJECTIVE

namespace {

constexpr int64_t kFloat = 4;
constexpr int64_t kMask = 1;  // a byte an element: which columns are relevant

double elements(int64_t b, int64_t m) {
  return static_cast<double>(b) * static_cast<double>(m);
}

}  // namespace

std::unique_ptr<Objective> make_objective(Method method, const LossConfig& config) {
  switch (method) {
#define VIXEN_OBJECTIVE(enumerator, name) \
  case Method::enumerator:                \
    return make_##name(config);
#include "config/objectives.inl"
#undef VIXEN_OBJECTIVE
  }
  VIXEN_CHECK(false, "no objective for method {}", static_cast<int>(method));
  return nullptr;
}

std::unique_ptr<Objective> make_objective(const Config& config) {
  return make_objective(config.train.method, config.loss);
}

Objective::Objective(Terms terms, std::span<const DrawSpec> draws) : terms_(std::move(terms)), draws_(draws) {
  VIXEN_CHECK(!terms_.empty(), "an objective without terms");
}

bool Objective::uses_prototypes() const {
  return std::any_of(terms_.begin(), terms_.end(), [](const auto& term) { return term->spec().reads_f; });
}

bool Objective::asks(Side side) const {
  return std::any_of(terms_.begin(), terms_.end(), [&](const auto& term) { return term->spec().asks == side; });
}

Objective::Counts Objective::count(Side side) const {
  Counts counts;
  bool s = false, f = false;
  for (const auto& term : terms_) {
    const TermSpec& spec = term->spec();
    if (spec.asks != side) continue;
    s = s || spec.reads_s;
    f = f || spec.reads_f;
    counts.made = std::max(counts.made, spec.matrices);
    counts.gradients = std::max(counts.gradients, spec.gradients);
    counts.passes += spec.passes;
    counts.fused_passes += spec.fused_passes;
    counts.kept_bytes += spec.kept_bytes;
  }
  counts.read = int64_t{s} + int64_t{f};
  return counts;
}

int64_t Objective::bytes(int64_t b, int64_t m) const {
  const auto queries = count(Side::kQueries), columns = count(Side::kColumns);
  // While terms look: the scores, those of the label columns once more, transposed, and what a term makes.
  const int64_t looking = queries.read + columns.read + std::max(queries.made, columns.made);
  // Then one sum of gradients a matrix, and what a term makes to add to it.
  const int64_t summing = queries.read + std::max(queries.gradients, columns.gradients);
  const int64_t masks = columns.read > 0 ? 2 : 1;
  return std::max(looking * kFloat + masks * kMask, summing * kFloat) * b * m;
}

double Objective::flops(int64_t b, int64_t m, int64_t d) const {
  // S and F, and two gradients of each.
  return 2.0 * 3 * static_cast<double>(count(Side::kQueries).read) * elements(b, m) * static_cast<double>(d);
}

double Objective::traffic_bytes(int64_t b, int64_t m, bool fused) const {
  return traffic_of(Side::kQueries, fused) * elements(b, m) + traffic_of(Side::kColumns, fused) * elements(b, m);
}

double Objective::traffic_of(Side side, bool fused) const {
  const auto counts = count(side);
  // Sums of gradients begin as zeros.
  return static_cast<double>((fused ? counts.fused_passes : counts.passes) + counts.read) * kFloat;
}

int64_t Objective::row_bytes(Side side, int64_t columns) const {
  const auto counts = count(side);
  return std::max((counts.read + counts.made) * kFloat + kMask, (counts.read + counts.gradients) * kFloat) * columns;
}

int64_t Objective::kept_row_bytes(Side side) const {
  return count(side).kept_bytes;
}

double Objective::row_flops(Side side, int64_t columns, int64_t d) const {
  return 2.0 * 3 * static_cast<double>(count(side).read) * elements(columns, d);
}

double Objective::row_traffic_bytes(Side side, int64_t columns, bool fused) const {
  return traffic_of(side, fused) * static_cast<double>(columns);
}

int64_t Objective::n_sums(int64_t b, int64_t m) const {
  int64_t sums = 0;
  for (const auto& term : terms_) sums += term->spec().n_sums(side_shape(term->spec().asks, b, m));
  return sums;
}

}  // namespace vixen
