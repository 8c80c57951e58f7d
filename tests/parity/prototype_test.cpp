// The prototype network against torch.nn.TransformerEncoderLayer: output and every gradient.
#include "model/prototype.hpp"
#include "parity/golden.hpp"

namespace vixen {
namespace {

using testing::golden_path;
using testing::relative_difference;

TEST(Prototype, ForwardAndBackwardAsTorch) {
  const SafetensorsFile golden(golden_path("prototype.safetensors"));
  PrototypeConfig config;
  config.heads = golden.tensor("heads").item<int64_t>();
  config.feed_forward = golden.tensor("feed_forward").item<int64_t>();
  const at::Tensor u = golden.tensor("u"), f = golden.tensor("f"), c = golden.tensor("c");
  ParameterStore store;
  PrototypeNetwork network(config, u.size(1), store);
  store.allocate(at::kCPU, at::kFloat);
  EXPECT_EQ(store.count(), 12);
  EXPECT_EQ(network.first_parameter(), 0);
  EXPECT_EQ(network.last_parameter(), 12);
  for (int i = 0; i < store.count(); ++i) store.value(i).copy_(golden.tensor(store.info(i).name));

  const at::Tensor keys = at::arange(u.size(0), at::kLong);
  EXPECT_LE(relative_difference(network.forward(u, f, c, keys, {}, nullptr), golden.tensor("z")), 2e-6);
  std::unique_ptr<PrototypeNetwork::Saved> saved;
  EXPECT_LE(relative_difference(network.forward(u, f, c, keys, {}, &saved), golden.tensor("z")), 2e-6);
  const auto gradient = network.backward(golden.tensor("grad_z"), {}, *saved);
  EXPECT_LE(relative_difference(gradient.u, golden.tensor("grad_u")), 1e-5);
  EXPECT_LE(relative_difference(gradient.f, golden.tensor("grad_f")), 1e-5);
  for (int i = 0; i < store.count(); ++i)
    EXPECT_LE(relative_difference(store.grad(i), golden.tensor("grad." + store.info(i).name)), 1e-5)
        << store.info(i).name;
}

// torch's defaults: the first and second moments of what initialise() draws, and the values it sets.
TEST(Prototype, InitialisesAsTorch) {
  ParameterStore store;
  PrototypeConfig config;
  const int64_t width = 64;
  PrototypeNetwork network(config, width, store);
  store.allocate(at::kCPU, at::kFloat);
  network.initialise(3);
  const auto value = [&](const char* name) { return store.value(store.find(std::string("prototype.") + name)); };
  const auto expect_uniform = [&](const char* name, double bound) {
    const at::Tensor v = value(name);
    EXPECT_LE(v.abs().max().item<double>(), bound) << name;
    EXPECT_GT(v.abs().max().item<double>(), 0.95 * bound) << name;
    EXPECT_NEAR(v.mean().item<double>(), 0, 0.1 * bound) << name;
    EXPECT_NEAR(v.std().item<double>(), bound / std::sqrt(3.0), 0.1 * bound) << name;
  };
  expect_uniform("self_attn.in_proj_weight", std::sqrt(6.0 / (4.0 * 64)));
  expect_uniform("self_attn.out_proj.weight", 1 / 8.0);
  expect_uniform("linear1.weight", 1 / 8.0);
  expect_uniform("linear1.bias", 1 / 8.0);
  expect_uniform("linear2.weight", 1 / 32.0);
  for (const char* zero : {"self_attn.in_proj_bias", "self_attn.out_proj.bias", "norm1.bias", "norm2.bias"})
    EXPECT_EQ(value(zero).abs().max().item<float>(), 0) << zero;
  for (const char* one : {"norm1.weight", "norm2.weight"}) EXPECT_TRUE(value(one).eq(1).all().item<bool>()) << one;
}

}  // namespace
}  // namespace vixen
