// NGAME's objective: queries against label embeddings, the positive of a query being the label drawn with it
// (docs/algorithm.md section 4.6).
//   S = q u^T [B, M]
#include <ATen/ATen.h>

#include "objective/row_loss.hpp"

namespace vixen {
namespace {

class Ngame : public Objective {
 public:
  explicit Ngame(const LossConfig& config) : config_(config) {}

  ObjectiveResult evaluate(const ObjectiveInput& input) const override {
    const auto mask = positive_mask(input);
    const auto own = diagonal_positives(input.q.size(0), input.u.size(0), input.q.options());
    return result_of(row_loss(input.q.matmul(input.u.t()), mask, own, false, config_), input);
  }

 protected:
  // Matrices: S, its masked copy, the gradient and what torch adds. Products: S and two of the gradients.
  Costs costs() const override { return {.matrices = 4, .products = 3, .passes = 30}; }

 private:
  LossConfig config_;
};

}  // namespace

std::unique_ptr<Objective> make_ngame(const LossConfig& config) {
  return std::make_unique<Ngame>(config);
}

}  // namespace vixen
