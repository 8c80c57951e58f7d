// What the dispatchers of the fused CPU kernels share: when a tensor may take them, and how ranges are split.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/check.hpp"
#include "base/random.hpp"
#include "kernels/choice.hpp"
#include "kernels/cpu_kernels.hpp"
#include "kernels/dropout.hpp"

namespace vixen {

/// Whether the fused CPU kernel runs on x. Asked for by name where there is none: the user's mistake.
inline bool use_fused(const at::Tensor& x, KernelChoice choice, const char* key) {
  const bool exists = x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
  if (choice == KernelChoice::kFused && !exists)
    fail_user("{} = fused: no fused kernel for {} on {}; use auto or reference", key, c10::toString(x.scalar_type()),
              x.device().str());
  return exists && choice != KernelChoice::kReference;
}

inline Storage storage_of(at::ScalarType dtype) {
  VIXEN_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "{} is no storage of activations", c10::toString(dtype));
  return dtype == at::kFloat ? Storage::kFloat32 : Storage::kBfloat16;
}

inline DropoutKey dropout_key(const Dropout& dropout) {
  if (!dropout.active()) return {};
  VIXEN_CHECK(dropout.p < 1 && dropout.site < 65536, "dropout p {} at site {}", dropout.p, dropout.site);
  DropoutKey key;
  key.threshold = dropout.threshold();
  key.scale = static_cast<float>(1.0 / (1.0 - dropout.p));
  key.key0 = static_cast<uint32_t>(dropout.seed);
  key.key1 = static_cast<uint32_t>(dropout.seed >> 32) ^ static_cast<uint32_t>(RandomStream::kDropout);
  key.step = static_cast<uint32_t>(dropout.step);
  key.site = dropout.site;
  return key;
}

inline RowKeys row_keys(const TokenKeys& keys, const Dropout& dropout) {
  if (!dropout.active()) return {};
  VIXEN_CHECK(keys.sequence.is_contiguous() && keys.position.is_contiguous(), "token keys must be contiguous");
  return {keys.sequence.const_data_ptr<int64_t>(), keys.position.const_data_ptr<int32_t>()};
}

/// Rows that one chunk of a reduction over `rows` holds: a function of rows alone, so that the sums do not depend on
/// the number of threads. At most 64 chunks.
inline int64_t rows_per_chunk(int64_t rows) {
  return std::max<int64_t>(32, (rows + 63) / 64);
}
inline int64_t chunk_count(int64_t rows) {
  return (rows + rows_per_chunk(rows) - 1) / rows_per_chunk(rows);
}

/// Adds the chunks' sums [chunks, targets * D] to the float32 targets [D] in turn, chunk after chunk.
inline void add_in_order(const at::Tensor& partials, std::initializer_list<at::Tensor> targets) {
  const float* source = partials.const_data_ptr<float>();
  const int64_t stride = partials.size(1);
  for (const at::Tensor& target : targets) {
    VIXEN_CHECK(target.scalar_type() == at::kFloat && target.is_contiguous(), "sums go to contiguous float32");
    float* out = target.mutable_data_ptr<float>();
    const int64_t width = target.numel();
    for (int64_t chunk = 0; chunk < partials.size(0); ++chunk)
      for (int64_t c = 0; c < width; ++c) out[c] += source[chunk * stride + c];
    source += width;
  }
}

/// kernel(args, begin, end) over 0 .. count, split over ATen's threads; no piece smaller than `grain`.
template <class Args>
void run_ranges(void (*kernel)(const Args&, int64_t, int64_t), const Args& args, int64_t count, int64_t grain) {
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

}  // namespace vixen
