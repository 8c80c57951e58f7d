// A whole training step (encoder, prototypes, normalisation, PRIME objective) against a golden of PyTorch autograd.
#pragma once

#include "fixtures/pairs.hpp"
#include "kernels/pooling.hpp"
#include "model/prototype.hpp"
#include "objective/objective.hpp"
#include "parity/golden.hpp"

namespace vixen::testing {

/// Compares the loss, its terms and every gradient, to `tolerance` of the largest element of each; then the step once
/// more with every layer computed again, to the bit. On a device, in options.model.compute.
inline void expect_step_as_autograd(const SafetensorsFile& golden, EncoderOptions options, double tolerance,
                                    at::Device device = at::kCPU) {
  const auto given = [&](const std::string& name) { return golden.tensor(name).to(device); };
  const PackedBatch batch = golden_batch(golden).to(device);
  options.image_width = batch.image_embeddings.size(1);
  ParameterStore store;
  const auto encoder = make_encoder(options, store);
  PrototypeConfig config;
  config.heads = golden.tensor("prototype_heads").item<int64_t>();
  config.feed_forward = golden.tensor("prototype.linear1.weight").size(0);
  PrototypeNetwork prototypes(config, encoder->width(), store);
  store.allocate(device, options.model.compute == Compute::kFloat32 ? at::kFloat : at::kBFloat16);
  encoder->files().load(0);
  for (int i = prototypes.first_parameter(); i < prototypes.last_parameter(); ++i)
    store.value(i).copy_(golden.tensor(store.info(i).name));
  for (int i = 0; i < prototypes.first_parameter(); ++i)
    if (store.info(i).name.starts_with("fusion.")) store.value(i).copy_(golden.tensor(store.info(i).name));
  store.refresh_compute();

  const PassContext context;
  const int64_t b = batch.n_sequences() / 2;
  std::unique_ptr<Encoder::Saved> saved;
  const at::Tensor h = encoder->forward(batch, context, &saved);
  const at::Tensor u = h.narrow(0, b, b);
  std::unique_ptr<PrototypeNetwork::Saved> prototype_saved;
  const at::Tensor z = prototypes.forward(u, given("free_vectors"), given("centroids"),
                                          at::arange(b, at::kLong).to(device), context, &prototype_saved);
  double worst = 0;
  const auto expect_close = [&](const at::Tensor& ours, const std::string& name) {
    ASSERT_TRUE(golden.contains(name)) << name;
    const double difference = relative_difference(ours.cpu(), golden.tensor(name));
    worst = std::max(worst, difference);
    EXPECT_LE(difference, tolerance) << name;
  };
  expect_close(h, "h");
  expect_close(z, "z");

  const Normalized q_unit = normalize_rows(h.narrow(0, 0, b)), u_unit = normalize_rows(u), z_unit = normalize_rows(z);
  const auto prime = make_objective(Method::kPrime, LossConfig{});
  std::vector<at::Tensor> draws;
  for (const DrawSpec& spec : prime->draws()) draws.push_back(given(std::string("draws.") + spec.name));
  const ObjectiveResult loss =
      prime->evaluate({q_unit.y, u_unit.y, z_unit.y, test::pairs_of(golden.tensor("positives")).to(device), draws});
  expect_close(loss.loss, "loss");
  ASSERT_EQ(loss.terms.size(), 4u);
  for (const LossTerm& term : loss.terms) expect_close(term.value, term.name);
  expect_close(loss.grad_q, "grad_q");
  expect_close(loss.grad_u, "grad_u");
  expect_close(loss.grad_z, "grad_z");

  const auto grad_prototype =
      prototypes.backward(normalize_rows_backward(loss.grad_z, z_unit), context, *prototype_saved);
  expect_close(grad_prototype.f, "grad.free_vectors");
  const at::Tensor grad_h = at::cat(
      {normalize_rows_backward(loss.grad_q, q_unit), normalize_rows_backward(loss.grad_u, u_unit) + grad_prototype.u});
  // Parameters become final from the last layer to the first, the encoder's all exactly once.
  std::vector<int> ready(static_cast<size_t>(store.count()), 0);
  int last_first = store.count();
  encoder->backward(grad_h, batch, context, *saved, [&](int first, int last) {
    if (first < prototypes.first_parameter() && store.info(first).name.find("image_projection") == std::string::npos) {
      EXPECT_LT(first, last_first);
      last_first = first;
    }
    for (int i = first; i < last; ++i) ++ready[static_cast<size_t>(i)];
  });
  int compared = 0;
  for (int i = 0; i < store.count(); ++i) {
    const std::string& name = store.info(i).name;
    const bool encoders = i < prototypes.first_parameter() && store.trained(i);
    EXPECT_EQ(ready[static_cast<size_t>(i)], encoders ? 1 : 0) << name;
    EXPECT_EQ(store.trained(i), golden.contains("grad." + name)) << name;
    if (!store.trained(i)) continue;
    expect_close(store.grad(i), "grad." + name);
    ++compared;
  }
  // Nothing that autograd has a gradient of is left out; the free vectors are no parameters of the store.
  int expected = -1;
  for (const auto& name : golden.names()) expected += name.starts_with("grad.") ? 1 : 0;
  EXPECT_EQ(compared, expected);
  ::testing::Test::RecordProperty("worst_relative", std::to_string(worst * 1e6) + "e-6");

  const at::Tensor gradients = store.flat_grads().clone();
  store.zero_grads();
  encoder->set_recompute_layers(encoder->n_layers());
  std::unique_ptr<Encoder::Saved> inputs_only;
  EXPECT_TRUE(encoder->forward(batch, context, &inputs_only).equal(h));
  encoder->backward(grad_h, batch, context, *inputs_only, {});
  for (int i = 0; i < prototypes.first_parameter(); ++i)
    if (store.trained(i)) {
      const auto& info = store.info(i);
      EXPECT_TRUE(store.grad(i).flatten().equal(gradients.narrow(0, info.offset, store.grad(i).numel()))) << info.name;
    }
}

}  // namespace vixen::testing
