// Training steps on a GPU under torch's own watch: a call that makes the host wait for the GPU is an error.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/cuda/CUDAFunctions.h>
#include <gtest/gtest.h>

#include <memory>

#include "comm/one_rank.hpp"
#include "commands/numerics.hpp"
#include "device/device.hpp"
#include "eval/evaluator.hpp"
#include "fixtures/tiny_decoder.hpp"
#include "fixtures/toy_dataset.hpp"
#include "fixtures/toy_run.hpp"

namespace vixen {
namespace {

// torch's mode "error" while it lives.
class NoWaits {
 public:
  NoWaits() { c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_ERROR); }
  ~NoWaits() { c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_DISABLED); }
  NoWaits(const NoWaits&) = delete;
  NoWaits& operator=(const NoWaits&) = delete;
};

class GpuStepTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (gpu_count() == 0) GTEST_SKIP() << "no GPU";
    const auto sha = test::write_toy_model(dir_.path() / "model");
    test::write_toy_dataset(
        dir_.path() / "data.h5",
        {.n_train = 240, .n_test = 40, .n_labels = 150, .image_width = 24, .tokenizer_sha256 = sha});
    test::write_tiny_decoder(dir_.path() / "decoder", {.vocabulary = 120});
  }

  static void expect_no_wait(Config config) {
    config.device = DeviceKind::kCuda;
    config.model.compute = Compute::kBfloat16;
    config.train.batch_size = 40;
    config.prototype.free_vectors = 32;
    set_numerics(config, /*local_rank=*/0, at::get_num_threads());
    const Dataset dataset(config.data.path);
    const auto comm = std::make_shared<OneRank>(at::Device(at::kCUDA, 0));
    Trainer trainer(config, dataset, label_weights(config, dataset, *comm), comm);
    trainer.prepare();
    trainer.run_steps(1);
    const NoWaits watch;
    EXPECT_EQ(trainer.run_steps(4), 4);
  }

  test::TempDir dir_;
};

TEST_F(GpuStepTest, BertWaitsForNothing) {
  expect_no_wait(test::toy_run(dir_.path()));
}

TEST_F(GpuStepTest, ADecoderWithAdaptersWaitsForNothing) {
  expect_no_wait(test::with_toy_adapters(test::toy_run(dir_.path()), dir_.path()));
}

// Passes recorded as CUDA graphs: no wait either, and the losses of passes that run as they are, to rounding.
TEST_F(GpuStepTest, RecordedPassesAreThosePasses) {
  const auto run = [&](int64_t graph_positions) {
    Config config = test::toy_run(dir_.path());
    config.device = DeviceKind::kCuda;
    config.train.batch_size = 40;
    config.train.graph_positions = graph_positions;
    config.prototype.free_vectors = 32;
    set_numerics(config, /*local_rank=*/0, at::get_num_threads());
    const Dataset dataset(config.data.path);
    const auto comm = std::make_shared<OneRank>(at::Device(at::kCUDA, 0));
    Trainer trainer(config, dataset, label_weights(config, dataset, *comm), comm);
    trainer.prepare();
    trainer.run_steps(2);  // as they are, and the recording
    {
      const NoWaits watch;
      EXPECT_EQ(trainer.run_steps(8), 8);
    }
    const auto* passes = trainer.parts().step->recorded_passes();
    EXPECT_EQ(passes != nullptr && passes->replays() > 4, graph_positions > 0);
    return trainer.parts().store.flat_values().cpu();
  };
  const at::Tensor expected = run(0), found = run(1024);
  EXPECT_LT((found - expected).abs().max().item<double>(), 1e-4 * expected.abs().max().item<double>());
}

TEST_F(GpuStepTest, AWaitIsAnError) {
  const auto value = at::ones({1}, at::TensorOptions().device(at::kCUDA));
  const NoWaits watch;
  EXPECT_THROW(value.item<float>(), c10::Error);
}

}  // namespace
}  // namespace vixen
