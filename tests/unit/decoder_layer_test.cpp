// A decoder layer: against the same arithmetic in float64, gradients by central differences, recomputation, packing,
// grouped heads, head norm, adapters.
#include "model/decoder/decoder_layer.hpp"

#include <algorithm>
#include <cmath>

#include "base/check.hpp"
#include "fixtures/layer_checks.hpp"

namespace vixen {
namespace {

using namespace testing;

struct LayerOptions {
  bool biases = false, head_norm = false, causal = true;
  int64_t kv_heads = 2;
  int64_t rank = 0;  // of adapters on all modules beside frozen weights
  double lora_dropout = 0;
  at::ScalarType compute = at::kFloat;
};

constexpr int64_t kWidth = 24, kHeads = 6, kHeadDim = 8, kFeedForward = 40;

struct LayerFixture {
  ParameterStore store;
  DecoderConfig config;
  std::unique_ptr<DecoderLayer> layer;
  bool causal;

  explicit LayerFixture(const LayerOptions& o) : causal(o.causal) {
    config.width = kWidth;
    config.heads = kHeads;
    config.kv_heads = o.kv_heads;
    config.head_dim = kHeadDim;
    config.feed_forward = kFeedForward;
    config.layers = config.folder_layers = 1;
    config.norm_eps = 1e-5;
    config.head_norm = o.head_norm;
    const bool frozen = o.rank > 0;
    const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
      return store.add(name, std::move(shape), frozen ? ParameterGroup::kFrozen : ParameterGroup::kBackbone);
    };
    DecoderLayerParameters p;
    const int64_t q = kHeads * kHeadDim, kv = o.kv_heads * kHeadDim;
    const auto linear = [&](const std::string& name, int64_t outputs, int64_t inputs, AdaptedLinear& target) {
      target.weight = add(name + ".weight", {outputs, inputs});
      if (o.biases) target.bias = add(name + ".bias", {outputs});
    };
    p.norm1 = add("norm1.weight", {kWidth});
    linear("qkv", q + 2 * kv, kWidth, p.qkv);
    if (o.head_norm) {
      p.q_norm = add("q_norm.weight", {kHeadDim});
      p.k_norm = add("k_norm.weight", {kHeadDim});
    }
    linear("out", kWidth, q, p.out);
    p.norm2 = add("norm2.weight", {kWidth});
    linear("gate_up", 2 * kFeedForward, kWidth, p.gate_up);
    linear("down", kWidth, kFeedForward, p.down);
    LoraConfig lora;
    lora.rank = o.rank;
    lora.alpha = 6;
    lora.dropout = o.lora_dropout;
    if (o.rank > 0) {
      add_lora(lora, "qkv",
               {{LoraModule::kQuery, 0, q, "q"}, {LoraModule::kKey, q, kv, "k"}, {LoraModule::kValue, q + kv, kv, "v"}},
               kWidth, 4, true, store, p.qkv);
      add_lora(lora, "out", {{LoraModule::kOut, 0, kWidth, "o"}}, q, 5, true, store, p.out);
      add_lora(lora, "gate_up",
               {{LoraModule::kGate, 0, kFeedForward, "gate"}, {LoraModule::kUp, kFeedForward, kFeedForward, "up"}},
               kWidth, 6, true, store, p.gate_up);
      add_lora(lora, "down", {{LoraModule::kDown, 0, kWidth, "down"}}, kFeedForward, 7, true, store, p.down);
    }
    store.allocate(at::kCPU, o.compute);
    for (int i = 0; i < store.count(); ++i) {
      if (store.trained(i)) continue;
      const bool vector = store.info(i).name.find("norm") != std::string::npos;
      store.set_frozen(i, at::empty(store.info(i).shape, vector ? at::kFloat : o.compute));
    }
    fill_parameters(store);
    layer = std::make_unique<DecoderLayer>(store, config, p);
  }

