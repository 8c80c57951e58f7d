// A whole training step through the launch code of CUDA on the pretend device, its kernels emulated: gradients against
// the reference on the CPU, waits, and the bytes that a layer moves between its products.
#include <map>
#include <string>

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

  // Without dropout equal texts are equal columns, and which of them is among the hardest is nobody's: all are asked
  // for.
  static Config decoder_of_all_columns() {
    auto settings = decoder();
    settings.loss.negatives = settings.train.batch_size;
    return settings;
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
  expect_gradients_of_the_reference(decoder_of_all_columns(), Compute::kFloat32);
}
TEST_F(EmulatedStepTest, QwenInBfloat16) {
  expect_gradients_of_the_reference(decoder_of_all_columns(), Compute::kBfloat16);
}
TEST_F(EmulatedStepTest, QwenThatRecomputesItsLayers) {
  auto settings = decoder_of_all_columns();
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

// A layer of Qwen2.5-0.5B with adapters, over sequences of the paper's length: bytes that its forward pass, the pass
// that recomputes it and its backward pass move between memory and the processors, a position. What two layers move
// more than one, and of that what a batch of more positions moves more: weights and their gradients are not in it.
class LayerTrafficTest : public EmulatedStepTest {
 protected:
  static constexpr int64_t kLength = 26, kFew = 2, kMany = 6, kMore = (kMany - kFew) * kLength;

  struct Moved {
    int64_t products = 0, operators = 0;
    int64_t planned = 0;  // what the time plan takes for all but the products
    std::map<std::string, int64_t> kernels;
    Moved operator-(const Moved& other) const {
      Moved rest{products - other.products, operators - other.operators, planned - other.planned, kernels};
      for (const auto& [name, bytes] : other.kernels) rest.kernels[name] -= bytes;
      return rest;
    }
    int64_t of_kernels(const char* prefix = "") const {
      int64_t sum = 0;
      for (const auto& [name, bytes] : kernels) sum += name.rfind(prefix, 0) == 0 ? bytes : 0;
      return sum;
    }
    int64_t between_products() const { return operators + of_kernels(); }
    int64_t elementwise() const { return operators + of_kernels() - of_kernels("attention"); }
  };

  static PackedBatch batch_of(int64_t sequences) {
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
  }

  static int64_t planned_bytes(const LayeredEncoder& encoder, int64_t sequences, int64_t recomputed) {
    const BatchShape shape{.positions = sequences * kLength,
                           .sequences = sequences,
                           .sum_squared_lengths = sequences * kLength * kLength,
                           .longest = kLength};
    const auto traffic = encoder.costs().traffic(shape, /*cpu=*/false, /*training=*/true);
    return traffic.forward + recomputed * traffic.again_a_layer + traffic.backward;
  }

  static Moved pass(LayeredEncoder& encoder, int64_t sequences, int64_t recomputed) {
    const auto batch = batch_of(sequences);
    const Counts before = counts();
    EmulatedKernels::memory_bytes().clear();
    const PassContext context{true, 1, 1};
    std::unique_ptr<Encoder::Saved> saved;
    const auto h = encoder.forward(batch, context, &saved);
    encoder.backward(at::ones_like(h), batch, context, *saved, {});
    return {counts().product_bytes - before.product_bytes, counts().moved_bytes - before.moved_bytes,
            planned_bytes(encoder, sequences, recomputed), EmulatedKernels::memory_bytes()};
  }

  // What more positions move more.
  static Moved of_run(const Config& settings) {
    const Dataset dataset(settings.data.path);
    const auto trainer = make(settings, dataset, device());
    auto& encoder = *trainer->parts().encoder;
    const Moved few = pass(encoder, kFew, settings.train.recompute_layers);
    return pass(encoder, kMany, settings.train.recompute_layers) - few;
  }

  static Moved of_layers(int64_t layers) {
    const auto folder = dir_->path() / fmt::format("half-billion-{}", layers);
    test::write_tiny_decoder(folder, {.width = 896,
                                      .layers = layers,
                                      .heads = 14,
                                      .kv_heads = 2,
                                      .head_dim = 64,
                                      .feed_forward = 4864,
                                      .vocabulary = 120});
    auto settings = decoder();
    settings.model.path = folder.string();
    settings.model.compute = Compute::kBfloat16;
    settings.train.recompute_layers = layers;
    settings.lora.rank = 256;
    settings.lora.dropout = 0;
    return of_run(settings);
  }
  static Moved of_a_layer() {
    const Moved one = of_layers(1);
    return of_layers(2) - one;
  }

  // Without what a plan leaves out: keys, offsets and statistics of a position.
  static void expect_as_planned(const Moved& moved) {
    const auto counted = static_cast<double>(moved.between_products());
    EXPECT_NEAR(static_cast<double>(moved.planned), counted, 0.05 * counted);
  }

  static double kilobytes(int64_t bytes) { return static_cast<double>(bytes) / 1e3 / kMore; }
  // Of a step of 4,096 sequences of 26 positions, in GB.
  static double of_a_step(int64_t bytes) { return kilobytes(bytes) * 106'496 / 1e6; }
};

TEST_F(LayerTrafficTest, BytesThatALayerMoves) {
  const Moved reference = of_a_layer();
  EXPECT_EQ(reference.of_kernels(), 0);
  choose_by_device();
  const EmulatedKernels kernels;
  emulated::count_memory(true);
  const Moved fused = of_a_layer();
  emulated::count_memory(false);
  for (const auto& [name, bytes] : fused.kernels)
    if (bytes != 0) fmt::print("  {:<20} {:6.1f} KB\n", name, kilobytes(bytes));
  fmt::print("  {:<20} {:6.1f} KB\n", "ATen", kilobytes(fused.operators));
  fmt::print("a position and layer: reference {:.0f} KB; kernels and ATen {:.0f} KB, {:.0f} of them attention's\n",
             kilobytes(reference.operators), kilobytes(fused.operators + fused.of_kernels()),
             kilobytes(fused.of_kernels("attention")));
  fmt::print(
      "a layer of a step of 106,496 positions: reference {:.1f} GB, elementwise {:.1f} GB, attention {:.1f} GB, "
      "operands and results of products {:.1f} GB\n",
      of_a_step(reference.operators), of_a_step(fused.elementwise()), of_a_step(fused.of_kernels("attention")),
      of_a_step(fused.products));
  EXPECT_LT(fused.operators + fused.of_kernels(), 0.35 * static_cast<double>(reference.operators));
  fmt::print("planned: reference {:.1f} GB, kernels {:.1f} GB\n", of_a_step(reference.planned),
             of_a_step(fused.planned));
  expect_as_planned(fused);
  expect_as_planned(reference);
  EXPECT_LT(of_a_step(fused.elementwise()), 18);
  EXPECT_GT(of_a_step(fused.elementwise()), 10) << "what the forms of kernels cannot go below";
}

// A whole encoder, its embeddings and pooling with it, all weights trained, under dropout.
TEST_F(LayerTrafficTest, AnEncoderMovesWhatIsPlanned) {
  const auto folder = dir_->path() / "small-encoder";
  test::write_toy_model(folder, {.width = 384, .heads = 12, .feed_forward = 1536, .vocabulary = 120});
  auto settings = bert();
  settings.model.path = folder.string();
  settings.train.recompute_layers = 0;
  for (const auto compute : {Compute::kFloat32, Compute::kBfloat16}) {
    SCOPED_TRACE(name_of(compute));
    settings.model.compute = compute;
    choose_by_device();
    const EmulatedKernels kernels;
    emulated::count_memory(true);
    const Moved moved = of_run(settings);
    emulated::count_memory(false);
    fmt::print("{}: {:.1f} KB a position, planned {:.1f}\n", name_of(compute), kilobytes(moved.between_products()),
               kilobytes(moved.planned));
    expect_as_planned(moved);
    use_reference_kernels();
  }
}

}  // namespace
}  // namespace vixen::pretend
