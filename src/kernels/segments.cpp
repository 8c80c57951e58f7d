#include "kernels/segments.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "base/check.hpp"
#include "kernels/dispatch.hpp"

namespace vixen {

Segments segments_on_host(const at::Tensor& ids, const at::Tensor& pictures, int64_t rows) {
  const at::Tensor host_ids = ids.cpu(), host_pictures = pictures.defined() ? pictures.cpu() : pictures;
  const int64_t* id = host_ids.const_data_ptr<int64_t>();
  const int64_t* picture = pictures.defined() ? host_pictures.const_data_ptr<int64_t>() : nullptr;
  std::vector<int64_t> order;
  order.reserve(ids.numel());
  for (int64_t t = 0; t < ids.numel(); ++t) {
    if (picture && picture[t] >= 0) continue;
    VIXEN_CHECK(id[t] >= 0 && id[t] < rows, "row {} of {} at position {}", id[t], rows, t);
    order.push_back(t);
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return id[a] < id[b]; });
  std::vector<int64_t> segments, targets;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && id[order[i]] == targets.back()) continue;
    segments.push_back(static_cast<int64_t>(i));
    targets.push_back(id[order[i]]);
  }
  segments.push_back(static_cast<int64_t>(order.size()));
  const auto there = [&](std::vector<int64_t>& numbers) {
    return at::from_blob(numbers.data(), {static_cast<int64_t>(numbers.size())}, at::kLong)
        .to(ids.device(), at::kLong, /*non_blocking=*/false, /*copy=*/true);
  };
  return {there(order), there(segments), there(targets)};
}

Segments segments_on_device(const at::Tensor& ids, const at::Tensor& pictures, int64_t rows) {
  // Pictures go behind the last row, where no segment ends.
  const at::Tensor keys = pictures.defined() ? ids.masked_fill(pictures.ge(0), rows) : ids;
  const auto [sorted, order] = at::sort(keys, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor all = at::arange(rows + 1, ids.options());
  return {order, at::searchsorted(sorted, all), all.narrow(0, 0, rows)};
}

at::Tensor sum_segments(const at::Tensor& rows, const at::Tensor& order, const at::Tensor& starts) {
  VIXEN_CHECK(rows.dim() == 2 && rows.scalar_type() == at::kFloat && order.scalar_type() == at::kLong &&
                  starts.scalar_type() == at::kLong && starts.numel() >= 1,
              "segments of {} rows, {} of them in order, {} starts", rows.size(0), order.numel(), starts.numel());
  const auto kernel = fused_kernel(kernel::segment_sums, rows);
  if (!kernel) return reference::sum_segments(rows, order, starts);
  const int64_t segments = starts.numel() - 1;
  const at::Tensor input = rows.contiguous(), all = order.contiguous(), ends = starts.contiguous();
  const at::Tensor targets = at::arange(segments, order.options());
  at::Tensor sums = at::zeros({segments, rows.size(1)}, rows.options());
  const SegmentSumsArgs args{.storage = Storage::kFloat32,
                             .width = rows.size(1),
                             .x = input.const_data_ptr(),
                             .order = all.const_data_ptr<int64_t>(),
                             .segments = ends.const_data_ptr<int64_t>(),
                             .target_rows = targets.const_data_ptr<int64_t>(),
                             .target = sums.mutable_data_ptr<float>()};
  kernel.run(args, segments, std::max<int64_t>(1, 4096 / std::max<int64_t>(1, rows.size(1))));
  return sums;
}

}  // namespace vixen
