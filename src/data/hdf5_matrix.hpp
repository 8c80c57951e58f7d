// Plain HDF5 matrices in and out: embeddings, search results.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "shard/row_shards.hpp"

namespace vixen {

/// "FILE.h5" or "FILE.h5:/dataset" -> file and dataset path (default_dataset when none is given).
struct MatrixPath {
  std::filesystem::path file;
  std::string dataset;
};
MatrixPath parse_matrix_path(const std::string& text, const std::string& default_dataset);

/// A 2-D dataset read by row ranges: fp16, fp32, fp64, int32 or int64 (any layout; contiguous ones are mapped).
class MatrixReader {
 public:
  /// UserError naming file and dataset when missing, truncated, not 2-D or of another type.
  explicit MatrixReader(const MatrixPath& path);
  ~MatrixReader();
  int64_t rows() const;
  int64_t columns() const;
  at::ScalarType dtype() const;
  /// Rows [range.begin, range.end) in the file's dtype. With check_finite, a NaN or infinity is a UserError naming
  /// file, dataset and row.
  at::Tensor read(RowRange range, bool check_finite) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Writes a file of contiguous 2-D datasets by row ranges, atomically: the file appears under its name on close().
class MatrixWriter {
 public:
  /// attributes: strings of the root group ("created_by").
  explicit MatrixWriter(const std::filesystem::path& path, const std::map<std::string, std::string>& attributes = {});
  ~MatrixWriter();  // without close(): the temporary file is removed
  /// Adds a dataset [rows, columns] of kHalf, kFloat, kInt or kLong.
  void add(const std::string& dataset, int64_t rows, int64_t columns, at::ScalarType dtype);
  /// Writes rows [first, first + data.size(0)). data: CPU, contiguous, converted to the dataset's dtype.
  void write(const std::string& dataset, int64_t first, const at::Tensor& data);
  void close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vixen
