// The PRIME objective against fixtures made with the official ViXML code: values and gradients, term by term.
//
// f64_*: the official code in float64. spec64_*: the specification with tie_gradient = zero, for the fixture whose rows
// have fewer than k negatives: there the official code lets positives leak in as negatives, and we do not.
#include "objective/objective.hpp"
#include "fixtures/pairs.hpp"
#include "parity/golden.hpp"

namespace vixen {
namespace {

using testing::golden_path;

struct Case {
  const char* name;
  bool leaks = false;  // the official code's negatives include positives
  bool fixed_positive = false;
};

void PrintTo(const Case& value, std::ostream* out) {
  *out << value.name;
}

class OfficialLoss : public ::testing::TestWithParam<std::tuple<Case, at::ScalarType>> {};

// Each term's value, the total, and the total's gradients.
TEST_P(OfficialLoss, ValuesAndGradients) {
  const auto& [fixture, dtype] = GetParam();
  const SafetensorsFile golden(golden_path(std::string("loss_") + fixture.name + ".safetensors"));
  const auto unit = [&, type = dtype](const char* name) { return golden.tensor(name).to(type); };
  const at::Tensor q = unit("q"), u = unit("u"), z = unit("z");
  const at::Tensor positives = test::pairs_of(golden.tensor("Y"));

  const auto compare = [&](const std::string& prefix, TieGradient tie) {
    LossConfig config;
    config.tie_gradient = tie;
    config.fixed_positive = fixture.fixed_positive;
    const auto prime = make_objective(Method::kPrime, config);
    std::vector<at::Tensor> draws;
    for (const DrawSpec& spec : prime->draws()) draws.push_back(golden.tensor(std::string("pos_") + spec.name));
    const ObjectiveResult result = prime->evaluate({q, u, z, positives, draws});
    const auto value = [&](const char* term, const at::Tensor& ours) {
      EXPECT_NEAR(ours.item<double>(), golden.tensor(prefix + term).item<double>(), 1e-6) << prefix << term;
    };
    ASSERT_EQ(result.terms.size(), 4u);
    for (const LossTerm& term : result.terms) value(term.name.c_str(), term.value);
    value("total", result.loss);
    const auto gradient = [&](const char* leaf, const at::Tensor& ours) {
      const at::Tensor expected = golden.tensor(prefix + "total_grad_" + leaf);
      const double scale = std::max(expected.abs().max().item<double>(), 1e-12);
      EXPECT_LE(testing::max_difference(ours, expected) / scale, 2e-6) << prefix << leaf;
    };
    gradient("q", result.grad_q);
    gradient("u", result.grad_u);
    gradient("z", result.grad_z);
  };
  if (!fixture.leaks) compare("f64_", TieGradient::kHalf);
  compare("spec64_", TieGradient::kZero);
}

// Method ngame: loss_u alone, with the fixed positive (the diagonal).
TEST(OfficialLossNgame, FirstTermAlone) {
  const SafetensorsFile golden(golden_path("loss_case5_fixed_pos.safetensors"));
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const at::Tensor diagonal = at::arange(golden.tensor("q").size(0), at::kLong);
    ASSERT_TRUE(golden.tensor("pos_u").equal(diagonal));
    const ObjectiveResult result = make_objective(Method::kNgame, LossConfig{})
                                       ->evaluate({golden.tensor("q").to(dtype),
                                                   golden.tensor("u").to(dtype),
                                                   {},
                                                   test::pairs_of(golden.tensor("Y")),
                                                   {}});
    EXPECT_NEAR(result.loss.item<double>(), golden.tensor("f64_loss_u").item<double>(), 1e-6);
    for (const auto& [leaf, ours] : {std::pair("q", result.grad_q), std::pair("u", result.grad_u)}) {
      const at::Tensor expected = golden.tensor(std::string("f64_loss_u_grad_") + leaf);
      EXPECT_LE(testing::max_difference(ours, expected) / expected.abs().max().item<double>(), 2e-6) << leaf;
    }
    EXPECT_FALSE(result.grad_z.defined());
  }
}

INSTANTIATE_TEST_SUITE_P(Parity, OfficialLoss,
                         ::testing::Combine(::testing::Values(Case{"case1_plain"}, Case{"case2_many_positives", true},
                                                              Case{"case4_zero_loss_rows"},
                                                              Case{"case5_fixed_pos", false, true}),
                                            ::testing::Values(at::kDouble, at::kFloat)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name) +
                                  (std::get<1>(test.param) == at::kDouble ? "_float64" : "_float32");
                         });

}  // namespace
}  // namespace vixen
