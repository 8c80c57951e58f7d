// The label side of the exact search on a device: what is prepared once, and how a search reads the rows part by part.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "search/device_candidates.hpp"
#include "search/scaled_rows.hpp"

namespace vixen {

/// Rows that lie on the device have a copy in bfloat16 beside them, unless they are bfloat16 themselves. Rows in host
/// memory are read in parts of part_labels rows: while one is searched, the next is on its way, on a stream of its own.
class DeviceLabels {
 public:
  /// Reads every row once: one that is not finite, or whose norm is above 1e18, is a UserError that names it by its id.
  DeviceLabels(const ScaledRows& rows, int64_t first_label_id, int64_t part_labels);

  int64_t size() const { return rows_.size(); }
  int64_t width() const { return rows_.width(); }
  int64_t first_id() const { return first_id_; }
  at::Device device() const { return rows_.device(); }
  bool streamed() const { return rows_.values.device() != rows_.device(); }
  /// Of the index: the rows, wherever they are, and what lies beside them.
  int64_t bytes() const;

  const at::Tensor& bounds() const { return bounds_; }              // float32 [n, 2]: LabelBound
  const at::Tensor& group_bounds() const { return group_bounds_; }  // float32 [ceil(n / kGroupLabels), 2]

  /// visit() for all parts in the order of their labels, on the current stream; what it is given is of use until it
  /// returns. The host does not wait.
  void for_each_part(const std::function<void(const DevicePart&)>& visit) const;

 private:
  DevicePart resident_part() const;
  void stream(const std::function<void(const DevicePart&)>& visit) const;

  ScaledRows rows_;
  int64_t first_id_;
  int64_t part_labels_;
  at::Tensor divisors_;  // on the device
  at::Tensor rounded_;   // bfloat16 [n, D]; undefined where rows are streamed
  at::Tensor bounds_, group_bounds_;
};

}  // namespace vixen
