// Rows of tensors as they travel. For files of this folder only.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace vixen {

inline char* bytes_of(const at::Tensor& tensor) {
  return static_cast<char*>(tensor.data_ptr());
}

/// Of a row of a tensor [n, ...].
inline int64_t row_bytes(const at::Tensor& tensor) {
  auto bytes = static_cast<int64_t>(tensor.element_size());
  for (int64_t d = 1; d < tensor.dim(); ++d) bytes *= tensor.size(d);
  return bytes;
}

/// [rows, ...]
inline at::Tensor empty_rows_like(const at::Tensor& tensor, int64_t rows) {
  std::vector<int64_t> sizes = tensor.sizes().vec();
  sizes[0] = rows;
  return at::empty(sizes, tensor.options());
}

}  // namespace vixen
