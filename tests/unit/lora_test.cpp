// Adapted linear layers against an explicit float64 composition and by finite differences: fused projections, frozen
// and trained weights, dropout, both dtypes; initial values and merging.
#include "model/adapters/lora.hpp"

#include <cmath>

#include "fixtures/fault.hpp"
#include "fixtures/gradient_check.hpp"
#include "fixtures/tiny_model.hpp"
#include "model/initialise.hpp"

namespace vixen {
namespace {

using testing::wave;

constexpr int64_t kInputs = 20;
constexpr int64_t kRank = 4;

// Of q | k | v and its adapters. Widths of whole vectors, and many more rows than columns or many fewer, make one
// product of the weight and the adapter, forward or backward.
struct Shape {
  int64_t inputs = kInputs, rank = kRank, q = 18, k = 12, v = 8;
  int64_t rows() const { return q + k + v; }
};
constexpr Shape kTall = {16, 8, 40, 32, 24}, kWide = {96, 8, 16, 8, 16};

struct Case {
  const char* name;
  const char* modules;
  double dropout;
  bool trained_weight;
  at::ScalarType dtype;
  Shape shape = {};
};

// One projection q | k | v with the adapters of a case, and a pass over two sequences.
struct Projection {
  Shape shape;
  ParameterStore store;
  AdaptedLinear linear;
  LoraConfig config;
  TokenKeys keys;
  LoraDropout dropout;

