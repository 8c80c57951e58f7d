// A transformer layer with all four dropouts: gradients by finite differences, packing invariance, bf16, inference.
#include "model/transformer_layer.hpp"

#include <cmath>

#include "base/check.hpp"
#include "fixtures/layer_checks.hpp"

namespace vixen {
namespace {

using namespace testing;

constexpr int64_t kWidth = 24;
constexpr int64_t kFeedForward = 40;

struct LayerFixture {
  ParameterStore store;
  std::unique_ptr<TransformerLayer> layer;

  explicit LayerFixture(double dropout, at::ScalarType compute = at::kFloat) {
    TransformerLayerParameters p;
    const auto linear = [&](const std::string& name, int64_t out, int64_t in, AdaptedLinear& target) {
      target.weight = store.add(name + ".weight", {out, in}, ParameterGroup::kBackbone);
      target.bias = store.add(name + ".bias", {out}, ParameterGroup::kBackboneNoDecay);
    };
    const auto norm = [&](const std::string& name, int& weight, int& bias) {
      weight = store.add(name + ".weight", {kWidth}, ParameterGroup::kBackboneNoDecay);
      bias = store.add(name + ".bias", {kWidth}, ParameterGroup::kBackboneNoDecay);
    };
    linear("qkv", 3 * kWidth, kWidth, p.qkv);
    linear("out", kWidth, kWidth, p.out);
    norm("norm1", p.norm1_weight, p.norm1_bias);
    linear("ff1", kFeedForward, kWidth, p.ff1);
    linear("ff2", kWidth, kFeedForward, p.ff2);
    norm("norm2", p.norm2_weight, p.norm2_bias);
    store.allocate(at::kCPU, compute);
    fill_parameters(store);
    layer = std::make_unique<TransformerLayer>(store,
                                               TransformerLayerOptions{.width = kWidth,
                                                                       .heads = 3,
                                                                       .feed_forward = kFeedForward,
                                                                       .norm_eps = 1e-5,
                                                                       .out_dropout = dropout,
                                                                       .hidden_dropout = dropout,
                                                                       .attention_dropout = dropout,
                                                                       .activation_dropout = dropout,
                                                                       .first_site = 17},
                                               p);
  }
};

TEST(TransformerLayer, GradientsWithDropoutByFiniteDifferences) {
  LayerFixture fixture(0.2);
  const PackedLayout layout = layout_of({3, 1, 7, 4}, {11, 3, 8, 5}, true);
  const at::Tensor x = wave({15, kWidth}, 0.3), direction = wave({15, kWidth}, 1.1);
  TransformerLayer::Saved saved;
  const int trained = expect_layer_gradients(*fixture.layer, fixture.store, layout, x, direction,
                                             {.step = 5e-3, .relative = 3e-3}, saved);
  EXPECT_EQ(trained, fixture.store.count());
}

TEST(TransformerLayer, GradientOfTheInputOnlyWhenAsked) {
  LayerFixture fixture(0.2);
  const PackedLayout layout = layout_of({3, 5}, {11, 3}, true);
  const auto run = [&](bool want) {
    fixture.store.zero_grads();
    TransformerLayer::Saved saved;
    fixture.layer->forward(wave({8, kWidth}, 0.3), layout, &saved);
    const at::Tensor grad_x = fixture.layer->backward(wave({8, kWidth}, 1.1), layout, saved, want);
    EXPECT_EQ(grad_x.defined(), want);
    return fixture.store.flat_grads().clone();
  };
  const at::Tensor with = run(true), without = run(false);
  EXPECT_TRUE(with.equal(without));
}

TEST(TransformerLayer, GradientsAdd) {
  LayerFixture fixture(0);
  const PackedLayout layout = layout_of({4, 2}, {0, 1}, true);
  const auto run = [&] {
    TransformerLayer::Saved saved;
    fixture.layer->forward(wave({6, kWidth}, 0), layout, &saved);
    fixture.layer->backward(wave({6, kWidth}, 2), layout, saved);
    EXPECT_FALSE(saved.qkv.defined()) << "the backward frees what it used";
    return fixture.store.flat_grads().clone();
  };
  const at::Tensor once = run(), twice = run();
  EXPECT_TRUE(at::allclose(twice, 2 * once, 1e-5, 1e-6));
}

// Dropout is keyed by sequence: another order and other neighbours give each sequence the same output.
TEST(TransformerLayer, NeighboursDoNotMatter) {
  const LayerFixture fixture(0.3);
  const auto forward = [&](const at::Tensor& x, const auto&... layout) {
    return fixture.layer->forward(x, layout_of(layout..., true), nullptr);
  };
  const auto [outputs, difference] = check_neighbours(kWidth, forward);
  EXPECT_LE(difference, 1e-6);
  const at::Tensor other = fixture.layer->forward(wave({5, kWidth}, 0), layout_of({5}, {101}, true), nullptr);
  EXPECT_GT(max_difference(outputs.narrow(0, 0, 5), other), 1e-2) << "another key is another mask";
}

TEST(TransformerLayer, NoDropoutInEvaluation) {
  const LayerFixture with(0.5), without(0);
  const at::Tensor x = wave({8, kWidth}, 1);
  const at::Tensor expected = without.layer->forward(x, layout_of({8}, {1}, true), nullptr);
  EXPECT_TRUE(with.layer->forward(x, layout_of({8}, {1}, false), nullptr).equal(expected));
  EXPECT_FALSE(with.layer->forward(x, layout_of({8}, {1}, true), nullptr).equal(expected));
}

TEST(TransformerLayer, Bfloat16FollowsFloat32) {
  LayerFixture exact(0.1), rounded(0.1, at::kBFloat16);
  const PackedLayout layout = layout_of({5, 3, 8}, {1, 2, 3}, true);
  const at::Tensor x = wave({16, kWidth}, 0), grad_y = wave({16, kWidth}, 3);
  const auto run = [&](LayerFixture& fixture) {
    return run_layer(*fixture.layer, fixture.store.compute_dtype(), x, grad_y, layout);
  };
  const auto [y, grad_x] = run(exact);
  const auto [y_rounded, grad_x_rounded] = run(rounded);
  EXPECT_GT(cosine(y, y_rounded), 0.9995);
  EXPECT_GT(cosine(grad_x, grad_x_rounded), 0.999);
  for (int i = 0; i < exact.store.count(); ++i)
    EXPECT_GT(cosine(exact.store.grad(i), rounded.store.grad(i)), 0.998) << exact.store.info(i).name;
}

TEST(TransformerLayer, HeadsMustDivideTheWidth) {
  ParameterStore store;
  EXPECT_THROW(TransformerLayer(store, {.width = 10, .heads = 3, .feed_forward = 4}, {}), BugError);
}

}  // namespace
}  // namespace vixen
