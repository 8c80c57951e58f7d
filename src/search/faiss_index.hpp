// FAISS's flat inner-product index over label rows: a second way to search, and a file that others can use.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>

#include "search/exact_search.hpp"

namespace vixen {

/// IndexFlatIP on the CPU. Its scores are float32 sums in no fixed order, and equal scores stand in no fixed order:
/// close to the exact search's answer, but not to the bit.
class FaissIndex {
 public:
  /// Copies rows [n, D] (float32 or float16, any device); ids are first_id, first_id + 1, ... A row that is not finite
  /// is a UserError.
  explicit FaissIndex(const at::Tensor& rows, int64_t first_id = 0);
  /// Appends rows [m, D] under the next ids, so that an index need not exist twice in memory. As the constructor.
  void add(const at::Tensor& rows);
  /// Reads an index file (faiss.write_index); UserError naming the file when it is missing, damaged or of another kind.
  static FaissIndex load(const std::filesystem::path& path);
  ~FaissIndex();
  FaissIndex(FaissIndex&&) noexcept;
  FaissIndex& operator=(FaissIndex&&) noexcept;

  /// Writes the file that faiss.read_index reads, atomically. Ids in it count from 0.
  void save(const std::filesystem::path& path) const;

  int64_t rows() const;
  int64_t width() const;
  /// queries [m, D] -> k best of this index on the queries' device; -1 and -infinity where there are fewer. Local.
  TopK search(const at::Tensor& queries, int64_t k) const;

 private:
  struct Impl;
  explicit FaissIndex(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vixen
