// Candidates by products of 8-bit codes: a block of labels is coded once for all queries of a block, a strip of queries
// meets as many labels as stay in a core's cache, and their scores are looked at while they are there.
#include "search/int8_prefilter.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "search/error_bound.hpp"
#include "search/int8_bound.hpp"

namespace vixen {
namespace {

constexpr int64_t kCacheBytes = int64_t{256} << 10;  // of labels' codes that strips of queries go over
constexpr int64_t kCodeGrain = 64;                   // rows coded by a thread at a time

int64_t round_up(int64_t n, int64_t step) {
  return (n + step - 1) / step * step;
}

/// D'; at least one block, so that rows without columns are rows.
int64_t padded(int64_t width) {
  return round_up(std::max<int64_t>(width, 1), kInt8Block);
}

/// A row of D values with zeros behind them, in codes.
class RowCoder {
 public:
  RowCoder(const Int8Kernels& kernels, int64_t width)
      : kernels_(kernels), width_(width), values_(static_cast<size_t>(padded(width))), codes_(values_.size()) {}

  /// Where a row of D values may be put before it is coded.
  float* scratch() { return values_.data(); }
  CodedRow code(const float* row, const CodeLimits& limits) {
    if (row != values_.data()) std::copy_n(row, width_, values_.data());
    return kernels_.code(values_.data(), padded_width(), limits, codes_.data());
  }
  const int8_t* codes() const { return codes_.data(); }
  int64_t padded_width() const { return static_cast<int64_t>(values_.size()); }

 private:
  const Int8Kernels& kernels_;
  int64_t width_;
  std::vector<float> values_;
  std::vector<int8_t> codes_;
};

class Int8Scan : public CandidateScan {
 public:
  Int8Scan(const Int8Kernels& kernels, const LabelRows& labels, int64_t most_queries)
      : labels_(labels),
        kernels_(kernels),
        reader_(labels.rows),
        width_(labels.rows.width()),
        padded_width_(padded(width_)) {
    const auto queries = static_cast<size_t>(round_up(most_queries, kernels_.strip_rows));
    strips_.resize(queries * static_cast<size_t>(padded_width_));
    for (auto* factors : {&query_scale_, &residual_weight_, &norm_weight_}) factors->resize(queries);
    const auto columns =
        static_cast<size_t>(round_up(std::min(labels.block_rows, labels.rows.size()), kernels_.panel_rows));
    panels_.resize(columns * static_cast<size_t>(padded_width_));
    for (auto* factors : {&label_scale_, &residual_, &norm_}) factors->resize(columns);
    offset_.resize(columns);
  }

  void take_queries(const at::Tensor& queries, int64_t first_query) override {
    const RowBounds bounds = row_bounds(queries, queries, "query", first_query);
    queries_ = queries.const_data_ptr<float>();
    const int64_t m = queries.size(0), rows = kernels_.strip_rows;
    at::parallel_for(0, round_up(m, rows), kCodeGrain, [&](int64_t begin, int64_t end) {
      RowCoder coder(kernels_, width_);
      for (int64_t i = begin; i < end; ++i) {
        const auto row = static_cast<size_t>(i);
        if (i >= m) std::fill_n(coder.scratch(), width_, 0.0F);  // fills the last strip
        const CodedRow coded = coder.code(i < m ? queries_ + i * width_ : coder.scratch(), kernels_.query_limits);
        kernels_.pack_query(coder.codes(), padded_width_, i % rows, strips_.data() + i / rows * rows * padded_width_);
        const CodedNorms norms = coded_norms(coded, padded_width_);
        const QueryWeights weights = query_weights(norms, i < m ? bounds.norm[row] : 0.0);
        query_scale_[row] = norms.scale;
        residual_weight_[row] = weights.residual_weight;
        norm_weight_[row] = weights.norm_weight;
      }
    });
  }

