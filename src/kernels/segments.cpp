#include "kernels/segments.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/check.hpp"
#include "device/transfer.hpp"
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

at::Tensor sum_segments(const at::Tensor& rows, std::span<const int64_t> order, std::span<const int64_t> starts) {
  VIXEN_CHECK(rows.dim() == 2 && rows.scalar_type() == at::kFloat && !starts.empty() && starts.front() == 0 &&
                  starts.back() == std::ssize(order),
              "segments of {} rows, {} of them in order, {} starts", rows.size(0), order.size(), starts.size());
  const auto kernel = fused_kernel(kernel::segment_sums, rows);
  if (!kernel) return reference::sum_segments(rows, order, starts);
  // A segment's first row is copied, so that what is added to is no zero; the kernel adds the others.
  const int64_t segments = std::ssize(starts) - 1;
  std::vector<int64_t> first, others, ends(1, 0), targets(static_cast<size_t>(segments));
  for (int64_t s = 0; s < segments; ++s) {
    const auto part = order.subspan(starts[s], starts[s + 1] - starts[s]);
    first.push_back(part.front());
    others.insert(others.end(), part.begin() + 1, part.end());
    ends.push_back(std::ssize(others));
  }
  std::iota(targets.begin(), targets.end(), int64_t{0});
  const auto there = [&](const std::vector<int64_t>& numbers) {
    return to_device(at::tensor(at::IntArrayRef(numbers), at::kLong), rows.device());
  };
  const at::Tensor input = rows.contiguous();
  at::Tensor sums = input.index_select(0, there(first));
  if (others.empty()) return sums;
  const at::Tensor order_there = there(others), ends_there = there(ends), targets_there = there(targets);
  const SegmentSumsArgs args{.storage = Storage::kFloat32,
                             .width = rows.size(1),
                             .x = input.const_data_ptr(),
                             .order = order_there.const_data_ptr<int64_t>(),
                             .segments = ends_there.const_data_ptr<int64_t>(),
                             .target_rows = targets_there.const_data_ptr<int64_t>(),
                             .target = sums.mutable_data_ptr<float>()};
  kernel.run(args, segments, std::max<int64_t>(1, 4096 / std::max<int64_t>(1, rows.size(1))));
  return sums;
}

}  // namespace vixen
