// Candidates by ATen's matrix products in float32 or bfloat16: a block of labels is converted, the scores of all
// queries of a block against it are one product, then they are looked at row by row.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "search/error_bound.hpp"
#include "search/prefilter.hpp"

namespace vixen {
namespace {

constexpr int64_t kScanGrain = 16;  // queries handed to a thread at a time

class MatrixScan : public CandidateScan {
 public:
  /// bounds: of the blocks of labels in `dtype`.
  MatrixScan(const LabelRows& labels, const std::vector<BlockBound>& bounds, at::ScalarType dtype, int64_t most_queries)
      : labels_(labels),
        bounds_(bounds),
        dtype_(dtype),
        reader_(labels.rows),
        model_(labels.rows.width(), dtype == at::kBFloat16, at::kCPU),
        scores_(at::empty({most_queries * std::min(labels.block_rows, std::max<int64_t>(labels.rows.size(), 1))},
                          at::TensorOptions(dtype))) {}

  void take_queries(const at::Tensor& queries, int64_t first_query) override {
    queries_ = queries;
    rounded_ = queries.to(dtype_);
    query_bounds_ = row_bounds(queries_, rounded_, "query", first_query);
  }

  void scan(int64_t block, std::span<Candidates> candidates) override {
    const int64_t first_label = block * labels_.block_rows, d = labels_.rows.width();
    const int64_t columns = std::min(labels_.block_rows, labels_.rows.size() - first_label);
    const auto rows = static_cast<int64_t>(candidates.size());
    at::Tensor tile = scores_.narrow(0, 0, rows * columns).view({rows, columns});
    at::mm_out(tile, rounded_, labels_.rows.wide(first_label, columns).to(dtype_).t());
    const void* scores = tile.const_data_ptr();
    const BlockBound& bound = bounds_[static_cast<size_t>(block)];
    const float* queries = queries_.const_data_ptr<float>();
    at::parallel_for(0, rows, kScanGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto row = static_cast<size_t>(i);
        const float absolute = model_.absolute(query_bounds_.norm[row], query_bounds_.residual[row], bound);
        const float* query = queries + i * d;
        if (dtype_ == at::kBFloat16) {
          candidates[row].scan(static_cast<const uint16_t*>(scores) + i * columns, columns, first_label, absolute,
                               model_.relative(), query, reader_);
        } else {
          candidates[row].scan(static_cast<const float*>(scores) + i * columns, columns, first_label, absolute,
                               model_.relative(), query, reader_);
        }
      }
    });
  }

 private:
  const LabelRows& labels_;
  const std::vector<BlockBound>& bounds_;
  at::ScalarType dtype_;
  RowReader reader_;
  ErrorModel model_;
  at::Tensor scores_;  // of one block, used again and again, so that it stays in the cache
  at::Tensor queries_, rounded_;
  RowBounds query_bounds_;
};

class MatrixLabels : public PreparedLabels {
 public:
  MatrixLabels(const LabelRows& labels, at::ScalarType dtype) : dtype_(dtype) {
    const int64_t n = labels.rows.size();
    for (size_t block = 0; block < labels.norms.size(); ++block) {
      BlockBound bound{labels.norms[block], 0};
      if (dtype == at::kBFloat16) {
        const int64_t begin = static_cast<int64_t>(block) * labels.block_rows;
        const at::Tensor rows = labels.rows.wide(begin, std::min(labels.block_rows, n - begin));
        const RowBounds rounded = row_bounds(rows, rows.to(dtype), "label", labels.first_id + begin);
        bound = block_bound(rounded, 0, rows.size(0));
      }
      bounds_.push_back(bound);
    }
  }

  std::unique_ptr<CandidateScan> begin(const LabelRows& labels, int64_t most_queries) const override {
    return std::make_unique<MatrixScan>(labels, bounds_, dtype_, most_queries);
  }
  std::string description() const override { return dtype_ == at::kBFloat16 ? "bf16 products" : "fp32 products"; }

 private:
  at::ScalarType dtype_;
  std::vector<BlockBound> bounds_;
};

}  // namespace

std::unique_ptr<PreparedLabels> make_fp32_prefilter(const LabelRows& labels) {
  return std::make_unique<MatrixLabels>(labels, at::kFloat);
}

std::unique_ptr<PreparedLabels> make_bf16_prefilter(const LabelRows& labels) {
  return std::make_unique<MatrixLabels>(labels, at::kBFloat16);
}

}  // namespace vixen
