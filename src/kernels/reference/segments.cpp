// Sums of segments of rows in plain ATen.
#include "kernels/segments.hpp"

#include <ATen/ATen.h>

namespace vixen::reference {

at::Tensor sum_segments(const at::Tensor& rows, const at::Tensor& order, const at::Tensor& starts) {
  return at::segment_reduce(rows.index_select(0, order), "sum", /*lengths=*/{}, /*indices=*/{}, starts, /*axis=*/0,
                            /*unsafe=*/true);
}

}  // namespace vixen::reference
