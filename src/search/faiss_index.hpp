// What the FAISS indexes share: candidates block by block, rescored with the canonical score, in the total order.
//
// FAISS cuts its work by the number of threads, and what a sum or a matrix product rounds to depends on the cut. Here
// work is cut into blocks of fixed size that run on one thread each, so that an index and its answers are the same for
// any number of threads.
#pragma once

#include <faiss/IndexFlat.h>

#include <cstdint>
#include <functional>
#include <string>

#include "search/index.hpp"
#include "search/one_thread.hpp"

namespace vixen {

class Progress;

/// Calls work(begin, end) for the blocks [0, block), [block, 2 block), ... of [0, n): side by side on ATen's threads,
/// and each on one thread, FAISS and BLAS within it included.
void for_each_block(int64_t n, int64_t block, const std::function<void(int64_t, int64_t)>& work);

/// FAISS's flat index, searched in fixed blocks: what k-means assigns points to centroids with.
struct BlockedFlat : faiss::IndexFlat {
  BlockedFlat(int64_t width, faiss::MetricType metric) : faiss::IndexFlat(width, metric) {}

  void search(idx_t n, const float* x, idx_t k, float* distances, idx_t* labels,
              const faiss::SearchParameters* params = nullptr) const override;

  Progress* progress = nullptr;  // advanced by the points that were searched for
};

/// Rows [begin, begin + n) as FAISS takes them: float32 on the CPU, contiguous. UserError naming the label that is not
/// finite.
at::Tensor faiss_rows(const ScaledRows& rows, int64_t begin, int64_t n, int64_t first_id);

/// An index that FAISS holds on the CPU, whatever device queries are on.
class FaissIndex : public Index {
 protected:
  using Index::Index;

  /// The `count` best rows of queries [m, D], or fewer (row -1), in any order: rows and scores [m, count]. Runs on one
  /// thread, several calls at a time.
  virtual void find(int64_t m, const float* queries, int64_t count, int64_t* found, float* scores) const = 0;
  /// The same where find() gave fewer rows than there are: never fewer than min(count, rows).
  virtual void find_all(int64_t m, const float* queries, int64_t count, int64_t* found, float* scores) const = 0;
  /// Rows [n, D] for the final scores; null: the scores of find() are final.
  virtual const float* exact_rows() const = 0;
  /// Candidates that are asked for when k places are to be filled.
  virtual int64_t candidates(int64_t k) const { return k; }

 private:
  TopK search_rows(const at::Tensor& queries, int64_t k, bool show_progress) const final;
  void search_block(int64_t m, const float* queries, int64_t k, int64_t* ids, float* scores) const;
};

}  // namespace vixen
