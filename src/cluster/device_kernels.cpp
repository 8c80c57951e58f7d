#include "cluster/device_kernels.hpp"

#include <ATen/ATen.h>

#include <bit>
#include <vector>

#include "kernels/cuda_limits.hpp"
#include "kernels/device_form.hpp"

namespace vixen::two_means {
namespace {

const ClusterTable* lent = nullptr;

DeviceTables<ClusterTable> tables() {
  return {KernelFamily::kClusters, cuda_cluster_kernels(), lent};
}

// Rows of a list that one thread adds up: enough pieces for all multiprocessors, few sums to write.
constexpr int64_t kPieceRows = 256;

// Values of rows in host memory that come up at a time.
constexpr int64_t kChunkValues = int64_t{1} << 22;

bool has_room_for(int64_t width) {
  return static_cast<int64_t>(sizeof(double) * std::bit_ceil(static_cast<uint64_t>(width))) <= kMostSharedBytes;
}

void check_list(const at::Tensor& x, const at::Tensor& rows, int64_t listed) {
  VIXEN_CHECK(x.dim() == 2 && x.scalar_type() == at::kFloat && x.is_contiguous() && rows.scalar_type() == at::kLong &&
                  rows.is_contiguous() && rows.numel() == listed && rows.device() == x.device(),
              "a list of {} rows of {}", rows.numel(), c10::toString(x.scalar_type()));
}

}  // namespace

void unit_rows(const at::Tensor& rows, at::Tensor& out) {
  VIXEN_CHECK(out.scalar_type() == at::kFloat && out.is_contiguous() && out.sizes() == rows.sizes() &&
                  (rows.scalar_type() == at::kFloat || rows.scalar_type() == at::kHalf),
              "unit rows of {}", c10::toString(rows.scalar_type()));
  const int64_t n = rows.size(0), width = rows.size(1);
  const DeviceForm<UnitRowsArgs> kernel(tables(), "unit_rows", &ClusterTable::unit_rows, out.device(),
                                        has_room_for(width));
  if (!kernel) return reference::unit_rows(rows, out);
  const int64_t chunk = rows.device() == out.device() ? n : std::max<int64_t>(1, kChunkValues / width);
  for (int64_t begin = 0; begin < n; begin += chunk) {
    const int64_t length = std::min(chunk, n - begin);
    const at::Tensor from = rows.narrow(0, begin, length).to(out.device()).contiguous();
    kernel.run({.half = rows.scalar_type() == at::kHalf,
                .width = width,
                .rows = from.const_data_ptr(),
                .unit = out.mutable_data_ptr<float>() + begin * width},
               length);
  }
}

at::Tensor row_scores(const at::Tensor& x, const at::Tensor& rows, const at::Tensor& slots,
                      const at::Tensor& differences) {
  const int64_t m = rows.numel(), width = x.size(1);
  check_list(x, rows, slots.numel());
  VIXEN_CHECK(slots.scalar_type() == at::kLong && slots.is_contiguous() && differences.scalar_type() == at::kDouble &&
                  differences.is_contiguous() && differences.size(1) == width && differences.device() == x.device(),
              "differences of {} columns, rows of {}", differences.size(1), width);
  const DeviceForm<RowScoresArgs> kernel(tables(), "row_scores", &ClusterTable::row_scores, x.device());
  if (!kernel) return reference::row_scores(x, rows, slots, differences);
  at::Tensor scores = at::empty({m}, x.options());
  kernel.run({.width = width,
              .x = x.const_data_ptr<float>(),
              .rows = rows.const_data_ptr<int64_t>(),
              .slots = slots.const_data_ptr<int64_t>(),
              .differences = differences.const_data_ptr<double>(),
              .scores = scores.mutable_data_ptr<float>()},
             m);
  return scores;
}

void add_rows(const at::Tensor& x, const at::Tensor& rows, const at::Tensor& slots, const at::Tensor& signs,
              at::Tensor& sums) {
  const int64_t m = rows.numel(), width = x.size(1);
  check_list(x, rows, signs.numel());
  VIXEN_CHECK(slots.is_cpu() && slots.scalar_type() == at::kLong && slots.is_contiguous() && slots.numel() == m &&
                  signs.scalar_type() == at::kDouble && signs.is_contiguous() && sums.scalar_type() == at::kDouble &&
                  sums.is_contiguous() && sums.size(1) == width,
              "{} rows for sums of {} columns", m, sums.size(1));
  const DeviceForm<RowSumsArgs> kernel(tables(), "row_sums", &ClusterTable::row_sums, x.device());
  if (!kernel) return reference::add_rows(x, rows, slots, signs, sums);
  std::vector<int64_t> starts, slot_of_piece;
  const auto* slot = slots.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < m; ++i) {
    if (i > 0 && slot[i] == slot[i - 1] && i - starts.back() < kPieceRows) continue;
    starts.push_back(i);
    slot_of_piece.push_back(slot[i]);
  }
  const auto pieces = std::ssize(slot_of_piece);
  starts.push_back(m);
  const at::Tensor of_piece = at::empty({pieces, width}, sums.options());
  const at::Tensor bounds = at::tensor(starts, at::kLong).to(x.device());
  kernel.run({.width = width,
              .x = x.const_data_ptr<float>(),
              .rows = rows.const_data_ptr<int64_t>(),
              .signs = signs.const_data_ptr<double>(),
              .starts = bounds.const_data_ptr<int64_t>(),
              .sums = of_piece.mutable_data_ptr<double>()},
             pieces);
  sums.index_add_(0, at::tensor(slot_of_piece, at::kLong).to(x.device()), of_piece);
}

int64_t list_bytes(int64_t m, int64_t width) {
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float)), kDouble = static_cast<int64_t>(sizeof(double));
  // Rows of float32, the same of float64 and what each takes of the slots; the slots.
  if (kernel_choice(KernelFamily::kClusters) == KernelChoice::kReference) return m * width * (kFloat + 3 * kDouble);
  // The slots, and as many sums of pieces.
  return m * width * 2 * kDouble;
}

void lend_cluster_kernels(const ClusterTable* table) {
  lent = table;
}

}  // namespace vixen::two_means
