// One interface over every way to search labels: build from a rank's rows, search, say what it costs.
//
// A new index is a file of this folder that defines make_NAME_index and NAME_index_bytes, and a row in
// config/search_methods.inl.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "search/scaled_rows.hpp"
#include "search/top_k.hpp"

namespace vixen {

/// The labels of one rank, prepared for searching by inner product. Searches may run at the same time.
class Index {
 public:
  virtual ~Index() = default;
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }
  /// Ids of the rows are first_id, first_id + 1, ...
  int64_t first_id() const { return first_id_; }

  /// queries [m, D] of a float type, on the device that the rows were given for; k >= 1. Lists on the queries' device
  /// in the total order, with min(k, rows) labels each. Queries must be finite and as wide as the labels: UserError.
  /// The same lists for any number of threads. Local.
  TopK search(const at::Tensor& queries, int64_t k, bool show_progress = false) const;

  /// Bytes that the index holds, rows that it shares with its maker included.
  virtual int64_t bytes() const = 0;
  /// What was built, in words: "1,024 lists, 64 of them read, ...".
  virtual std::string description() const = 0;
  /// Seconds that make_index took.
  double build_seconds() const { return build_seconds_; }

 protected:
  Index(int64_t rows, int64_t width, int64_t first_id) : rows_(rows), width_(width), first_id_(first_id) {}
  Index(Index&&) noexcept = default;
  Index& operator=(Index&&) noexcept = default;
  void grow(int64_t rows) { rows_ += rows; }

 private:
  friend std::unique_ptr<Index> make_index(const IndexConfig& config, const ScaledRows& rows, int64_t first_id,
                                           bool show_progress);
  /// queries float32 [m, D], contiguous.
  virtual TopK search_rows(const at::Tensor& queries, int64_t k, bool show_progress) const = 0;

  int64_t rows_, width_, first_id_;
  double build_seconds_ = 0;
};

/// A way to search: a row of config/search_methods.inl and the functions of its file.
struct IndexKind {
  SearchMethod method;
  const char* name;  // as search.method says it
  bool exact;        // finds every label of the answer
  const char* help;
  /// rows [n, D] (kept, not copied, where the index needs them); n may be 0. A row that is not finite is a UserError
  /// that names it by its id. The same index for any number of threads.
  std::unique_ptr<Index> (*build)(const IndexConfig& config, const ScaledRows& rows, int64_t first_id,
                                  bool show_progress);
  /// Bytes on the device (cpu: whether that is the host) of an index over rows [n, D], besides the rows themselves in
  /// float32. For memory plans: near, not exact.
  int64_t (*planned_bytes)(const IndexConfig& config, int64_t n, int64_t width, bool cpu);
};
const std::vector<IndexKind>& index_kinds();
const IndexKind& index_kind(SearchMethod method);

/// The index of config.method over rows [n, D]. Local.
std::unique_ptr<Index> make_index(const IndexConfig& config, const ScaledRows& rows, int64_t first_id,
                                  bool show_progress = false);

}  // namespace vixen
