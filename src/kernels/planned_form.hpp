// Which form of a kernel runs on a device that need not be at hand: what plans ask of kernels begins here.
#pragma once

#include <cstdint>

#include "kernels/choice.hpp"
#include "kernels/cuda_forms.hpp"
#include "kernels/kernel_rows.hpp"
#include "kernels/packed_attention.hpp"

namespace vixen {

class PlannedForm {
 public:
  /// cpu: all kernels are fused there. dtype: of activations, float32 or bfloat16. What runs on another device is as
  /// kernels.* and the list of CUDA forms say, in builds without CUDA too.
  PlannedForm(bool cpu, at::ScalarType dtype) : cpu_(cpu), dtype_(dtype) {}

  at::ScalarType dtype() const { return dtype_; }

 protected:
  /// fits: whether the CUDA form has room for what it is given.
  template <class Args>
  bool is_reference(const KernelRow<Args>& row, bool fits = true) const {
    return !cpu_ && (!has_cuda_form(row.name) || !fits || kernel_choice(row.family) == KernelChoice::kReference);
  }
  AttentionForm attention_form_of(int64_t head_dim, const AttentionShape& shape, bool drops) const {
    if (cpu_) return AttentionForm::kFused;
    if (kernel_choice(KernelFamily::kAttention) == KernelChoice::kReference) return AttentionForm::kReference;
    return cuda_attention_form(dtype_, head_dim, shape, drops);
  }
  bool is_cpu() const { return cpu_; }
  /// Of elements that take so many bytes each, by dtype.
  int64_t bytes(int64_t elements, int64_t in_float, int64_t in_bfloat16) const {
    return elements * (dtype_ == at::kFloat ? in_float : in_bfloat16);
  }

 private:
  bool cpu_;
  at::ScalarType dtype_;
};

}  // namespace vixen