  DecoderPass pass(const std::vector<int32_t>& lengths, const std::vector<int64_t>& keys) const {
    DecoderPass pass;
    pass.layout = layout_of(lengths, keys, /*training=*/true);
    std::vector<at::Tensor> positions;
    positions.reserve(lengths.size());
    for (const int32_t length : lengths) positions.push_back(at::arange(length, at::kLong));
    pass.position_ids = at::cat(positions);
    pass.rope = rope_table(config, 32);
    pass.attention = {
        .heads = kHeads, .max_seqlen = pass.layout.max_seqlen, .kv_heads = config.kv_heads, .causal = causal};
    return pass;
  }
};

// The layer over sequences of the given lengths in float64, as the formulas of decoder_layer.hpp have it.
at::Tensor reference_forward(const LayerFixture& fixture, const at::Tensor& x, const std::vector<int32_t>& lengths) {
  const auto& p = fixture.layer->parameters();
  const DecoderConfig& config = fixture.config;
  const auto value = [&](int i) { return fixture.store.value(i).to(at::kDouble); };
  const auto rms = [&](const at::Tensor& rows, const at::Tensor& weight) {
    return rows * at::rsqrt(rows.square().mean(-1, true) + config.norm_eps) * weight;
  };
  const auto linear = [&](const at::Tensor& rows, const AdaptedLinear& l) {
    const at::Tensor y = rows.matmul(merged_weight(fixture.store, l).to(at::kDouble).t());
    return l.bias >= 0 ? y + value(l.bias) : y;
  };
  std::vector<at::Tensor> outputs;
  int64_t first = 0;
  for (const int32_t length : lengths) {
    const at::Tensor rows = x.narrow(0, first, length).to(at::kDouble);
    first += length;
    const at::Tensor qkv = linear(rms(rows, value(p.norm1)), p.qkv);
    const int64_t q_columns = kHeads * kHeadDim, kv_columns = config.kv_heads * kHeadDim;
    at::Tensor q = qkv.narrow(1, 0, q_columns).view({length, kHeads, kHeadDim}).transpose(0, 1);
    at::Tensor k = qkv.narrow(1, q_columns, kv_columns).view({length, -1, kHeadDim}).transpose(0, 1);
    at::Tensor v = qkv.narrow(1, q_columns + kv_columns, kv_columns).view({length, -1, kHeadDim}).transpose(0, 1);
    if (config.head_norm) {
      q = rms(q, value(p.q_norm));
      k = rms(k, value(p.k_norm));
    }
    const at::Tensor table = rope_table(config, length).to(at::kDouble);
    const at::Tensor cos = table.narrow(1, 0, kHeadDim / 2), sin = table.narrow(1, kHeadDim / 2, kHeadDim / 2);
    const auto rotate = [&](const at::Tensor& heads) {
      const at::Tensor a = heads.narrow(2, 0, kHeadDim / 2), b = heads.narrow(2, kHeadDim / 2, kHeadDim / 2);
      return at::cat({a * cos - b * sin, b * cos + a * sin}, 2);
    };
    const int64_t share = kHeads / config.kv_heads;
    k = rotate(k).repeat_interleave(share, 0);
    v = v.repeat_interleave(share, 0);
    at::Tensor scores = rotate(q).matmul(k.transpose(1, 2)) / std::sqrt(static_cast<double>(kHeadDim));
    if (fixture.causal) scores = scores.masked_fill(at::ones({length, length}, at::kBool).triu(1), -INFINITY);
    const at::Tensor context = scores.softmax(-1).matmul(v).transpose(0, 1).reshape({length, q_columns});
    const at::Tensor middle = rows + linear(context, p.out);
    const auto gate_up = linear(rms(middle, value(p.norm2)), p.gate_up).chunk(2, 1);
    outputs.push_back(middle + linear(at::silu(gate_up[0]) * gate_up[1], p.down));
  }
  return at::cat(outputs);
}

class DecoderLayerTest : public ::testing::TestWithParam<LayerOptions> {};

const std::vector<int32_t> kLengths = {3, 1, 7, 4};
const std::vector<int64_t> kKeys = {11, 3, 8, 5};
constexpr int64_t kPositions = 15;

TEST_P(DecoderLayerTest, FollowsTheFormulas) {
  const LayerFixture fixture(GetParam());
  const at::Tensor x = wave({kPositions, kWidth}, 0.3);
  DecoderPass pass = fixture.pass(kLengths, kKeys);
  pass.layout.training = false;  // no dropout
  const at::Tensor y = fixture.layer->forward(x, pass, nullptr);
  const at::Tensor expected = reference_forward(fixture, x, kLengths);
  EXPECT_LE(max_difference(y, expected), 4e-6 * largest(expected));
}

TEST_P(DecoderLayerTest, GradientsByCentralDifferences) {
  LayerFixture fixture(GetParam());
  const DecoderPass pass = fixture.pass(kLengths, kKeys);
  const at::Tensor x = wave({kPositions, kWidth}, 0.3), direction = wave({kPositions, kWidth}, 1.1);
  DecoderLayer::Saved saved;
  const int trained = expect_layer_gradients(*fixture.layer, fixture.store, pass, x, direction,
                                             {.step = 5e-3, .relative = 4e-3}, saved);
  EXPECT_GE(trained, GetParam().rank > 0 ? 4 + 7 : 6);
  EXPECT_FALSE(saved.input.defined() || saved.gate_up.defined()) << "the backward frees what it used";
}

TEST_P(DecoderLayerTest, RecomputesToTheBit) {
  LayerFixture fixture(GetParam());
  const DecoderPass pass = fixture.pass(kLengths, kKeys);
  const at::Tensor x = wave({kPositions, kWidth}, 0.3), grad_y = wave({kPositions, kWidth}, 1.1);
  DecoderLayer::Saved saved;
  fixture.layer->forward(x, pass, &saved);
  const at::Tensor grad_x = fixture.layer->backward(grad_y, pass, saved, true);
  const at::Tensor grads = fixture.store.flat_grads().clone();
  fixture.store.zero_grads();
  DecoderLayer::Saved again = fixture.layer->recompute(x, pass);
  EXPECT_TRUE(fixture.layer->backward(grad_y, pass, again, true).equal(grad_x));
  EXPECT_TRUE(fixture.store.flat_grads().equal(grads));
  // The gradient of x is all that is left out when nobody asks for it.
  fixture.store.zero_grads();
  again = fixture.layer->recompute(x, pass);
  EXPECT_FALSE(fixture.layer->backward(grad_y, pass, again, false).defined());
  EXPECT_TRUE(fixture.store.flat_grads().equal(grads));
}

TEST_P(DecoderLayerTest, NeighboursDoNotMatter) {
  const LayerFixture fixture(GetParam());
  const auto [outputs, difference] = check_neighbours(kWidth, [&](const at::Tensor& x, const auto&... layout) {
    return fixture.layer->forward(x, fixture.pass(layout...), nullptr);
  });
  EXPECT_LE(difference, 1e-6 * largest(outputs));
}

TEST_P(DecoderLayerTest, Bfloat16FollowsFloat32) {
  LayerOptions rounded_options = GetParam();
  rounded_options.compute = at::kBFloat16;
  LayerFixture exact(GetParam()), rounded(rounded_options);
  // Both have the weights that bfloat16 can hold.
  for (int i = 0; i < exact.store.count(); ++i)
    if (!exact.store.trained(i)) exact.store.set_frozen(i, rounded.store.value(i).to(at::kFloat));
  const at::Tensor x = wave({16, kWidth}, 0), grad_y = wave({16, kWidth}, 3);
  const auto run = [&](LayerFixture& fixture) {
    return run_layer(*fixture.layer, fixture.store.compute_dtype(), x, grad_y, fixture.pass({5, 3, 8}, {1, 2, 3}));
  };
  const auto [y, grad_x] = run(exact);
  const auto [y_rounded, grad_x_rounded] = run(rounded);
  EXPECT_GT(cosine(y, y_rounded), 0.9995);
  EXPECT_GT(cosine(grad_x, grad_x_rounded), 0.998);
  for (int i = 0; i < exact.store.count(); ++i)
    if (exact.store.trained(i)) {
      EXPECT_GT(cosine(exact.store.grad(i), rounded.store.grad(i)), 0.997) << exact.store.info(i).name;
    }
}

INSTANTIATE_TEST_SUITE_P(Kinds, DecoderLayerTest,
                         ::testing::Values(LayerOptions{}, LayerOptions{.biases = true, .causal = false},
                                           LayerOptions{.biases = true, .head_norm = true, .kv_heads = 1},
                                           LayerOptions{.kv_heads = kHeads, .rank = 3},
                                           LayerOptions{
                                               .biases = true, .head_norm = true, .rank = 3, .lora_dropout = 0.2}),
                         [](const auto& test) {
                           const LayerOptions& o = test.param;
                           return std::string(o.causal ? "causal" : "bidirectional") + (o.biases ? "_biases" : "") +
                                  (o.head_norm ? "_headnorm" : "") + "_kv" + std::to_string(o.kv_heads) +
                                  (o.rank > 0 ? "_lora" : "") + (o.lora_dropout > 0 ? "_dropout" : "");
                         });

// A later position changes nothing before it under the causal mask, and does without.
TEST(DecoderLayer, CausalMask) {
  for (const bool causal : {true, false}) {
    const LayerFixture fixture({.causal = causal});
    const DecoderPass pass = fixture.pass({8}, {1});
    at::Tensor x = wave({8, kWidth}, 0);
    const at::Tensor y = fixture.layer->forward(x, pass, nullptr);
    x[7].mul_(-1);
    const at::Tensor changed = fixture.layer->forward(x, pass, nullptr);
    EXPECT_EQ(y.narrow(0, 0, 7).equal(changed.narrow(0, 0, 7)), causal);
    EXPECT_FALSE(y[7].equal(changed[7]));
  }
}

TEST(DecoderLayer, KeyValueHeadsMustDivideTheHeads) {
  ParameterStore store;
  DecoderConfig config;
  config.heads = 4;
  config.kv_heads = 3;
  EXPECT_THROW(DecoderLayer(store, config, {}), BugError);
}

}  // namespace
}  // namespace vixen
