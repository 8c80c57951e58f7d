// What the dispatchers share: which form of a kernel runs on a tensor, and how its work is split.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/check.hpp"
#include "base/random.hpp"
#include "kernels/choice.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/cuda_kernels.hpp"
#include "kernels/dropout.hpp"
#include "kernels/kernel_rows.hpp"

namespace vixen {

/// A fused kernel ready to run, or nothing: then the reference is to run.
template <class Args>
class FusedKernel {
 public:
  FusedKernel() = default;
  FusedKernel(const KernelRow<Args>& row, at::Device device) : name_(row.name), device_(device) {
    if (device.is_cpu())
      cpu_ = cpu_kernels().table.*row.cpu;
    else
      cuda_ = device_kernels(device).*row.cuda;
  }
  explicit operator bool() const { return cpu_ != nullptr || cuda_ != nullptr; }
  /// The form for CPUs, for callers that split its work themselves; null on other devices.
  CpuFunction<Args> cpu() const { return cpu_; }

  /// All `count` items: over ATen's threads, no piece smaller than `grain`, or on the device's current stream.
  void run(const Args& args, int64_t count, int64_t grain) const {
    if (cpu_) {
      at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { cpu_(args, begin, end); });
    } else {
      // By value: a recording keeps it.
      launch_on_device(device_, name_,
                       [args, count, run = cuda_](CUstream_st* stream) { return run(args, count, stream); });
    }
  }

 private:
  const char* name_ = "";
  at::Device device_ = at::kCPU;
  CpuFunction<Args> cpu_ = nullptr;
  CudaFunction<Args> cuda_ = nullptr;
};

/// The form of `row` that runs on `device`, as its family's key says; nothing: the reference. `fits`: whether the fused
/// kernels take these operands. A UserError where the key asks for a fused kernel and there is none for them.
template <class Args>
FusedKernel<Args> fused_kernel(const KernelRow<Args>& row, at::Device device, at::ScalarType dtype, bool fits) {
  const KernelChoice choice = kernel_choice(row.family);
  const FusedKernel<Args> kernel(row, device);
  if (choice != KernelChoice::kReference && kernel && fits) return kernel;
  if (choice == KernelChoice::kFused)
    fail_user("{} = fused: no fused {} for {} on {}; use auto or reference", key_of(row.family), row.name,
              c10::toString(dtype), device.str());
  refuse_reference(row.name, row.family);
  return {};
}

/// The same for activations x, float32 or bfloat16, and what else must hold.
template <class Args>
FusedKernel<Args> fused_kernel(const KernelRow<Args>& row, const at::Tensor& x, bool fits = true) {
  const bool stored = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return fused_kernel(row, x.device(), x.scalar_type(), stored && fits);
}

inline Storage storage_of(at::ScalarType dtype) {
  VIXEN_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "{} is no storage of activations", c10::toString(dtype));
  return dtype == at::kFloat ? Storage::kFloat32 : Storage::kBfloat16;
}

/// The data of a contiguous float32 tensor; null when it is undefined.
inline const float* floats_of(const at::Tensor& weight) {
  if (!weight.defined()) return nullptr;
  VIXEN_CHECK(weight.scalar_type() == at::kFloat && weight.is_contiguous(), "weights must be contiguous float32");
  return weight.const_data_ptr<float>();
}

inline const void* data_or_null(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr() : nullptr;
}

inline at::Tensor contiguous_or_none(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.contiguous() : tensor;
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
  key.device_step = dropout.device_step;
  key.site = dropout.site;
  return key;
}

inline RowKeys row_keys(const TokenKeys& keys, const Dropout& dropout) {
  if (!dropout.active()) return {};
  VIXEN_CHECK(keys.sequence.is_contiguous() && keys.position.is_contiguous(), "token keys must be contiguous");
  return {keys.sequence.const_data_ptr<int64_t>(), keys.position.const_data_ptr<int32_t>()};
}

/// Ids int64 of a CPU tensor must be rows of a table of `rows`: the fused kernels do not look. On a GPU they are not
/// looked at, which would wait for it.
inline void check_ids(const at::Tensor& ids, int64_t rows, const char* what) {
  if (!ids.is_cpu()) return;
  const int64_t* id = ids.const_data_ptr<int64_t>();
  for (int64_t t = 0; t < ids.numel(); ++t)
    VIXEN_CHECK(id[t] >= 0 && id[t] < rows, "{} {} of {} in row {}", what, id[t], rows, t);
}

/// Rows that one chunk of a reduction over `rows` holds: a function of rows and the kind of device, so that the sums do
/// not depend on the number of threads. At most 64 chunks on a CPU; 512 on a GPU, where a chunk is a block and all
/// multiprocessors want some.
inline int64_t rows_per_chunk(int64_t rows, at::Device device = at::kCPU) {
  const int64_t least = device.is_cpu() ? 32 : 8, most_chunks = device.is_cpu() ? 64 : 512;
  return std::max(least, (rows + most_chunks - 1) / most_chunks);
}
inline int64_t chunk_count(int64_t rows, at::Device device = at::kCPU) {
  return (rows + rows_per_chunk(rows, device) - 1) / rows_per_chunk(rows, device);
}

/// Adds the chunks' sums [chunks, targets * D] to the float32 targets [D] in turn, chunk after chunk on a CPU, in
/// ATen's fixed order elsewhere.
inline void add_in_order(const at::Tensor& partials, std::initializer_list<at::Tensor> targets) {
  int64_t first = 0;
  for (at::Tensor target : targets) {
    VIXEN_CHECK(target.scalar_type() == at::kFloat && target.is_contiguous(), "sums go to contiguous float32");
    const int64_t width = target.numel();
    const at::Tensor sums = partials.narrow(1, first, width);
    first += width;
    if (!partials.is_cpu()) {
      target.view(-1).add_(sums.sum(0));
      continue;
    }
    float* out = target.mutable_data_ptr<float>();
    const float* source = sums.const_data_ptr<float>();
    for (int64_t chunk = 0; chunk < partials.size(0); ++chunk)
      for (int64_t c = 0; c < width; ++c) out[c] += source[chunk * partials.size(1) + c];
  }
}

}  // namespace vixen
