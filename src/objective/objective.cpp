// The table of objectives, and the costs that follow from their counts.
#include "objective/objective.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace vixen {
namespace {

struct Row {
  Method method;
  std::unique_ptr<Objective> (*make)(const LossConfig&);
};

constexpr Row kObjectives[] = {
    {Method::kPrime, make_prime},
    {Method::kNgame, make_ngame},
    {Method::kTriplet, make_triplet},
};

constexpr int64_t kFloat = 4;

double elements(int64_t b, int64_t m) {
  return static_cast<double>(b) * static_cast<double>(m);
}

}  // namespace

std::unique_ptr<Objective> make_objective(const Config& config) {
  const auto* row = std::find_if(std::begin(kObjectives), std::end(kObjectives),
                                 [&](const Row& candidate) { return candidate.method == config.train.method; });
  VIXEN_CHECK(row != std::end(kObjectives), "no objective for method {}", static_cast<int>(config.train.method));
  return row->make(config.loss);
}

int64_t Objective::bytes(int64_t b, int64_t m) const {
  constexpr int64_t kMask = 1;  // a byte an element: which columns are relevant
  return (costs().matrices * kFloat + kMask) * b * m;
}

double Objective::flops(int64_t b, int64_t m, int64_t d) const {
  return 2.0 * static_cast<double>(costs().products) * elements(b, m) * static_cast<double>(d);
}

double Objective::traffic_bytes(int64_t b, int64_t m) const {
  return static_cast<double>(costs().passes * kFloat) * elements(b, m);
}

}  // namespace vixen