  explicit Projection(const Case& c, bool trainable = true) : shape(c.shape) {
    config.rank = shape.rank;
    config.alpha = 3 * std::sqrt(static_cast<double>(shape.rank));
    config.dropout = c.dropout;
    config.modules = c.modules;
    linear.weight = store.add("qkv.weight", {shape.rows(), shape.inputs},
                              c.trained_weight ? ParameterGroup::kBackbone : ParameterGroup::kFrozen);
    linear.bias = store.add("qkv.bias", {shape.rows()},
                            c.trained_weight ? ParameterGroup::kBackboneNoDecay : ParameterGroup::kFrozen);
    add_lora(config, "qkv", slots(), shape.inputs, 33, trainable, store, linear);
    store.allocate(at::kCPU, c.dtype);
    for (int i = 0; i < store.count(); ++i)
      set_parameter(store, i, wave(store.info(i).shape, 7.0 * i + 1) * 0.4,
                    store.info(i).name.find("lora") == std::string::npos ? c.dtype : at::kFloat);
    store.refresh_compute();
    keys = make_token_keys(at::tensor(std::vector<int32_t>{0, 5, 16}, at::kInt),
                           at::tensor(std::vector<int64_t>{4, 9}, at::kLong));
    dropout = {.keys = &keys, .training = true, .seed = 3, .step = 11};
  }
  std::vector<LoraSlot> slots() const {
    return {{LoraModule::kQuery, 0, shape.q, "layer.q"},
            {LoraModule::kKey, shape.q, shape.k, "layer.k"},
            {LoraModule::kValue, shape.q + shape.k, shape.v, "layer.v"}};
  }
  at::Tensor exact(int parameter) const { return store.compute(parameter).to(store.compute_dtype()).to(at::kDouble); }
  at::Tensor x() const { return wave({16, shape.inputs}, 0.2).to(store.compute_dtype()); }
  at::Tensor grad_y() const { return wave({16, shape.rows()}, 5).to(store.compute_dtype()); }
  // The mask with its scale, float64.
  at::Tensor mask() const {
    const Dropout site{.p = linear.dropout, .seed = 3, .step = 11, .site = 33};
    if (!site.active()) return at::ones({16, shape.inputs}, at::kDouble);
    return dropout_mask(keys, shape.inputs, site).to(at::kDouble) / (1 - site.p);
  }
};

void expect_close(const at::Tensor& found, const at::Tensor& expected, double tolerance, const std::string& what) {
  ASSERT_EQ(found.sizes(), expected.sizes()) << what;
  const double scale = expected.abs().max().item<double>();
  EXPECT_GT(scale, 0) << what;
  EXPECT_LE((found.to(at::kDouble) - expected).abs().max().item<double>() / scale, tolerance) << what;
}

class LoraTest : public ::testing::TestWithParam<Case> {};

TEST_P(LoraTest, ForwardAndBackwardAsComposed) {
  const Case c = GetParam();
  Projection p(c);
  const double tolerance = c.dtype == at::kFloat ? 2e-6 : 2e-2;
  const at::Tensor x = p.x().to(at::kDouble), dy = p.grad_y().to(at::kDouble), mask = p.mask();
  const at::Tensor w = p.exact(p.linear.weight), a = p.exact(p.linear.lora_a), dropped = x * mask;
  const double s = lora_scale(p.config);
  EXPECT_DOUBLE_EQ(s, 3) << "3 sqrt(r) / sqrt(r)";
  const int64_t r = c.shape.rank;

  at::Tensor y = at::mm(x, w.t()) + p.exact(p.linear.bias), dx = at::mm(dy, w), da = at::zeros_like(a);
  std::vector<at::Tensor> db;
  for (size_t i = 0; i < p.linear.pieces.size(); ++i) {
    const auto& piece = p.linear.pieces[i];
    const at::Tensor b = p.exact(piece.lora_b), ai = a.narrow(0, static_cast<int64_t>(i) * r, r);
    const at::Tensor dyi = dy.narrow(1, piece.first_row, piece.rows);
    y.narrow(1, piece.first_row, piece.rows).add_(at::mm(at::mm(dropped, ai.t()), b.t()), s);
    dx.add_(at::mm(at::mm(dyi, b), ai) * mask, s);
    da.narrow(0, static_cast<int64_t>(i) * r, r).add_(at::mm(at::mm(dyi, b).t(), dropped), s);
    db.push_back(s * at::mm(dyi.t(), at::mm(dropped, ai.t())));
  }

  at::Tensor u;
  const at::Tensor found = adapted_linear(p.store, p.linear, p.x(), p.dropout, &u);
  EXPECT_EQ(found.scalar_type(), c.dtype);
  expect_close(found, y, tolerance, "y");
  EXPECT_TRUE(found.equal(adapted_linear(p.store, p.linear, p.x(), p.dropout, nullptr)));
  EXPECT_EQ(u.defined() ? u.size(1) : 0, kept_columns(p.store, p.linear, c.dtype));

  const at::Tensor along = wave({16, c.shape.inputs}, 8).to(c.dtype);
  for (const bool kept : {true, false}) {
    p.store.zero_grads();
    const at::Tensor found_dx =
        adapted_linear_backward(p.store, p.linear, p.grad_y(), p.x(), kept ? u : at::Tensor(), p.dropout, {});
    expect_close(found_dx, dx, tolerance, "dx");
    expect_close(p.store.grad(p.linear.lora_a), da, tolerance, "dA");
    for (size_t i = 0; i < db.size(); ++i)
      expect_close(p.store.grad(p.linear.pieces[i].lora_b), db[i], tolerance, p.linear.pieces[i].peft_name);
    if (c.trained_weight) {
      expect_close(p.store.grad(p.linear.weight), at::mm(dy.t(), x), tolerance, "dW");
      expect_close(p.store.grad(p.linear.bias), dy.sum(0), tolerance, "db");
    }
  }
  // Parameter gradients add up; that of x is added to what is there, in place, or left away.
  const at::Tensor once = p.store.flat_grads().clone();
  at::Tensor into = along.clone();
  const at::Tensor sum = adapted_linear_backward(p.store, p.linear, p.grad_y(), p.x(), u, p.dropout, into);
  EXPECT_EQ(sum.data_ptr(), into.data_ptr());
  expect_close(sum, dx + along.to(at::kDouble), tolerance, "dx added");
  EXPECT_TRUE(at::allclose(p.store.flat_grads(), 2 * once, 1e-5, 1e-6));
  EXPECT_FALSE(
      adapted_linear_backward(p.store, p.linear, p.grad_y(), p.x(), u, p.dropout, {}, /*want_grad_x=*/false).defined());
  EXPECT_TRUE(at::allclose(p.store.flat_grads(), 3 * once, 1e-5, 1e-6));
}

TEST_P(LoraTest, MergedWeightIsTheLayer) {
  const Case c = GetParam();
  const Projection p(c, /*trainable=*/false);
  EXPECT_EQ(p.store.trained(p.linear.lora_a), false);
  const at::Tensor merged = merged_weight(p.store, p.linear);
  EXPECT_EQ(merged.scalar_type(), at::kFloat);
  LoraDropout evaluation = p.dropout;
  evaluation.training = false;
  const at::Tensor y = adapted_linear(p.store, p.linear, p.x(), evaluation, nullptr);
  expect_close(y, at::mm(p.x().to(at::kDouble), merged.t().to(at::kDouble)) + p.exact(p.linear.bias),
               c.dtype == at::kFloat ? 2e-6 : 2e-2, "merged");
}

INSTANTIATE_TEST_SUITE_P(Unit, LoraTest,
                         ::testing::Values(Case{"all", "q,k,v", 0, false, at::kFloat},
                                           Case{"all_dropout", "q,k,v", 0.25, false, at::kFloat},
                                           Case{"outer", "q,v", 0, false, at::kFloat},
                                           Case{"outer_dropout", "v, q", 0.25, true, at::kFloat},
                                           Case{"inner_trained", "k", 0, true, at::kFloat},
                                           Case{"all_bf16", "q,k,v", 0, false, at::kBFloat16},
                                           Case{"outer_dropout_bf16", "q,v", 0.25, false, at::kBFloat16},
                                           Case{"inner_trained_bf16", "k,o,gate", 0, true, at::kBFloat16},
                                           Case{"tall_dropout", "q,k,v", 0.25, false, at::kFloat, kTall},
                                           Case{"tall_bf16", "q,k,v", 0, false, at::kBFloat16, kTall},
                                           Case{"tall_outer_bf16", "q,v", 0, true, at::kBFloat16, kTall},
                                           Case{"tall_inner_bf16", "k", 0, false, at::kBFloat16, kTall},
                                           Case{"wide_bf16", "q,k,v", 0, false, at::kBFloat16, kWide},
                                           Case{"wide_outer_bf16", "q,v", 0, true, at::kBFloat16, kWide}),
                         [](const auto& test) { return std::string(test.param.name); });

// One product over the adapter's columns too is rounded once, not before the adapter's part is added and after; it is
// counted where it is made.
TEST(Lora, OneProductIsRoundedOnce) {
  const auto differ = [](const at::Tensor& found, const at::Tensor& exact) {
    return found.ne(exact.to(at::kBFloat16)).sum().item<int64_t>() / static_cast<double>(found.numel());
  };
  for (const Shape& shape : {kTall, kWide}) {
    Projection p({"", "q,k,v", 0, false, at::kBFloat16, shape});
    p.linear.scale = 2;  // rounds nothing
    const bool tall = shape.rows() > shape.inputs;
    const OperandBytes bytes = operand_bytes(p.store, p.linear, at::kBFloat16, 16);
    EXPECT_EQ(bytes.forward > 0, tall);
    EXPECT_EQ(bytes.backward > 0, !tall);
    at::Tensor u;
    const at::Tensor y = adapted_linear(p.store, p.linear, p.x(), p.dropout, &u);
    // u itself is rounded, so that its part is taken as it is.
    at::Tensor exact = tall ? at::mm(p.x().to(at::kDouble), p.exact(p.linear.weight).t()) + p.exact(p.linear.bias)
                            : at::mm(p.grad_y().to(at::kDouble), p.exact(p.linear.weight));
    for (size_t i = 0; i < p.linear.pieces.size(); ++i) {
      const auto& piece = p.linear.pieces[i];
      const auto column = static_cast<int64_t>(i) * shape.rank;
      if (tall) {
        exact.narrow(1, piece.first_row, piece.rows)
            .add_(at::mm(u.narrow(1, column, shape.rank).to(at::kDouble), p.exact(piece.lora_b).t()), 2);
      } else {
        const at::Tensor grad_u =
            at::mm(p.grad_y().narrow(1, piece.first_row, piece.rows), p.store.compute(piece.lora_b).to(at::kBFloat16));
        exact.add_(at::mm(grad_u.to(at::kDouble), p.exact(p.linear.lora_a).narrow(0, column, shape.rank)), 2);
      }
    }
    const at::Tensor found = tall ? y : adapted_linear_backward(p.store, p.linear, p.grad_y(), p.x(), u, p.dropout, {});
    EXPECT_LT(differ(found, exact), 0.02) << (tall ? "forward" : "backward");
  }
}

TEST(Lora, GradientsByFiniteDifferences) {
  for (const double dropout : {0.0, 0.3}) {
    Projection p({"", "q,k,v", dropout, true, at::kFloat});
    const at::Tensor direction = p.grad_y().to(at::kDouble);
    at::Tensor u;
    adapted_linear(p.store, p.linear, p.x(), p.dropout, &u);
    adapted_linear_backward(p.store, p.linear, p.grad_y(), p.x(), u, p.dropout, {});
    const int checked = testing::expect_gradients(p.store, {.step = 1e-2, .relative = 1e-3}, [&] {
      return testing::weighed_sum(adapted_linear(p.store, p.linear, p.x(), p.dropout, nullptr), direction);
    });
    EXPECT_EQ(checked, p.store.count());
  }
}

TEST(Lora, NoModuleOfTheListIsAPlainLayer) {
  const Projection p({"", "o,down", 0, false, at::kFloat});
  EXPECT_EQ(p.linear.lora_a, -1);
  EXPECT_TRUE(p.linear.pieces.empty());
  EXPECT_EQ(p.store.count(), 2);
  EXPECT_TRUE(adapted_linear(p.store, p.linear, p.x(), p.dropout, nullptr)
                  .equal(at::addmm(p.store.compute(p.linear.bias), p.x(), p.store.compute(p.linear.weight).t())));
  EXPECT_EQ(lora_products(p.store, p.linear), 0);
}

// Initial values follow seed and module name, not what else is registered; B = 0 leaves the layer as it was.
TEST(Lora, InitialValues) {
  Projection all({"", "q,k,v", 0, false, at::kFloat}), one({"", "k", 0, true, at::kFloat});
  initialise_lora(all.linear, 5, all.store);
  initialise_lora(one.linear, 5, one.store);
  const at::Tensor a = all.store.value(all.linear.lora_a).clone();
  EXPECT_TRUE(a.narrow(0, kRank, kRank).equal(one.store.value(one.linear.lora_a)));
  EXPECT_FALSE(a.narrow(0, kRank, kRank).equal(a.narrow(0, 0, kRank)));
  const double bound = 1 / std::sqrt(static_cast<double>(kInputs));
  EXPECT_LE(a.abs().max().item<double>(), bound);
  EXPECT_GT(a.abs().max().item<double>(), 0.95 * bound);
  for (const auto& piece : all.linear.pieces) EXPECT_EQ(all.store.value(piece.lora_b).abs().max().item<float>(), 0);
  EXPECT_TRUE(merged_weight(all.store, all.linear).equal(all.store.value(all.linear.weight)));
  initialise_lora(all.linear, 6, all.store);
  EXPECT_FALSE(all.store.value(all.linear.lora_a).equal(a));
}

TEST(Lora, ScaleAndModuleList) {
  LoraConfig config;
  config.rank = 256;
  EXPECT_DOUBLE_EQ(lora_scale(config), 16);
  config.scale = LoraScale::kClassic;
  EXPECT_DOUBLE_EQ(lora_scale(config), 1);
  config.modules = " down,q ";
  EXPECT_EQ(lora_modules(config), (std::vector{LoraModule::kQuery, LoraModule::kDown}));
  const auto fault = [&](const char* modules) {
    config.modules = modules;
    return test::fault_of([&] { lora_modules(config); });
  };
  EXPECT_FAULT(fault("q,w"), "lora.modules: 'w' found, expected a list of q, k, v");
  EXPECT_FAULT(fault("q,v,q"), "q found twice");
  EXPECT_FAULT(fault(""), "nothing found");
}

}  // namespace
}  // namespace vixen
