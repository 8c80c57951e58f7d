// Layer norm fused with its neighbours in a post-norm transformer: y = LN(dropout(x) + residual).
//   x, residual, y [T, D] float32 or bfloat16; statistics, weights and their gradients float32.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dropout.hpp"

namespace vixen {

struct NormResult {
  at::Tensor y;      // [T, D]
  at::Tensor sum;    // [T, D]: dropout(x) + residual, what was normalised (x itself when there is neither)
  at::Tensor stats;  // float32 [T, 2]: mean and 1 / sqrt(variance + eps)
};

/// Bytes of `stats` for T positions.
constexpr int64_t norm_statistics_bytes(int64_t positions) {
  return 2 * int64_t{sizeof(float)} * positions;
}

/// residual may be undefined (plain dropout + norm). keys may be empty when dropout is not active.
NormResult dropout_add_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                            const at::Tensor& bias, double eps, const TokenKeys& keys, const Dropout& dropout);

struct NormGradient {
  at::Tensor x;         // [T, D]: through the dropout
  at::Tensor residual;  // [T, D]: gradient of the sum; the same tensor as x when no dropout is active
};
/// Adds to grad_weight and grad_bias (float32 [D]). Reduction over T in a fixed order (same result for every thread
/// count).
NormGradient dropout_add_norm_backward(const at::Tensor& grad_y, const NormResult& forward, const at::Tensor& weight,
                                       const TokenKeys& keys, const Dropout& dropout, at::Tensor grad_weight,
                                       at::Tensor grad_bias);

/// Dropout AFTER the norm, as the embedding layer of BERT has it: y = dropout(LN(x)). Same result struct (sum = x).
NormResult norm_dropout(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                        const TokenKeys& keys, const Dropout& dropout);
/// Returns the gradient of x; adds to grad_weight and grad_bias.
at::Tensor norm_dropout_backward(const at::Tensor& grad_y, const NormResult& forward, const at::Tensor& weight,
                                 const TokenKeys& keys, const Dropout& dropout, at::Tensor grad_weight,
                                 at::Tensor grad_bias);

}  // namespace vixen
