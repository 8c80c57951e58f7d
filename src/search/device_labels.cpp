#include "search/device_labels.hpp"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "base/check.hpp"
#include "device/transfer.hpp"
#include "search/device_arguments.hpp"
#include "search/error_bound.hpp"

namespace vixen {
namespace {

constexpr int64_t kChunkRows = 4096;  // widened at a time

at::Tensor divided_rows(const at::Tensor& values, const at::Tensor& divisors, int64_t begin, int64_t n) {
  return divided(values.narrow(0, begin, n), divisors.defined() ? divisors.narrow(0, begin, n) : divisors);
}

/// All rows of a part in bfloat16.
void round_into(at::Tensor rounded, const at::Tensor& values, const at::Tensor& divisors) {
  if (!divisors.defined()) {
    rounded.copy_(values);
    return;
  }
  for (int64_t begin = 0; begin < values.size(0); begin += kChunkRows) {
    const int64_t n = std::min(kChunkRows, values.size(0) - begin);
    rounded.narrow(0, begin, n).copy_(divided_rows(values, divisors, begin, n));
  }
}

bool is_rounded_already(const at::Tensor& values, const at::Tensor& divisors) {
  return values.scalar_type() == at::kBFloat16 && !divisors.defined();
}

/// A float32 that is not below the value.
float upwards(double value) {
  return static_cast<float>(value * (1 + 0x1p-20));
}

}  // namespace

DeviceLabels::DeviceLabels(const ScaledRows& rows, int64_t first_label_id, int64_t part_labels)
    : rows_(rows), first_id_(first_label_id), part_labels_(part_labels) {
  VIXEN_CHECK(part_labels_ > 0 && part_labels_ % kGroupLabels == 0, "parts of {} labels", part_labels_);
  divisors_ = rows_.divisors;
  if (divisors_.defined() && streamed()) divisors_ = to_device(divisors_, device());
  const int64_t n = size();
  if (!streamed()) {
    rounded_ = rows_.values;
    if (!is_rounded_already(rows_.values, divisors_)) {
      rounded_ = at::empty({n, width()}, rows_.values.options().dtype(at::kBFloat16));
      round_into(rounded_, rows_.values, divisors_);
    }
  }
  const int64_t groups = (n + kGroupLabels - 1) / kGroupLabels;
  at::Tensor bounds = at::zeros({n, 2}, at::kFloat), group_bounds = at::zeros({groups, 2}, at::kFloat);
  auto* bound = bounds.mutable_data_ptr<float>();
  auto* largest = group_bounds.mutable_data_ptr<float>();
  for_each_part([&](const DevicePart& part) {
    for (int64_t begin = 0; begin < part.values.size(0); begin += kChunkRows) {
      const int64_t rows_here = std::min(kChunkRows, part.values.size(0) - begin), first = part.first + begin;
      const RowBounds of = row_bounds(divided_rows(part.values, part.divisors, begin, rows_here),
                                      part.rounded.narrow(0, begin, rows_here), "label", first_id_ + first);
      for (int64_t i = 0; i < rows_here; ++i) {
        const int64_t label = first + i, group = label / kGroupLabels;
        bound[2 * label] = upwards(of.norm[static_cast<size_t>(i)]);
        bound[2 * label + 1] = upwards(of.residual[static_cast<size_t>(i)]);
        for (int64_t b = 0; b < 2; ++b) largest[2 * group + b] = std::max(largest[2 * group + b], bound[2 * label + b]);
      }
    }
  });
  bounds_ = to_device(bounds, device());
  group_bounds_ = to_device(group_bounds, device());
}

int64_t DeviceLabels::bytes() const {
  int64_t sum = rows_.bytes() + static_cast<int64_t>(bounds_.nbytes() + group_bounds_.nbytes());
  if (rounded_.defined() && !rounded_.is_same(rows_.values)) sum += static_cast<int64_t>(rounded_.nbytes());
  return sum;
}

DevicePart DeviceLabels::resident_part() const {
  return {0, rows_.values, divisors_, rounded_};
}

void DeviceLabels::for_each_part(const std::function<void(const DevicePart&)>& visit) const {
  if (size() == 0) return;
  if (streamed()) return stream(visit);
  visit(resident_part());
}

// Two parts lie on the device: one is read by the current stream, the other written by the stream of copies.
void DeviceLabels::stream(const std::function<void(const DevicePart&)>& visit) const {
  const int64_t n = size(), rows = std::min(part_labels_, n), parts = (n + rows - 1) / rows;
  const c10::impl::VirtualGuardImpl streams(device().type());
  const c10::Stream current = streams.getStream(device()), copies = streams.getStreamFromGlobalPool(device());
  const auto options = rows_.values.options().device(device()).pinned_memory(false);
  struct Place {
    at::Tensor values;
    c10::Event free, copied;
  };
  std::array<Place, 2> places{
      Place{at::empty({rows, width()}, options), c10::Event(device().type()), c10::Event(device().type())},
      Place{at::empty({parts > 1 ? rows : 0, width()}, options), c10::Event(device().type()),
            c10::Event(device().type())}};
  at::Tensor rounded;
  if (!is_rounded_already(rows_.values, divisors_)) rounded = at::empty({rows, width()}, options.dtype(at::kBFloat16));
  for (Place& place : places) {
    place.values.record_stream(copies);  // for a visit that throws while the next part is on its way
    place.free.record(current);
  }

  const auto begin_copy = [&](int64_t part) {
    Place& place = places[static_cast<size_t>(part % 2)];
    const int64_t first = part * rows, size_here = std::min(rows, n - first);
    place.free.block(copies);
    const c10::StreamGuard guard(copies);
    place.values.narrow(0, 0, size_here).copy_(rows_.values.narrow(0, first, size_here), /*non_blocking=*/true);
    place.copied.record(copies);
  };
  begin_copy(0);
  for (int64_t part = 0; part < parts; ++part) {
    if (part + 1 < parts) begin_copy(part + 1);
    Place& place = places[static_cast<size_t>(part % 2)];
    const int64_t first = part * rows, size_here = std::min(rows, n - first);
    place.copied.block(current);
    DevicePart here{first, place.values.narrow(0, 0, size_here), {}, {}};
    if (divisors_.defined()) here.divisors = divisors_.narrow(0, first, size_here);
    if (rounded.defined()) {
      here.rounded = rounded.narrow(0, 0, size_here);
      round_into(here.rounded, here.values, here.divisors);
    } else {
      here.rounded = here.values;
    }
    visit(here);
    place.free.record(current);
  }
}

}  // namespace vixen
