// Ranks that each have a pretend device against the same ranks on their CPUs: the same numbers, and steps in which no
// rank waits for its device, or for the host of another.
#include <optional>

#include "mpi/trainer_fixture.hpp"
#include "pretend/reference_kernels.hpp"
#include "pretend/staged_communicator.hpp"
#include "pretend/waited_host.hpp"

namespace vixen::pretend {
namespace {

using test::losses_of;

// The ranks of the job, each on its pretend device.
std::shared_ptr<StagedCommunicator> staged_world() {
  return std::make_shared<StagedCommunicator>(std::make_shared<WaitedHost>(test::world()));
}

class PretendRanksTest : public test::TrainerFixture {
 protected:
  void SetUp() override {
    device();
    use_reference_kernels();
    take_faults();
  }
  void TearDown() override { EXPECT_EQ(text_of(take_faults()), ""); }

  static std::unique_ptr<Trainer> on_devices(const Config& config, const Dataset& dataset) {
    const auto comm = staged_world();
    return std::make_unique<Trainer>(config, dataset, label_weights(config, dataset, *comm), comm);
  }

  static void expect_same_training(Config settings) {
    settings.train.epochs = 2;
    settings.train.batch_size = 375;  // 4 steps an epoch
    const Dataset dataset(settings.data.path);
    auto found = on_devices(settings, dataset);
    auto expected = make(settings, dataset, false);
    found->prepare();
    expected->prepare();
    if (expected->parts().prototypes) {
      EXPECT_TRUE(found->parts().prototypes->cluster_of_label().tensor().equal(
          expected->parts().prototypes->cluster_of_label().tensor()));
    }
    for (int epoch = 0; epoch < 2; ++epoch) {
      std::vector<at::Tensor> losses;
      // From the first step on: before it, the ranks make the order of the epoch.
      std::optional<InStep> steps;
      found->run_steps(3, [&](const StepResult& result) {
        losses.push_back(result.loss);
        if (!steps) steps.emplace();
      });
      steps.reset();
      found->run_steps(1, [&](const StepResult& result) { losses.push_back(result.loss); });
      const auto expected_losses = losses_of(*expected, 4);
      for (size_t i = 0; i < losses.size(); ++i) {
        EXPECT_NEAR(losses[i].item<double>(), expected_losses[i], 1e-5 * expected_losses[i]) << epoch << ", " << i;
        if (settings.lora.rank == 0) {
          EXPECT_EQ(losses[i].item<double>(), expected_losses[i]) << epoch << ", " << i;
        }
      }
    }
    EXPECT_LT(test::relative_gap(found->parts().store.flat_values().cpu(), expected->parts().store.flat_values()),
              1e-5);
    const auto labels = found->finish().cpu(), expected_labels = expected->finish();
    EXPECT_LT(test::relative_gap(labels, expected_labels), 1e-3);
  }
};

TEST_F(PretendRanksTest, BertTrainsAsOnCpus) {
  expect_same_training(config());
}

TEST_F(PretendRanksTest, ADecoderWithAdaptersTrainsAsOnCpus) {
  auto settings = lora_config();
  settings.train.objective = ObjectiveWay::kSharded;
  expect_same_training(settings);
}

TEST_F(PretendRanksTest, GradientsThatTravelInBfloat16AreInOrder) {
  auto settings = config();
  settings.comm.gradients = GradientSums::kBf16;
  settings.comm.bucket_mb = 0.02;
  expect_same_training(settings);
}

// The collectives themselves, and what they find out.
TEST_F(PretendRanksTest, AWaitForAnotherHostIsFound) {
  const auto staged = staged_world();
  {
    const InStep step;
    staged->max_host_async(1)->get();
    EXPECT_EQ(text_of(take_faults()), "");
    staged->max_host(int64_t{1});
  }
  const auto faults = take_faults();
  ASSERT_EQ(faults.size(), 1U) << text_of(faults);
  EXPECT_NE(faults[0].what.find("max_host waits"), std::string::npos) << text_of(faults);
}

TEST_F(PretendRanksTest, ASumThatIsTouchedBeforeItEndsIsFound) {
  const auto staged = staged_world();
  auto& comm = *staged;
  auto tensor = at::ones({5000}, at::dtype(at::kFloat).device(device()));
  auto sum = comm.all_reduce_sum_async(tensor);
  sum->wait();
  EXPECT_TRUE(tensor.eq(comm.world_size()).all().item<bool>());
  sum = comm.all_reduce_sum_async(tensor);
  tensor + 1;
  const auto faults = take_faults();
  ASSERT_EQ(faults.size(), 1U) << text_of(faults);
  EXPECT_NE(faults[0].what.find("all_reduce_sum_async"), std::string::npos) << text_of(faults);
  sum->wait();
  tensor + 1;
}

}  // namespace
}  // namespace vixen::pretend
