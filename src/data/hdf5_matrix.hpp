// Plain HDF5 matrices in and out: embeddings, search results.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "shard/row_shards.hpp"

namespace vixen {

/// "FILE.h5" or "FILE.h5:/dataset" -> file and dataset path (default_dataset when none is given).
struct MatrixPath {
  std::filesystem::path file;
  std::string dataset;
};
MatrixPath parse_matrix_path(const std::string& text, const std::string& default_dataset);

/// A 2-D dataset read by row ranges: fp16, fp32, fp64, int32 or int64 of either byte order and any layout; what is
/// contiguous is mapped.
class MatrixReader {
 public:
  /// UserError naming file and dataset when missing, not whole (locate_dataset()), not 2-D or of another type.
  explicit MatrixReader(const MatrixPath& path);
  ~MatrixReader();
  int64_t rows() const;
  int64_t columns() const;
  at::ScalarType dtype() const;
  const std::string& type_name() const;  // as found: "int32", "big-endian float64"
  /// Rows [range.begin, range.end) in the file's dtype; the file's own pages leave the process again. With
  /// check_finite, a NaN or infinity is a UserError naming file, dataset and row.
  at::Tensor read(RowRange range, bool check_finite) const;
  /// The same as float32, always checked: a float64 value beyond the range of float32 is a UserError too.
  at::Tensor read_float(RowRange range) const;
  /// "FILE:/dataset", as messages name it.
  std::string where() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Which floats a written dataset may hold.
enum class Floats {
  kFinite,
  kFiniteOrMinusInfinity,  // scores: -infinity goes with id -1, where there is no result
};

/// Bytes that belong at an offset of a file.
struct FilePiece {
  int64_t offset = 0;
  at::Tensor values;  // contiguous, of any type, on the CPU

  std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(values.const_data_ptr()), static_cast<size_t>(values.nbytes())};
  }
};

/// Where the rows of a file's contiguous 2-D datasets are: enough to write them, in any process.
class MatrixLayout {
 public:
  /// `path`: the file, as errors name it.
  explicit MatrixLayout(std::filesystem::path path = {}) : path_(std::move(path)) {}
  /// From text().
  static MatrixLayout parse(const std::string& text);
  std::string text() const;

  void add(const std::string& dataset, int64_t rows, int64_t columns, at::ScalarType dtype, Floats floats,
           int64_t offset_bytes);
  /// Rows [first, first + data.size(0)) of a dataset, in its dtype. A value that is not finite in that dtype is a
  /// UserError: such a file would only fail later.
  FilePiece piece(const std::string& dataset, int64_t first, const at::Tensor& data) const;
  bool contains(const std::string& dataset) const { return targets_.contains(dataset); }

 private:
  struct Target {
    int64_t rows, columns;
    at::ScalarType dtype;
    Floats floats;
    int64_t offset_bytes;
  };
  std::filesystem::path path_;
  std::map<std::string, Target> targets_;
};

/// Writes a file of contiguous 2-D datasets by row ranges, atomically: the file appears under its name on close().
class MatrixWriter {
 public:
  /// attributes: strings of the root group ("created_by").
  explicit MatrixWriter(const std::filesystem::path& path, const std::map<std::string, std::string>& attributes = {});
  ~MatrixWriter();  // without close(): the temporary file is removed
  /// Adds a dataset [rows, columns] of kHalf, kFloat, kInt or kLong.
  void add(const std::string& dataset, int64_t rows, int64_t columns, at::ScalarType dtype,
           Floats floats = Floats::kFinite);
  /// Writes rows (MatrixLayout::piece).
  void write(const std::string& dataset, int64_t first, const at::Tensor& data);
  void close();

  /// For others that write rows of the same file before close(): where it is until then, and where rows are in it.
  const std::filesystem::path& temporary() const;
  const MatrixLayout& layout() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vixen
