// Whole steps in bfloat16 against goldens of PyTorch autograd in float64: on a GPU, through its kernels; with
// VIXEN_TEST_DEVICE=cpu on the CPU.
#include <cstdlib>
#include <string>

#include "device/device.hpp"
#include "parity/golden_step.hpp"

namespace vixen {
namespace {

// Of the largest element of a gradient: values are rounded to 8 bits on their way. A CPU comes to 0.062, at the norm of
// query heads of Qwen3, whose eight elements are sums over all positions.
constexpr double kTolerance = 0.1;

class GoldenSteps : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const char* wish = std::getenv("VIXEN_TEST_DEVICE");
    const bool cpu = wish != nullptr && std::string(wish) == "cpu";
    if (!cpu && gpu_count() == 0) GTEST_SKIP() << "no GPU";
    device_ = select_device(cpu ? DeviceKind::kCpu : DeviceKind::kCuda, 0);
  }
  void expect_step(const std::string& golden, EncoderOptions options) const {
    options.model.compute = Compute::kBfloat16;
    testing::expect_step_as_autograd(SafetensorsFile(testing::golden_path(golden + "_step.safetensors")), options,
                                     kTolerance, device_);
  }
  at::Device device_ = at::kCPU;
};

TEST_P(GoldenSteps, AllWeights) {
  EncoderOptions options;
  options.model.path = testing::golden_path(GetParam()).string();
  const std::string name = GetParam();
  expect_step(name.find("bert") == name.npos ? name + "_full" : name, options);
}

TEST_P(GoldenSteps, Adapters) {
  EncoderOptions options;
  options.model.path = testing::golden_path(GetParam()).string();
  options.lora.adapter = (testing::golden_path(GetParam()) / "adapter").string();
  expect_step(std::string(GetParam()) + "_lora", options);
}

INSTANTIATE_TEST_SUITE_P(Gpu, GoldenSteps,
                         ::testing::Values("tiny_bert", "tiny_distilbert", "tiny_qwen2", "tiny_qwen3"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace vixen
