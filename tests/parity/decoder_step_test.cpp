// Loss and every gradient of a whole step of decoders against transformers, PEFT and PyTorch autograd: of A and B of
// every adapter, or of every weight, of the image projection, the prototypes and the free vectors.
#include "parity/golden_step.hpp"

namespace vixen {
namespace {

struct Step {
  const char* golden;
  const char* model;
  bool adapter = true;  // false: the whole backbone is trained
  Pooling pooling = Pooling::kMean;
  Mask mask = Mask::kAuto;
};

void PrintTo(const Step& step, std::ostream* out) {
  *out << step.golden;
}

class DecoderStep : public ::testing::TestWithParam<Step> {};

TEST_P(DecoderStep, GradientsAsAutograd) {
  EncoderOptions options;
  const auto folder = testing::golden_path(GetParam().model);
  options.model.path = folder.string();
  options.model.pooling = GetParam().pooling;
  options.model.mask = GetParam().mask;
  if (GetParam().adapter) options.lora.adapter = (folder / "adapter").string();
  const SafetensorsFile golden(testing::golden_path(std::string(GetParam().golden) + "_step.safetensors"));
  testing::expect_step_as_autograd(golden, options, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Parity, DecoderStep,
                         ::testing::Values(Step{"tiny_qwen2_lora", "tiny_qwen2"},
                                           Step{"tiny_qwen2_full", "tiny_qwen2", false},
                                           Step{"tiny_llama3_lora", "tiny_llama3"},
                                           Step{"tiny_qwen3_lora", "tiny_qwen3"},
                                           Step{"tiny_qwen3_full", "tiny_qwen3", false},
                                           Step{"tiny_mistral_lora_last", "tiny_mistral", true, Pooling::kLastToken},
                                           Step{"tiny_smollm_lora_bidirectional", "tiny_smollm", true, Pooling::kMean,
                                                Mask::kBidirectional}),
                         [](const auto& test) { return std::string(test.param.golden); });

}  // namespace
}  // namespace vixen
