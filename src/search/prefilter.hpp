// One interface over the ways to find candidates on a CPU: products of lower precision with a proven error.
//
// A new one is a file of this folder that defines make_NAME_prefilter, and a row in config/prefilters.inl.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "search/candidates.hpp"
#include "search/label_rows.hpp"

namespace vixen {

/// One search by one block of queries after another, each against one block of labels after another. Uses ATen's
/// threads; not thread-safe itself.
class CandidateScan {
 public:
  virtual ~CandidateScan() = default;
  CandidateScan(const CandidateScan&) = delete;
  CandidateScan& operator=(const CandidateScan&) = delete;

  /// The queries of the next blocks of labels: float32 [m, D], contiguous, kept alive by the caller; m at most what the
  /// scan was begun for. One that is not finite is a UserError: "query row first_query + i ...".
  virtual void take_queries(const at::Tensor& queries, int64_t first_query) = 0;
  /// Gives candidates[i] every label of block number `block` that may be among the best of query i, and some more.
  virtual void scan(int64_t block, std::span<Candidates> candidates) = 0;

 protected:
  CandidateScan() = default;
};

/// What a prefilter keeps of labels: bounds of blocks, nothing of the size of the rows.
class PreparedLabels {
 public:
  virtual ~PreparedLabels() = default;
  PreparedLabels(const PreparedLabels&) = delete;
  PreparedLabels& operator=(const PreparedLabels&) = delete;

  /// labels: those that were prepared; they outlive the scan. most_queries: of a block.
  virtual std::unique_ptr<CandidateScan> begin(const LabelRows& labels, int64_t most_queries) const = 0;
  /// "fp32 products", for the description of an index.
  virtual std::string description() const = 0;

 protected:
  PreparedLabels() = default;
};

/// A row of config/prefilters.inl.
struct PrefilterKind {
  Prefilter value;
  const char* name;  // as search.prefilter says it
  std::unique_ptr<PreparedLabels> (*prepare)(const LabelRows& labels);
  int64_t widest;  // columns of rows that it takes; 0: any
};
const std::vector<PrefilterKind>& prefilter_kinds();

/// Labels on the CPU for the prefilter that search.prefilter names; for `auto` that which this machine is fastest with,
/// by a small search on one thread that is timed once: it may differ from run to run, answers do not. UserError where
/// the rows are too wide for the one that is named.
std::unique_ptr<PreparedLabels> prepare_labels(Prefilter prefilter, const LabelRows& labels);

}  // namespace vixen
