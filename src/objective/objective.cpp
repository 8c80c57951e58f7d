// The table of objectives, and the costs that follow from their counts.
#include "objective/objective.hpp"

#include "base/check.hpp"

namespace vixen {

#define VIXEN_OBJECTIVE(enumerator, name) std::unique_ptr<Objective> make_##name(const LossConfig& config);
#include "config/objectives.inl"
#undef VIXEN_OBJECTIVE

namespace {

constexpr int64_t kFloat = 4;

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
