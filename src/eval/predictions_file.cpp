// Each row of a ranking file is checked once, when it is read: metrics trust it from there on.
#include "eval/predictions_file.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "data/hdf5_matrix.hpp"

namespace vixen {
namespace {

constexpr int64_t kRowsPerBlock = 65536;  // bounds the memory of float64 copies

/// The largest number up to which a float type holds every whole number; ids beyond it may have been rounded.
double last_exact_whole(at::ScalarType dtype) {
  switch (dtype) {
    case at::kHalf:
      return 2048;
    case at::kFloat:
      return 16777216;
    default:
      return 9007199254740992;
  }
}

/// Ids as they are in the file: float ids are taken when they are whole numbers.
void check_whole(const at::Tensor& ids, int64_t first_row, const std::string& where) {
  const double last = last_exact_whole(ids.scalar_type());
  const at::Tensor wide = ids.to(at::kDouble);
  const double* values = wide.const_data_ptr<double>();
  const int64_t k = ids.size(1);
  for (int64_t i = 0; i < ids.numel(); ++i) {
    if (values[i] == std::floor(values[i]) && std::abs(values[i]) <= last) continue;
    const bool whole = values[i] == std::floor(values[i]) && std::isfinite(values[i]);
    fail_user(
        "{}: row {}, place {}: {:.17g} is no label number, expected {}", where, first_row + i / k, i % k + 1, values[i],
        whole ? fmt::format("an integer type: {} holds whole numbers to {:.0f}", c10::toString(ids.scalar_type()), last)
              : "whole numbers");
  }
}

class RowChecks {
 public:
  RowChecks(std::string ids, std::string scores, int64_t n_labels)
      : ids_(std::move(ids)), scores_(std::move(scores)), last_row_(static_cast<size_t>(n_labels), -1) {}

  /// ids, scores [k] of a row of the file.
  void check(const int64_t* ids, const double* scores, int64_t k, int64_t row) {
    const auto n_labels = static_cast<int64_t>(last_row_.size());
    bool ended = false;
    for (int64_t place = 0; place < k; ++place) {
      const int64_t id = ids[place];
      if (id < -1 || id >= n_labels)
        fail_user("{}: row {} holds label {}, the data set has {} labels", ids_, row, id, n_labels);
      if (id == -1) {
        ended = true;
        continue;
      }
      if (ended)
        fail_user("{}: row {}: label {} stands behind -1, which ends a row: expected -1 only behind the labels", ids_,
                  row, id);
      if (std::exchange(last_row_[static_cast<size_t>(id)], row) == row)
        fail_user("{}: row {} holds label {} more than once, expected each label at most once", ids_, row, id);
      if (!std::isfinite(scores[place]))
        fail_user("{}: row {}: the score of label {} is {}, expected a finite number", scores_, row, id, scores[place]);
      if (place > 0 && scores[place] > scores[place - 1])
        fail_user("{}: row {}: {:g} follows {:g}, expected the best label first (of distances, write the negative)",
                  scores_, row, scores[place], scores[place - 1]);
    }
  }

 private:
  std::string ids_, scores_;
  std::vector<int64_t> last_row_;  // by label: the last row that held it
};

}  // namespace

TopK read_predictions(const std::filesystem::path& path, RowRange range, int64_t n_queries, int64_t n_labels) {
  const MatrixReader ids({path, "/indices"}), scores({path, "/scores"});
  if (ids.rows() != n_queries)
    fail_user("{}: has {} rows, expected {}, one for each query of the test split", ids.where(), ids.rows(), n_queries);
  if (scores.rows() != ids.rows() || scores.columns() != ids.columns())
    fail_user("{}: has the shape [{}, {}], expected [{}, {}] as /indices has", scores.where(), scores.rows(),
              scores.columns(), ids.rows(), ids.columns());

  const int64_t k = ids.columns();
  TopK predictions{at::empty({range.size(), k}, at::kLong), at::empty({range.size(), k}, at::kFloat)};
  RowChecks checks(ids.where(), scores.where(), n_labels);
  for (int64_t begin = range.begin; begin < range.end; begin += kRowsPerBlock) {
    const RowRange block = {begin, std::min(range.end, begin + kRowsPerBlock)};
    const at::Tensor found = ids.read(block, /*check_finite=*/false);
    if (at::isFloatingType(found.scalar_type())) check_whole(found, begin, ids.where());
    const at::Tensor whole = found.to(at::kLong).contiguous();
    const at::Tensor wide = scores.read(block, /*check_finite=*/false).to(at::kDouble).contiguous();
    for (int64_t row = 0; row < block.size(); ++row)
      checks.check(whole.const_data_ptr<int64_t>() + row * k, wide.const_data_ptr<double>() + row * k, k, begin + row);
    predictions.ids.narrow(0, begin - range.begin, block.size()).copy_(whole);
    predictions.scores.narrow(0, begin - range.begin, block.size()).copy_(wide);
  }
  return predictions;
}

}  // namespace vixen