  void scan(int64_t block, std::span<Candidates> candidates) override {
    const int64_t first_label = block * labels_.block_rows;
    const int64_t n = std::min(labels_.block_rows, labels_.rows.size() - first_label);
    code_labels(first_label, n);
    const auto m = static_cast<int64_t>(candidates.size());
    const int64_t strip_rows = kernels_.strip_rows, panel_rows = kernels_.panel_rows;
    const int64_t step = std::max<int64_t>(1, kCacheBytes / (panel_rows * padded_width_)) * panel_rows;
    at::parallel_for(0, (m + strip_rows - 1) / strip_rows, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> upper(static_cast<size_t>(strip_rows * step));
      for (int64_t first = 0; first < n; first += step) {
        const int64_t columns = std::min(step, n - first);
        const LabelFactors factors{label_scale_.data() + first, residual_.data() + first, norm_.data() + first,
                                   offset_.data() + first};
        for (int64_t strip = begin; strip < end; ++strip) {
          const int64_t row = strip * strip_rows;
          kernels_.product(strips_.data() + row * padded_width_,
                           {query_scale_.data() + row, residual_weight_.data() + row, norm_weight_.data() + row},
                           panels_.data() + first * padded_width_, factors, round_up(columns, panel_rows) / panel_rows,
                           padded_width_, upper.data(), step);
          for (int64_t i = row; i < std::min(m, row + strip_rows); ++i) {
            const auto query = static_cast<size_t>(i);
            candidates[query].scan_upper(upper.data() + (i - row) * step, columns, first_label + first,
                                         {residual_weight_[query], norm_weight_[query], factors.residual, factors.norm},
                                         queries_ + i * width_, reader_);
          }
        }
      }
    });
  }

 private:
  /// Rows [first, first + n) into panels_; zeros behind them.
  void code_labels(int64_t first, int64_t n) {
    const int64_t rows = kernels_.panel_rows;
    at::parallel_for(0, round_up(n, rows), kCodeGrain, [&](int64_t begin, int64_t end) {
      RowCoder coder(kernels_, width_);
      for (int64_t i = begin; i < end; ++i) {
        const auto row = static_cast<size_t>(i);
        if (i >= n) std::fill_n(coder.scratch(), width_, 0.0F);
        const CodedRow coded =
            coder.code(i < n ? reader_.undivided(first + i, coder.scratch()) : coder.scratch(), kernels_.label_limits);
        kernels_.pack_label(coder.codes(), padded_width_, i % rows, panels_.data() + i / rows * rows * padded_width_);
        const CodedNorms norms = coded_norms(coded, padded_width_, i < n ? reader_.divisor(first + i) : 1.0);
        label_scale_[row] = norms.scale;
        residual_[row] = norms.residual;
        norm_[row] = norms.norm;
        offset_[row] = kernels_.query_limits.largest * coded.code_sum;
      }
    });
  }

  const LabelRows& labels_;
  const Int8Kernels& kernels_;
  RowReader reader_;
  int64_t width_, padded_width_;
  const float* queries_ = nullptr;
  std::vector<uint8_t> strips_;                                     // of the queries
  std::vector<float> query_scale_, residual_weight_, norm_weight_;  // [queries of whole strips]
  std::vector<int8_t> panels_;                                      // of the block of labels
  std::vector<float> label_scale_, residual_, norm_;                // [labels of whole panels]
  std::vector<int32_t> offset_;
};

class Int8Labels : public PreparedLabels {
 public:
  explicit Int8Labels(const Int8Kernels& kernels) : kernels_(kernels) {}

  std::unique_ptr<CandidateScan> begin(const LabelRows& labels, int64_t most_queries) const override {
    return std::make_unique<Int8Scan>(kernels_, labels, most_queries);
  }
  std::string description() const override { return fmt::format("int8 products ({})", name_of(kernels_.level)); }

 private:
  const Int8Kernels& kernels_;
};

}  // namespace

std::unique_ptr<PreparedLabels> prepare_int8(const Int8Kernels& kernels) {
  return std::make_unique<Int8Labels>(kernels);
}

std::unique_ptr<PreparedLabels> make_int8_prefilter(const LabelRows& /*labels*/) {
  return prepare_int8(int8_kernels());
}

}  // namespace vixen
