// A whole training step through the launch code of CUDA on the pretend device, its kernels emulated: gradients against
// the reference on the CPU, waits, and the bytes that a layer moves between its products.
#include "pretend/emulated_kernels.hpp"
#include "pretend/training_fixture.hpp"

namespace vixen::pretend {
namespace {

double gap(const at::Tensor& found, const at::Tensor& expected) {
  return (found.cpu() - expected).abs().max().item<double>() / expected.abs().max().item<double>();
}

void choose_by_device() {
  set_kernel_choices(KernelsConfig{});
}

class EmulatedStepTest : public TrainingFixture {
 protected:
  void TearDown() override {
    use_reference_kernels();
    TrainingFixture::TearDown();
  }

  struct Step {
    double loss = 0;
    at::Tensor gradients, free_vectors;
  };
  static Step step_of(Trainer& trainer, const Dataset& dataset, const BatchPlan& plan) {
    auto& parts = trainer.parts();
    const auto input = parts.step->prepare(plan, dataset, parts.pack);
    const auto result = parts.step->accumulate(input);
    return {result.loss.item<double>(), parts.store.flat_grads().cpu(), parts.step->free_vector_grad().cpu()};
  }

  // Both begin by the reference, the device with the CPU's numbers.
  static void expect_gradients_of_the_reference(Config settings, Compute compute) {
    settings.model.compute = compute;
    const double tolerance = compute == Compute::kFloat32 ? 1e-5 : 2e-2;
    const Dataset dataset(settings.data.path);
    auto expected = make(settings, dataset, at::kCPU), found = make(settings, dataset, device());
    expected->prepare();
    found->prepare();
    ASSERT_TRUE(found->parts().prototypes->cluster_of_label().tensor().equal(
        expected->parts().prototypes->cluster_of_label().tensor()));
    const auto order = epoch_order(expected->parts(), 0);
    const auto plan = expected->parts().planner->plan(0, 0, order.view());
    const Step want = step_of(*expected, dataset, plan);
    Step got;
    {
      choose_by_device();
      const EmulatedKernels kernels;
      emulated::reset_counts();
      got = step_of(*found, dataset, plan);
      EXPECT_GT(emulated::counts().launches, 40) << "the step ran on CUDA kernels";
      use_reference_kernels();
    }
    EXPECT_NEAR(got.loss, want.loss, tolerance * want.loss);
    const double gradients = gap(got.gradients, want.gradients), free = gap(got.free_vectors, want.free_vectors);
    fmt::print("{} launches, gradients {:.1e}, of free vectors {:.1e} from the reference\n",
               emulated::counts().launches, gradients, free);
    EXPECT_LT(gradients, tolerance);
    EXPECT_LT(free, tolerance);
    EXPECT_GT(gradients, 0) << "other kernels give other bits";
  }
};

TEST_F(EmulatedStepTest, BertInFloat32) {
  expect_gradients_of_the_reference(bert(), Compute::kFloat32);
}
TEST_F(EmulatedStepTest, BertInBfloat16) {
  expect_gradients_of_the_reference(bert(), Compute::kBfloat16);
}
TEST_F(EmulatedStepTest, QwenInFloat32) {
  expect_gradients_of_the_reference(decoder(), Compute::kFloat32);
}
TEST_F(EmulatedStepTest, QwenInBfloat16) {
  expect_gradients_of_the_reference(decoder(), Compute::kBfloat16);
}
TEST_F(EmulatedStepTest, QwenThatRecomputesItsLayers) {
  auto settings = decoder();
  settings.train.recompute_layers = 3;
  expect_gradients_of_the_reference(settings, Compute::kFloat32);
}

TEST_F(EmulatedStepTest, StepsWaitForNothing) {
  const auto settings = bert();
  const Dataset dataset(settings.data.path);
  choose_by_device();
  const EmulatedKernels kernels;
  auto trainer = make(settings, dataset, device());
  trainer->prepare();
  trainer->run_steps(1);
  EXPECT_EQ(text_of(take_faults()), "");
  const InStep step;
  EXPECT_EQ(trainer->run_steps(2), 2);
}

// One layer of Qwen2.5-0.5B with adapters, over sequences of the paper's length: bytes that its forward pass, the pass
// that recomputes it and its backward pass move between the products, a position: what a batch of more positions moves
// more, so that what does not grow with them (weights' gradients) does not count.
TEST_F(EmulatedStepTest, BytesThatALayerMoves) {
  constexpr int64_t kLength = 26, kFew = 2, kMany = 6, kMore = (kMany - kFew) * kLength;
  test::write_tiny_decoder(
      dir_->path() / "half-billion",
      {.width = 896, .layers = 1, .heads = 14, .kv_heads = 2, .head_dim = 64, .feed_forward = 4864, .vocabulary = 120});
  auto settings = decoder();
  settings.model.path = (dir_->path() / "half-billion").string();
  settings.model.compute = Compute::kBfloat16;
  settings.train.recompute_layers = 1;
  settings.lora.rank = 256;
  settings.lora.dropout = 0;
  const Dataset dataset(settings.data.path);
  const auto trainer = make(settings, dataset, device());
  auto& encoder = *trainer->parts().encoder;
  const auto batch_of = [](int64_t sequences) {
    const int64_t positions = sequences * kLength;
    PackedBatch batch;
    batch.tokens = at::arange(positions, at::kLong).remainder(120);
    batch.position_ids = at::arange(kLength, at::kLong).repeat({sequences});
    batch.cu_seqlens = at::arange(sequences + 1, at::kInt) * kLength;
    batch.image_positions = at::empty({0}, at::kLong);
    batch.text_positions = at::arange(positions, at::kLong);
    batch.sequence_keys = at::arange(sequences, at::kLong);
    batch.max_seqlen = kLength;
    return batch.to(device());
  };

  struct Moved {
    int64_t operators = 0, kernels = 0;
  };
  const auto pass = [&](int64_t sequences) {
    const auto batch = batch_of(sequences);
    const int64_t before = counts().moved_bytes;
    emulated::reset_counts();
    const PassContext context{true, 1, 1};
    std::unique_ptr<Encoder::Saved> saved;
    const auto h = encoder.forward(batch, context, &saved);
    encoder.backward(at::ones_like(h), batch, context, *saved, {});
    return Moved{counts().moved_bytes - before, emulated::counts().loaded_bytes + emulated::counts().stored_bytes};
  };
  const auto moved = [&] {
    const Moved few = pass(kFew), many = pass(kMany);
    return std::pair(many.operators - few.operators, many.kernels - few.kernels);
  };
  const auto [reference, none] = moved();
  EXPECT_EQ(none, 0);
  choose_by_device();
  const EmulatedKernels kernels;
  const auto [rest, fused] = moved();
  const auto kilobytes = [](int64_t bytes) { return static_cast<double>(bytes) / 1e3 / kMore; };
  const auto of_a_step = [&](int64_t bytes) { return static_cast<double>(bytes) / kMore * 106'496 / 1e9; };
  fmt::print("a position and layer: reference {:.0f} KB; kernels {:.0f} KB and ATen {:.0f} KB beside them\n",
             kilobytes(reference), kilobytes(fused), kilobytes(rest));
  fmt::print("a layer of a step of 106,496 positions: reference {:.1f} GB, kernels and ATen {:.1f} GB\n",
             of_a_step(reference), of_a_step(fused + rest));
  EXPECT_LT(of_a_step(fused + rest), 0.35 * of_a_step(reference));
}

}  // namespace
}  // namespace vixen::pretend
