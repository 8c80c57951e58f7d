// FAISS's flat inner-product index over label rows: a second way to search, and a file that others can use.
#pragma once

#include <filesystem>
#include <memory>

#include "search/faiss_index.hpp"

namespace vixen {

/// IndexFlatIP on the CPU. FAISS ranks by float32 sums: labels whose scores differ by less than these round to may
/// change places at the cut after k; scores, and the order of what was found, are those of the exact search.
class FaissFlatIndex : public FaissIndex {
 public:
  /// Copies rows [n, D] (any device); ids are first_id, first_id + 1, ... A row that is not finite is a UserError.
  explicit FaissFlatIndex(const ScaledRows& rows, int64_t first_id = 0);
  FaissFlatIndex(FaissFlatIndex&&) noexcept = default;
  FaissFlatIndex& operator=(FaissFlatIndex&&) noexcept = default;

  /// Appends rows [m, D] under the next ids, so that an index need not exist twice in memory. As the constructor.
  void add(const ScaledRows& rows);
  /// Reads an index file (faiss.write_index); UserError naming the file when it is missing, damaged or of another kind.
  static FaissFlatIndex load(const std::filesystem::path& path);
  /// Writes the file that faiss.read_index reads, atomically. Ids in it count from 0.
  void save(const std::filesystem::path& path) const;

  int64_t bytes() const override;
  std::string description() const override;

 private:
  explicit FaissFlatIndex(std::unique_ptr<faiss::IndexFlatIP> index);
  void find(int64_t m, const float* queries, int64_t count, int64_t* found, float* scores) const override;
  void find_all(int64_t m, const float* queries, int64_t count, int64_t* found, float* scores) const override;
  const float* exact_rows() const override { return index_->get_xb(); }

  std::unique_ptr<faiss::IndexFlatIP> index_;
};

}  // namespace vixen
