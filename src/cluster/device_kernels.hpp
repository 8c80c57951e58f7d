// What balanced 2-means does with rows on a device: checks, and the choice of kernels.clusters between CUDA forms and
// references. All of it is exact but for the norms of unit_rows, so that every form gives the same bits.
//   n rows of a table, m rows of a list, D columns, k slots (sets that the listed rows belong to)
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "cluster/device_table.hpp"

namespace vixen::two_means {

/// rows [n, D] float32 or float16, any norm, on any device -> float32 unit rows on the grid into `out` [n, D],
/// contiguous, on its device; `out` may be `rows`. Zero rows stay zero.
void unit_rows(const at::Tensor& rows, at::Tensor& out);

/// x[rows[i]] . differences[slots[i]] -> float32 [m]. x float32 [n, D] and differences float64 [k, D] on the grid;
/// rows, slots int64 [m]; one device.
at::Tensor row_scores(const at::Tensor& x, const at::Tensor& rows, const at::Tensor& slots,
                      const at::Tensor& differences);

/// sums[slots[i]] += signs[i] x[rows[i]]. sums float64 [k, D]; rows int64 [m], signs float64 [m] (1 or -1) on the
/// device of x; slots int64 [m] in host memory, those of one slot together.
void add_rows(const at::Tensor& x, const at::Tensor& rows, const at::Tensor& slots, const at::Tensor& signs,
              at::Tensor& sums);

/// Bytes that row_scores and add_rows take over a list of m rows, whose slots are at most as many, at their fullest:
/// copies of rows, differences or sums, and what is made of them. By the form that runs on a device that is no CPU.
int64_t list_bytes(int64_t m, int64_t width);

/// For tests: 2-means' kernels of the device that lend_kernels (kernels/cuda_kernels.hpp) names; null: none. Not
/// thread-safe.
void lend_cluster_kernels(const ClusterTable* table);

namespace reference {

// The same in ATen operations.
void unit_rows(const at::Tensor& rows, at::Tensor& out);
at::Tensor row_scores(const at::Tensor& x, const at::Tensor& rows, const at::Tensor& slots,
                      const at::Tensor& differences);
void add_rows(const at::Tensor& x, const at::Tensor& rows, const at::Tensor& slots, const at::Tensor& signs,
              at::Tensor& sums);

}  // namespace reference
}  // namespace vixen::two_means
