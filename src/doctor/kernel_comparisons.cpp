// Inputs for every row of the kernel table, and one operator call a row.
#include "doctor/kernel_comparisons.hpp"

#include <limits>

#include "base/check.hpp"

#include "kernels/activation.hpp"
#include "kernels/cuda_kernels.hpp"
#include "kernels/embedding.hpp"
#include "kernels/kernel_rows.hpp"
#include "kernels/reference.hpp"

namespace vixen {

std::vector<RowFacts> kernel_row_facts() {
  return {
#define VIXEN_FACTS(row, of, Args)                                                     \
  {#row, KernelFamily::of, [](const CpuTable& table) { return table.row != nullptr; }, \
   [](const CudaTable& table) { return table.row != nullptr; }},
      VIXEN_KERNELS(VIXEN_FACTS)
#undef VIXEN_FACTS
  };
}

PackedLengths pack_lengths(const std::vector<int64_t>& lengths) {
  PackedLengths p;
  std::vector<int32_t> offsets{0};
  std::vector<int64_t> keys;
  for (const int64_t length : lengths) {
    offsets.push_back(offsets.back() + static_cast<int32_t>(length));
    keys.push_back(static_cast<int64_t>(keys.size()) * 7919 + (int64_t{1} << 33));
    p.max_seqlen = std::max(p.max_seqlen, length);
  }
  p.cu_seqlens = at::tensor(offsets, at::kInt);
  p.sequence_keys = at::tensor(keys, at::kLong);
  p.keys = make_token_keys(p.cu_seqlens, p.sequence_keys);
  p.positions = offsets.back();
  return p;
}

std::vector<int64_t> mixed_lengths(int64_t longest) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < longest; ++i) lengths.push_back((i * 17) % longest + 1);
  return lengths;
}

at::Tensor seeded_normal(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn(shape, generator).to(dtype);
}

KernelInputs::KernelInputs(at::ScalarType stored, at::Device where, uint64_t seed)
    : dtype(stored), device(where), base_seed(seed) {
  packed.cu_seqlens = packed.cu_seqlens.to(device);
  packed.sequence_keys = packed.sequence_keys.to(device);
  packed.keys = {packed.keys.sequence.to(device), packed.keys.position.to(device)};
}

