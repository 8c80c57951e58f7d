// Loss and every gradient of a whole step (encoder, prototypes, normalisation, PRIME objective) against PyTorch
// autograd.
#include "kernels/pooling.hpp"
#include "model/prototype.hpp"
#include "parity/golden.hpp"
#include "train/objective.hpp"

namespace vixen {
namespace {

using testing::golden_path;
using testing::load_encoder;
using testing::relative_difference;

constexpr double kTolerance = 1e-5;

class FullStep : public ::testing::TestWithParam<const char*> {};

TEST_P(FullStep, GradientsAsAutograd) {
  const SafetensorsFile golden(golden_path(std::string(GetParam()) + "_step.safetensors"));
  const PackedBatch batch = testing::golden_batch(golden);
  EncoderOptions options;
  options.model.path = golden_path(GetParam()).string();
  options.image_width = batch.image_embeddings.size(1);
  ParameterStore store;
  const auto encoder = make_encoder(options, store);
  PrototypeConfig config;
  config.heads = golden.tensor("prototype_heads").item<int64_t>();
  config.feed_forward = golden.tensor("prototype.linear1.weight").size(0);
  PrototypeNetwork prototypes(config, encoder->width(), store);
  store.allocate(at::kCPU, at::kFloat);
  load_encoder_weights(options, store, 0);
  for (int i = prototypes.first_parameter(); i < prototypes.last_parameter(); ++i)
    store.value(i).copy_(golden.tensor(store.info(i).name));

  const PassContext context;
  const int64_t b = batch.n_sequences() / 2;
  std::unique_ptr<Encoder::Saved> saved;
  const at::Tensor h = encoder->forward(batch, context, &saved);
  const at::Tensor u = h.narrow(0, b, b);
  std::unique_ptr<PrototypeNetwork::Saved> prototype_saved;
  const at::Tensor z = prototypes.forward(u, golden.tensor("free_vectors"), golden.tensor("centroids"),
                                          at::arange(b, at::kLong), context, &prototype_saved);
  EXPECT_LE(relative_difference(h, golden.tensor("h")), kTolerance);
  EXPECT_LE(relative_difference(z, golden.tensor("z")), kTolerance);

  const Normalized q_unit = normalize_rows(h.narrow(0, 0, b)), u_unit = normalize_rows(u), z_unit = normalize_rows(z);
  const LossDraws draws{.u = golden.tensor("draws.u"),
                        .i = golden.tensor("draws.i"),
                        .uv = golden.tensor("draws.uv"),
                        .r = golden.tensor("draws.r")};
  const ObjectiveResult loss =
      objective(q_unit.y, u_unit.y, z_unit.y, golden.tensor("positives"), draws, Method::kPrime, LossConfig{});
  EXPECT_LE(relative_difference(loss.loss, golden.tensor("loss")), kTolerance);
  EXPECT_LE(relative_difference(loss.loss_u, golden.tensor("loss_u")), kTolerance);
  EXPECT_LE(relative_difference(loss.loss_uv, golden.tensor("loss_uv")), kTolerance);
  EXPECT_LE(relative_difference(loss.loss_i, golden.tensor("loss_i")), kTolerance);
  EXPECT_LE(relative_difference(loss.loss_r, golden.tensor("loss_r")), kTolerance);
  EXPECT_LE(relative_difference(loss.grad_q, golden.tensor("grad_q")), kTolerance);
  EXPECT_LE(relative_difference(loss.grad_u, golden.tensor("grad_u")), kTolerance);
  EXPECT_LE(relative_difference(loss.grad_z, golden.tensor("grad_z")), kTolerance);

  const auto grad_prototype =
      prototypes.backward(normalize_rows_backward(loss.grad_z, z_unit), context, *prototype_saved);
  EXPECT_LE(relative_difference(grad_prototype.f, golden.tensor("grad.free_vectors")), kTolerance);
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
  for (int i = 0; i < store.count(); ++i) {
    EXPECT_EQ(ready[static_cast<size_t>(i)], i < prototypes.first_parameter() ? 1 : 0) << store.info(i).name;
    const std::string name = "grad." + store.info(i).name;
    ASSERT_TRUE(golden.contains(name)) << name;
    EXPECT_LE(relative_difference(store.grad(i), golden.tensor(name)), kTolerance) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Parity, FullStep, ::testing::Values("tiny_bert", "tiny_distilbert"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace vixen
