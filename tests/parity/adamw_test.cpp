// AdamW over 20 steps, its groups and its schedule, against torch.optim.AdamW and transformers.
#include <map>

#include "model/parameters.hpp"
#include "parity/golden.hpp"
#include "train/optimiser.hpp"

namespace vixen {
namespace {

using testing::golden_path;
using testing::relative_difference;

const std::map<std::string, ParameterGroup> kGroups = {
    {"backbone", ParameterGroup::kBackbone},   {"backbone_no_decay", ParameterGroup::kBackboneNoDecay},
    {"prototype", ParameterGroup::kPrototype}, {"prototype_no_decay", ParameterGroup::kPrototypeNoDecay},
    {"image", ParameterGroup::kImage},         {"image_no_decay", ParameterGroup::kImageNoDecay},
};

TrainConfig golden_config(const SafetensorsFile& golden) {
  TrainConfig config;
  config.lr = golden.tensor("backbone.lr").item<double>();
  config.prototype_lr = golden.tensor("prototype.lr").item<double>();
  config.image_lr = golden.tensor("image.lr").item<double>();
  config.warmup_steps = golden.tensor("warmup").item<int64_t>();
  return config;
}

TEST(Schedule, LinearWarmUpAndDecay) {
  const SafetensorsFile golden(golden_path("adamw.safetensors"));
  const int64_t steps = golden.tensor("steps").item<int64_t>(), warmup = golden.tensor("warmup").item<int64_t>();
  for (int64_t step = 0; step < steps; ++step)
    EXPECT_NEAR(lr_factor(step, warmup, steps), golden.tensor("factors")[step].item<double>(), 1e-7) << step;
}

TEST(AdamW, TwentyStepsAsTorch) {
  const SafetensorsFile golden(golden_path("adamw.safetensors"));
  const TrainConfig config = golden_config(golden);
  const int64_t steps = golden.tensor("steps").item<int64_t>();
  ParameterStore store;
  for (const auto& [name, group] : kGroups) store.add(name, golden.tensor(name + ".start").sizes().vec(), group);
  store.allocate(at::kCPU, at::kFloat);
  for (int i = 0; i < store.count(); ++i) store.value(i).copy_(golden.tensor(store.info(i).name + ".start"));
  const at::Tensor table = golden.tensor("table.start").clone();
  AdamW optimiser(config, store, table);
  for (int64_t step = 0; step < steps; ++step) {
    for (int i = 0; i < store.count(); ++i) store.grad(i).copy_(golden.tensor(store.info(i).name + ".grads")[step]);
    optimiser.step(lr_factor(step, config.warmup_steps, steps), golden.tensor("table.grads")[step], {});
    const std::string after = ".after_" + std::to_string(step + 1);
    if (!golden.contains("table" + after)) continue;
    for (int i = 0; i < store.count(); ++i)
      EXPECT_LE(relative_difference(store.value(i), golden.tensor(store.info(i).name + after)), 1e-6)
          << store.info(i).name << after;
    EXPECT_LE(relative_difference(table, golden.tensor("table" + after)), 1e-6) << after;
  }
  EXPECT_EQ(optimiser.steps_done(), steps);
}

// grad_scale multiplies gradients: doubled gradients with a scale of one half are the same update.
TEST(AdamW, GradScale) {
  const SafetensorsFile golden(golden_path("adamw.safetensors"));
  const TrainConfig config = golden_config(golden);
  const auto run = [&](double factor, const at::Tensor& scale) {
    ParameterStore store;
    store.add("backbone", golden.tensor("backbone.start").sizes().vec(), ParameterGroup::kBackbone);
    store.allocate(at::kCPU, at::kFloat);
    store.value(0).copy_(golden.tensor("backbone.start"));
    const at::Tensor table = golden.tensor("table.start").clone();
    AdamW optimiser(config, store, table);
    for (int64_t step = 0; step < 3; ++step) {
      store.grad(0).copy_(golden.tensor("backbone.grads")[step] * factor);
      optimiser.step(1, golden.tensor("table.grads")[step] * factor, scale);
    }
    return std::pair(store.value(0).clone(), table);
  };
  const auto [plain, plain_table] = run(1, {});
  const auto [scaled, scaled_table] = run(2, at::scalar_tensor(0.5, at::kFloat));
  EXPECT_LE(relative_difference(scaled, plain), 1e-6);
  EXPECT_LE(relative_difference(scaled_table, plain_table), 1e-6);
}

}  // namespace
}  // namespace vixen
