// Steps whose passes are recorded, through CUDA's launch code on the pretend device, its kernels emulated: the same
// bits as passes that run as they are over the same filled batches, no wait, no copy, and the run of passes without
// filler.
#include "data/graph_batch.hpp"
#include "pretend/emulated_kernels.hpp"
#include "pretend/training_fixture.hpp"
#include "pretend/work_graphs.hpp"

namespace vixen::pretend {
namespace {

class RecordedStepsTest : public TrainingFixture {
 protected:
  void SetUp() override {
    TrainingFixture::SetUp();
    set_kernel_choices(KernelsConfig{});
  }
  void TearDown() override {
    use_reference_kernels();
    TrainingFixture::TearDown();
  }

  // Small batches, all of one shape or two.
  static Config small(Config settings) {
    settings.train.batch_size = 4;
    settings.train.graph_positions = 128;
    settings.prototype.free_vectors = 8;
    return settings;
  }

  // The first passes by the reference: it is the steps that are looked at.
  static std::unique_ptr<Trainer> prepared(const Config& settings, const Dataset& dataset) {
    auto trainer = make(settings, dataset, device());
    use_reference_kernels();
    trainer->prepare();
    set_kernel_choices(KernelsConfig{});
    return trainer;
  }

  static StepInput input_of(Trainer& trainer, const Dataset& dataset, int64_t index) {
    auto& parts = trainer.parts();
    const auto order = epoch_order(parts, 0);
    return parts.step->prepare(parts.planner->plan(0, index, order.view()), dataset, parts.pack);
  }

  struct Step {
    double loss = 0;
    at::Tensor gradients;
  };
  static Step step_of(Trainer& trainer, const Dataset& dataset, int64_t index) {
    auto& parts = trainer.parts();
    const auto input = input_of(trainer, dataset, index);
    EXPECT_TRUE(input.graph.has_value());
    const auto result = parts.step->accumulate(input);
    return {result.loss.item<double>(), parts.store.flat_grads().cpu()};
  }

