// Loss and every gradient of a whole step of BERT and DistilBERT against PyTorch autograd.
#include "parity/golden_step.hpp"

namespace vixen {
namespace {

class FullStep : public ::testing::TestWithParam<const char*> {};

TEST_P(FullStep, GradientsAsAutograd) {
  EncoderOptions options;
  options.model.path = testing::golden_path(GetParam()).string();
  const SafetensorsFile golden(testing::golden_path(std::string(GetParam()) + "_step.safetensors"));
  testing::expect_step_as_autograd(golden, options, 1e-5);
}

// Pictures behind the pooling: the block is a torch.nn.TransformerEncoderLayer over text and pictures.
TEST_P(FullStep, LateFusionAsAutograd) {
  EncoderOptions options;
  options.model.path = testing::golden_path(GetParam()).string();
  options.model.fusion = Fusion::kLate;
  const SafetensorsFile golden(testing::golden_path(std::string(GetParam()) + "_late_step.safetensors"));
  options.model.fusion_heads = golden.tensor("fusion_heads").item<int64_t>();
  testing::expect_step_as_autograd(golden, options, 1e-5);
}

// Adapters beside a frozen encoder.
TEST_P(FullStep, AdaptersAsPeft) {
  EncoderOptions options;
  options.model.path = testing::golden_path(GetParam()).string();
  options.lora.adapter = (testing::golden_path(GetParam()) / "adapter").string();
  const SafetensorsFile golden(testing::golden_path(std::string(GetParam()) + "_lora_step.safetensors"));
  testing::expect_step_as_autograd(golden, options, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Parity, FullStep, ::testing::Values("tiny_bert", "tiny_distilbert"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace vixen
