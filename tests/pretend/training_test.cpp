// Training on the pretend device and on the CPU: first passes, steps, clustering, the end of an epoch, evaluation,
// mining, checkpoints; the same numbers.
#include "pretend/training_fixture.hpp"

#include <algorithm>
#include <cmath>

#include "model/encode_pass.hpp"
#include "retrieval/retriever.hpp"

namespace vixen::pretend {
namespace {

double gap(const at::Tensor& found, const at::Tensor& expected) {
  return (found.cpu() - expected).abs().max().item<double>() / expected.abs().max().item<double>();
}

class PretendTrainingTest : public TrainingFixture {
 protected:
  // Three epochs of both side by side. Where all weights are trained the CPU has them in memory as the device does, and
  // products run over them in the same way; frozen ones it reads where the file is mapped.
  static void expect_same_training(const Config& settings) {
    const bool to_the_bit = settings.lora.rank == 0;
    const Dataset dataset(settings.data.path);
    auto found = make(settings, dataset, device()), expected = make(settings, dataset, at::kCPU);
    found->prepare();
    expected->prepare();
    if (auto* prototypes = expected->parts().prototypes.get()) {
      EXPECT_TRUE(
          found->parts().prototypes->cluster_of_label().tensor().equal(prototypes->cluster_of_label().tensor()));
      EXPECT_LT(gap(found->parts().prototypes->centroids().local(), prototypes->centroids().local()), 1e-6);
    }
    int64_t steps = 0;
    for (int64_t epoch = 0; epoch < settings.train.epochs; ++epoch) {
      const auto losses = losses_of(*found, 100), expected_losses = losses_of(*expected, 100);
      ASSERT_EQ(losses.size(), expected_losses.size());
      for (size_t i = 0; i < losses.size(); ++i, ++steps) {
        EXPECT_NEAR(losses[i], expected_losses[i], 1e-5 * expected_losses[i]) << "step " << steps;
        if (to_the_bit) {
          EXPECT_EQ(losses[i], expected_losses[i]) << "step " << steps;
        }
      }
    }
    EXPECT_GT(steps, 15);
    EXPECT_LT(gap(found->parts().store.flat_values(), expected->parts().store.flat_values()),
              to_the_bit ? 1e-30 : 1e-5);
    EXPECT_LT(gap(found->parts().bank->local().to(at::kFloat), expected->parts().bank->local().to(at::kFloat)), 1e-3);
    const auto labels = found->finish(), expected_labels = expected->finish();
    EXPECT_LT(gap(labels, expected_labels), 1e-3);
    EXPECT_EQ(ranked(*found, dataset, labels), ranked(*expected, dataset, expected_labels));
  }

  // Metrics of the test split.
  static std::map<std::string, double> ranked(Trainer& trainer, const Dataset& dataset, const at::Tensor& labels) {
    auto& parts = trainer.parts();
    EncodePassOptions options;
    options.pack = parts.pack;
    options.device = parts.comm->device();
    const RowRange all{0, dataset.test().size()};
    const auto queries = encode_rows(*parts.encoder, dataset.test(), dataset.images(), all, options);
    const auto found = Retriever(labels, IndexConfig{}, *parts.comm).retrieve(normalize_rows(queries).y, 100);
    return evaluate_predictions(found, all, dataset, parts.config, *parts.comm, nullptr);
  }
};

TEST_F(PretendTrainingTest, PrimeOfBertIsThatOfTheCpu) {
  expect_same_training(bert());
}

TEST_F(PretendTrainingTest, PrimeOfADecoderWithAdaptersIsThatOfTheCpu) {
  expect_same_training(decoder());
}

TEST_F(PretendTrainingTest, NgameIsThatOfTheCpu) {
  auto settings = bert();
  settings.train.method = Method::kNgame;
  expect_same_training(settings);
}

TEST_F(PretendTrainingTest, TripletIsThatOfTheCpu) {
  auto settings = bert();
  settings.train.method = Method::kTriplet;
  expect_same_training(settings);
}

TEST_F(PretendTrainingTest, LateFusionIsThatOfTheCpu) {
  auto settings = decoder();
  settings.model.fusion = Fusion::kLate;
  expect_same_training(settings);
}

TEST_F(PretendTrainingTest, TablesInHostMemoryChangeNothing) {
  auto settings = bert();
  settings.train.tables = TableHome::kHost;
  const Dataset dataset(settings.data.path);
  auto found = make(settings, dataset, device());
  EXPECT_TRUE(found->parts().bank->local().is_cpu());
  settings.train.tables = TableHome::kDevice;
  auto expected = make(settings, dataset, device());
  EXPECT_EQ(expected->parts().bank->local().device(), device());
  found->prepare();
  expected->prepare();
  // Nothing but the tables themselves waits for rows that come down: a loss that is looked at would.
  for (auto* trainer : {found.get(), expected.get()})
    for (int epoch = 0; epoch < 2; ++epoch) EXPECT_EQ(trainer->run_steps(100), 6);
  EXPECT_TRUE(found->parts().store.flat_values().equal(expected->parts().store.flat_values()));
  EXPECT_TRUE(found->parts().bank->local().equal(expected->parts().bank->local().cpu()));
}

TEST_F(PretendTrainingTest, MinedNegativesAreThoseOfTheCpu) {
  auto settings = bert();
  settings.mining.columns = 16;
  settings.mining.depth = 8;
  settings.mining.overlap = 2;
  expect_same_training(settings);
}

TEST_F(PretendTrainingTest, ChunksAndLayersComputedAgainChangeNothing) {
  auto settings = decoder();
  const Dataset dataset(settings.data.path);
  auto expected = make(settings, dataset, device());
  settings.train.chunks = 3;
  settings.train.recompute_layers = 2;
  auto found = make(settings, dataset, device());
  found->prepare();
  expected->prepare();
  const auto losses = losses_of(*found, 6), expected_losses = losses_of(*expected, 6);
  for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected_losses[i], 1e-5 * expected_losses[i]);
}

TEST_F(PretendTrainingTest, ARunIsTakenUpToTheBit) {
  for (const bool is_decoder : {false, true}) {
    const auto settings = is_decoder ? decoder("run-decoder") : bert("run-bert");
    const Dataset dataset(settings.data.path);
    auto straight = make(settings, dataset, device());
    straight->prepare();
    auto expected = losses_of(*straight, 4);
    for (const double loss : losses_of(*straight, 4)) expected.push_back(loss);

    auto first = make(settings, dataset, device());
    first->prepare();
    auto losses = losses_of(*first, 4);
    first->save();
    first.reset();
    auto second = make(settings, dataset, device());
    ASSERT_TRUE(second->resume());
    for (const double loss : losses_of(*second, 4)) losses.push_back(loss);
    EXPECT_EQ(losses, expected);
    EXPECT_TRUE(second->parts().store.flat_values().equal(straight->parts().store.flat_values()));

    // What the device wrote, the CPU goes on with.
    auto on_cpu = make(settings, dataset, at::kCPU);
    ASSERT_TRUE(on_cpu->resume());
    const auto more = losses_of(*on_cpu, 4);
    for (size_t i = 0; i < more.size(); ++i) EXPECT_NEAR(more[i], losses[4 + i], 1e-5 * losses[4 + i]);
  }
}

}  // namespace
}  // namespace vixen::pretend
