// NGAME's objective: queries against label embeddings, the positive of a query being the label drawn with it
// (docs/algorithm.md section 4.6).
#include "objective/objective.hpp"
#include "objective/row_loss.hpp"

namespace vixen {

std::unique_ptr<Objective> make_ngame(const LossConfig& config) {
  Terms terms;
  terms.push_back(row_loss_term({.name = "loss_u"}, config));
  return std::make_unique<Objective>(std::move(terms));
}

}  // namespace vixen
