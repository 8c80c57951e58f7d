// The PRIME objective (docs/algorithm.md section 4): loss and explicit gradients with respect to the unit rows q, u, z
// of the whole batch. A pure function over ATen, no communication, no autograd; every rank computes the same.
#pragma once

#include <ATen/core/Tensor.h>

#include "config/config.hpp"

namespace vixen {

/// Positives drawn for the terms, int64 [B], computed with the batch plan: columns for u, uv and r; for i the drawn
/// *query* of each label column.
struct LossDraws {
  at::Tensor u, i, uv, r;
};

struct ObjectiveResult {
  at::Tensor loss;                             // float32 scalar on the device: the total
  at::Tensor loss_u, loss_uv, loss_i, loss_r;  // unweighted terms (undefined when the method has none)
  at::Tensor grad_q, grad_u, grad_z;           // float32 [B, D]; grad_z undefined without prototypes
};

/// q, u, z float32 (or float64 for tests) [B, D] unit rows (z undefined for the methods ngame and triplet); positives
/// bool [B, B]: Y[i, j] = label column j is relevant to query row i.
ObjectiveResult objective(const at::Tensor& q, const at::Tensor& u, const at::Tensor& z, const at::Tensor& positives,
                          const LossDraws& draws, Method method, const LossConfig& config);

}  // namespace vixen