  static void expect_replays_of_the_same_bits(const Config& settings) {
    const Dataset dataset(settings.data.path);
    const LentWorkGraphs graphs;
    const EmulatedKernels kernels;
    const auto recorded = prepared(settings, dataset);
    for (int64_t index = 0; index < 5; ++index) step_of(*recorded, dataset, index);
    const auto* passes = recorded->parts().step->recorded_passes();
    ASSERT_NE(passes, nullptr);
    const int64_t recordings = passes->recordings(), replays = passes->replays();
    EXPECT_GE(recordings, 2) << "a forward and a backward pass";
    const Step found = step_of(*recorded, dataset, 5);
    EXPECT_EQ(passes->replays(), replays + 2);
    EXPECT_EQ(passes->recordings(), recordings) << "of a shape that is known";
    // The first pass of a shape runs as it is.
    const auto fresh = prepared(settings, dataset);
    const Step expected = step_of(*fresh, dataset, 5);
    EXPECT_EQ(fresh->parts().step->recorded_passes()->replays(), 0);
    EXPECT_EQ(found.loss, expected.loss);
    EXPECT_TRUE(found.gradients.equal(expected.gradients)) << "gradients of a replay, to the bit";
    EXPECT_GT(found.gradients.abs().max().item<double>(), 0);
    EXPECT_EQ(text_of(take_faults()), "");
  }
};

TEST_F(RecordedStepsTest, ReplaysGiveTheSameBits) {
  expect_replays_of_the_same_bits(small(bert()));
}
TEST_F(RecordedStepsTest, ReplaysOfADecoderGiveTheSameBits) {
  auto settings = small(decoder());
  settings.lora.dropout = 0.1;
  expect_replays_of_the_same_bits(settings);
}

// Filler has no part in anything: the losses of a run without it, to rounding.
TEST_F(RecordedStepsTest, RunsAreThoseWithoutFiller) {
  auto settings = small(bert());
  const Dataset dataset(settings.data.path);
  const LentWorkGraphs graphs;
  const EmulatedKernels kernels;
  const auto run = [&](int64_t graph_positions) {
    settings.train.graph_positions = graph_positions;
    const auto trainer = prepared(settings, dataset);
    std::vector<double> losses;
    for (int64_t index = 0; index < 4; ++index) {
      auto& parts = trainer->parts();
      const auto input = input_of(*trainer, dataset, index);
      auto result = parts.step->accumulate(input);
      parts.step->update(1, false, result);
      losses.push_back(result.loss.item<double>());
    }
    return losses;
  };
  const auto expected = run(0), found = run(64);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-5 * expected[i]) << "step " << i;
  EXPECT_EQ(text_of(take_faults()), "");
}

TEST_F(RecordedStepsTest, StepsWaitForNothing) {
  const auto settings = small(bert());
  const Dataset dataset(settings.data.path);
  const LentWorkGraphs graphs;
  const EmulatedKernels kernels;
  const auto trainer = prepared(settings, dataset);
  trainer->run_steps(1);
  EXPECT_EQ(text_of(take_faults()), "");
  const InStep step;
  EXPECT_EQ(trainer->run_steps(4), 4);
  EXPECT_GT(trainer->parts().step->recorded_passes()->replays(), 0);
}

// Between ranks gradients are announced while the backward pass goes on: in the same order, and final by then.
TEST_F(RecordedStepsTest, AnnouncementsComeBetweenRecordings) {
  const auto settings = small(bert());
  const Dataset dataset(settings.data.path);
  const LentWorkGraphs graphs;
  const EmulatedKernels kernels;
  const auto trainer = prepared(settings, dataset);
  auto& parts = trainer->parts();
  const auto input = input_of(*trainer, dataset, 0);
  const int64_t n = input.queries.size() + input.labels.size();
  RecordedPasses passes(*parts.encoder, device(), /*announces=*/true);
  struct Announced {
    int first, last;
    at::Tensor gradient;
  };
  std::vector<std::vector<Announced>> all;
  for (int pass = 0; pass < 3; ++pass) {
    parts.store.zero_grads();
    input.join();
    const auto h = passes.forward(input.chunks[0], *input.graph, n, {true, 1, 7});
    auto& announced = all.emplace_back();
    passes.backward(at::ones_like(h), [&](int first, int last) {
      announced.push_back({first, last, parts.store.grad(first).cpu()});
    });
    ASSERT_GT(announced.size(), 2u);
    for (const auto& [first, last, gradient] : announced)
      EXPECT_TRUE(gradient.equal(parts.store.grad(first).cpu())) << "final when it is announced";
  }
  EXPECT_EQ(passes.recordings(), 1 + std::ssize(all[0]) + 1) << "forward, and backward up to each announcement";
  EXPECT_EQ(passes.replays(), 2 * 2);
  for (size_t i = 0; i < all[0].size(); ++i)
    for (const auto& other : all) {
      EXPECT_EQ(other[i].first, all[0][i].first);
      EXPECT_EQ(other[i].last, all[0][i].last);
      EXPECT_TRUE(other[i].gradient.equal(all[0][i].gradient));
    }
}

// A reference's work depends on the lengths of the sequences.
TEST_F(RecordedStepsTest, AReferenceIsRefused) {
  const auto settings = small(bert());
  const Dataset dataset(settings.data.path);
  const LentWorkGraphs graphs;
  const EmulatedKernels kernels;
  const auto trainer = prepared(settings, dataset);
  KernelsConfig choices;
  choices.attention = KernelChoice::kReference;
  set_kernel_choices(choices);
  step_of(*trainer, dataset, 0);
  std::string fault;
  try {
    for (int64_t index = 1; index < 4; ++index) step_of(*trainer, dataset, index);
  } catch (const UserError& error) {
    fault = error.what();
  }
  EXPECT_EQ(fault,
            "train.graph_positions: attention_forward runs as its reference here, which cannot be recorded (see "
            "kernels.attention); expected 0");
}

}  // namespace
}  // namespace vixen::pretend
