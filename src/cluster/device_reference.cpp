// 2-means' arithmetic on a device in ATen operations: what the kernels are held to.
#include <ATen/ATen.h>

#include <algorithm>
#include <bit>

#include "cluster/device_kernels.hpp"

namespace vixen::two_means::reference {
namespace {

// Values treated at a time: bounds the float64 temporaries.
constexpr int64_t kChunkValues = int64_t{1} << 22;

}  // namespace

void unit_rows(const at::Tensor& rows, at::Tensor& out) {
  const int64_t n = rows.size(0), width = rows.size(1);
  const auto padded = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(width)));
  const int64_t chunk = std::max<int64_t>(1, kChunkValues / width);
  for (int64_t begin = 0; begin < n; begin += chunk) {
    const int64_t length = std::min(chunk, n - begin);
    const at::Tensor values = rows.narrow(0, begin, length).to(out.device()).to(at::kDouble);
    at::Tensor sum = at::constant_pad_nd(values * values, {0, padded - width});
    for (int64_t half = padded / 2; half >= 1; half /= 2) sum = sum.narrow(1, 0, half) + sum.narrow(1, half, half);
    const at::Tensor norm = sum.sqrt();
    at::Tensor unit = at::where(norm == 0, at::zeros_like(values), values / norm);
    unit = (unit + 0x1.8p28) - 0x1.8p28;
    out.narrow(0, begin, length).copy_(unit);
  }
}

at::Tensor row_scores(const at::Tensor& x, const at::Tensor& rows, const at::Tensor& slots,
                      const at::Tensor& differences) {
  at::Tensor product = x.index_select(0, rows).to(at::kDouble);
  product.mul_(differences.index_select(0, slots));
  return product.sum(1).to(at::kFloat);
}

void add_rows(const at::Tensor& x, const at::Tensor& rows, const at::Tensor& slots, const at::Tensor& signs,
              at::Tensor& sums) {
  at::Tensor values = x.index_select(0, rows).to(at::kDouble);
  values.mul_(signs.unsqueeze(1));
  sums.index_add_(0, slots.to(x.device()), values);
}

}  // namespace vixen::two_means::reference
