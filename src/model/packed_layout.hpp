// Which step a pass belongs to, and what all layers of the pass share: sequence offsets, sequences by length, and
// dropout keys.
#pragma once

#include <ATen/ATen.h>

#include <memory>

#include "kernels/dropout.hpp"
#include "kernels/packed_sequences.hpp"
#include "model/adapters/lora.hpp"

namespace vixen {

/// Which step a pass belongs to. training = false: no dropout.
struct PassContext {
  bool training = false;
  uint64_t seed = 0;
  uint64_t step = 0;
  const int64_t* device_step = nullptr;  // of recorded passes: where the device finds the step (kernels/dropout.hpp)
};

struct PackedLayout {
  at::Tensor cu_seqlens;     // int32 [n+1]
  at::Tensor sequence_keys;  // int64 [n]
  TokenKeys token_keys;      // empty when no dropout is active
  std::shared_ptr<SequenceGroups> groups;
  int64_t max_seqlen = 0;
  bool training = false;
  uint64_t seed = 0, step = 0;  // dropout
  const int64_t* device_step = nullptr;

  /// Dropout of the adapters; refers to token_keys.
  LoraDropout lora_dropout() const {
    return {.keys = &token_keys, .training = training, .seed = seed, .step = step, .device_step = device_step};
  }
};

/// host_cu_seqlens: cu_seqlens on the host, so that nothing waits for the device. has_dropout: whether anything in the
/// pass drops while training.
inline PackedLayout packed_layout(const at::Tensor& cu_seqlens, const at::Tensor& host_cu_seqlens,
                                  const at::Tensor& sequence_keys, int64_t max_seqlen, const PassContext& context,
                                  bool has_dropout) {
  PackedLayout layout;
  layout.cu_seqlens = cu_seqlens;
  layout.sequence_keys = sequence_keys;
  layout.max_seqlen = max_seqlen;
  layout.training = context.training;
  layout.seed = context.seed;
  layout.step = context.step;
  layout.device_step = context.device_step;
  layout.groups = std::make_shared<SequenceGroups>(host_cu_seqlens, sequence_keys);
  if (context.training && has_dropout)
    layout.token_keys = make_token_keys(cu_seqlens, sequence_keys, host_cu_seqlens[-1].item<int32_t>());
  return layout;
}

}  // namespace vixen