std::vector<KernelComparison> kernel_comparisons() {
  using In = KernelInputs;
  using Out = std::vector<at::Tensor>;
  const auto attention = [](const In& in) {
    return reference::packed_attention(in.rows(in.qkv_width, 1), in.packed.cu_seqlens, in.packed.sequence_keys,
                                       in.shape, {});
  };
  const auto normed = [](const In& in) {
    return reference::dropout_add_norm(in.rows(in.width, 1), in.rows(in.width, 2), in.floats({in.width}, 3),
                                       in.floats({in.width}, 4), 1e-6, in.packed.keys, in.dropout());
  };
  const auto rms = [](const In& in) {
    return reference::add_rms_norm(in.rows(in.width, 1), in.rows(in.width, 2), in.floats({in.width}, 3), 1e-6);
  };
  return {
      {"attention_forward",
       [](const In& in) -> Out {
         const auto got =
             packed_attention(in.rows(in.qkv_width, 1), in.packed.cu_seqlens, in.packed.sequence_keys, in.shape, {});
         return {got.context, got.lse};
       }},
      {"attention_backward",
       [=](const In& in) -> Out {
         return {packed_attention_backward(in.rows(in.shape.heads * in.head_dim, 2), in.rows(in.qkv_width, 1),
                                           attention(in), in.packed.cu_seqlens, in.packed.sequence_keys, in.shape, {})};
       }},
      {"norm_forward",
       [](const In& in) -> Out {
         const auto got = dropout_add_norm(in.rows(in.width, 1), in.rows(in.width, 2), in.floats({in.width}, 3),
                                           in.floats({in.width}, 4), 1e-6, in.packed.keys, in.dropout());
         return {got.y, got.sum, got.stats};
       }},
      {"norm_backward",
       [=](const In& in) -> Out {
         at::Tensor weight = in.zeros({in.width}), bias = in.zeros({in.width});
         const auto got = dropout_add_norm_backward(in.rows(in.width, 5), normed(in), in.floats({in.width}, 3),
                                                    in.packed.keys, in.dropout(), weight, bias);
         return {got.x, got.residual, weight, bias};
       }},
      {"rms_forward",
       [](const In& in) -> Out {
         const auto got = add_rms_norm(in.rows(in.width, 1), in.rows(in.width, 2), in.floats({in.width}, 3), 1e-6);
         return {got.y, got.sum, got.rstd};
       }},
      {"rms_again",
       [=](const In& in) -> Out {
         const auto forward = rms(in);
         return {rms_norm_again(forward.sum, forward.rstd, in.floats({in.width}, 3))};
       }},
      {"rms_backward",
       [=](const In& in) -> Out {
         const auto forward = rms(in);
         at::Tensor weight = in.zeros({in.width});
         const auto got = add_rms_norm_backward(in.rows(in.width, 5), in.rows(in.width, 6), forward.sum, forward.rstd,
                                                in.floats({in.width}, 3), weight);
         return {got, weight};
       }},
      {"head_norm",
       [](const In& in) -> Out {
         const auto got = head_norm(in.rows(in.qkv_width, 1), in.floats({in.head_dim}, 2), in.floats({in.head_dim}, 3),
                                    1e-6, in.shape);
         return {got.qkv, got.rstd};
       }},
      {"head_norm_backward",
       [](const In& in) -> Out {
         const at::Tensor x = in.rows(in.qkv_width, 1), q = in.floats({in.head_dim}, 2),
                          k = in.floats({in.head_dim}, 3);
         const auto forward = reference::head_norm(x, q, k, 1e-6, in.shape);
         at::Tensor grad_q = in.zeros({in.head_dim}), grad_k = in.zeros({in.head_dim});
         const auto got = head_norm_backward(in.rows(in.qkv_width, 4), x, forward.rstd, q, k, in.shape, grad_q, grad_k);
         return {got, grad_q, grad_k};
       }},
      {"dropout",
       [](const In& in) -> Out { return {vixen::apply_dropout(in.rows(in.width, 1), in.packed.keys, in.dropout())}; }},
      {"rope",
       [](const In& in) -> Out {
         at::Tensor qkv = in.rows(in.qkv_width, 1);
         const at::Tensor angles = in.floats({12, in.head_dim / 2}, 2);
         apply_rope(qkv, in.packed.keys.position.to(at::kLong), at::cat({angles.cos(), angles.sin()}, 1), in.shape,
                    false);
         return {qkv};
       }},
      {"swiglu", [](const In& in) -> Out { return {vixen::swiglu(in.rows(2 * in.width, 1))}; }},
      {"swiglu_backward",
       [](const In& in) -> Out { return {vixen::swiglu_backward(in.rows(in.width, 2), in.rows(2 * in.width, 1))}; }},
      {"gelu", [](const In& in) -> Out { return {vixen::gelu(in.rows(in.width, 1))}; }},
      {"gelu_backward",
       [](const In& in) -> Out { return {vixen::gelu_backward(in.rows(in.width, 2), in.rows(in.width, 1))}; }},
      {"column_sums",
       [](const In& in) -> Out {
         at::Tensor bias = in.floats({in.width}, 2);
         accumulate_bias_gradient(in.rows(in.width, 1), bias);
         return {bias};
       }},
      {"embed_positions",
       [](const In& in) -> Out {
         const at::Tensor images = at::arange(2, at::kLong).to(in.device);
         const at::Tensor word = in.floats({50, in.width}, 1).to(in.dtype == at::kDouble ? at::kDouble : at::kFloat);
         return {embed_positions(in.ids(50), in.packed.keys.position.to(at::kLong), word, in.floats({12, in.width}, 2),
                                 in.floats({in.width}, 3), in.floats({2, in.width}, 4).to(word.scalar_type()), images,
                                 in.dtype)};
       }},
      {"embed_tokens",
       [](const In& in) -> Out {
         return {embed_tokens(in.ids(50), in.floats({50, in.width}, 1).to(in.dtype), {}, {}, in.dtype)};
       }},
      {"segment_sums",
       [](const In& in) -> Out {
         at::Tensor word = in.floats({50, in.width}, 2);
         return {embed_tokens_backward(in.rows(in.width, 1), in.ids(50), {}, word), word};
       }},
      {"mean_pool", [](const In& in) -> Out { return {vixen::mean_pool(in.rows(in.width, 1), in.packed.cu_seqlens)}; }},
      {"mean_pool_backward",
       [](const In& in) -> Out {
         const at::Tensor grad = in.floats({in.packed.sequence_keys.numel(), in.width}, 1)
                                     .to(in.dtype == at::kDouble ? at::kDouble : at::kFloat);
         return {vixen::mean_pool_backward(grad, in.packed.cu_seqlens, in.packed.positions, in.dtype)};
       }},
  };
}

double kernel_difference(const at::Tensor& got, const at::Tensor& want) {
  VIXEN_CHECK(got.sizes() == want.sizes(), "a result of another shape");
  if (want.numel() == 0) return 0;
  const at::Tensor g = got.cpu().to(at::kDouble), w = want.cpu().to(at::kDouble);
  if (!g.isfinite().all().item<bool>()) return std::numeric_limits<double>::infinity();
  return ((g - w).abs().max() / w.abs().max().clamp_min(1e-30)).item<double>();
}

double kernel_tolerance(at::ScalarType dtype) {
  return dtype == at::kFloat ? 3e-6 : 8e-3;
}

ScopedChoices::ScopedChoices(KernelFamily family, KernelChoice own, KernelChoice others) {
  for (const KernelFamilyKey& row : kKernelFamilies) before_.*row.choice = kernel_choice(row.family);
  KernelsConfig choices;
  for (const KernelFamilyKey& row : kKernelFamilies) choices.*row.choice = row.family == family ? own : others;
  set_kernel_choices(choices);
}

ScopedChoices::~ScopedChoices() {
  set_kernel_choices(before_);
}

std::vector<KernelDifference> compare_kernel(const KernelComparison& comparison, KernelFamily family,
                                             const KernelInputs& in) {
  std::vector<at::Tensor> want, got;
  {
    const ScopedChoices choices(family, KernelChoice::kReference);
    want = comparison.run(in);
  }
  {
    const ScopedChoices choices(family, KernelChoice::kFused);
    got = comparison.run(in);
  }
  VIXEN_CHECK(got.size() == want.size() && !want.empty(), "{}: {} results, {} of the reference", comparison.row,
              got.size(), want.size());
  std::vector<KernelDifference> differences;
  for (size_t i = 0; i < want.size(); ++i)
    differences.push_back({got[i].scalar_type() == want[i].scalar_type(), kernel_difference(got[i], want[i])});
  return differences;
}

}  // namespace vixen
