// Rows of one id brought together, so that they are added up in one order: what segment sums go over.
//   T rows of D columns, V rows of the target.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

namespace vixen {

/// Segment s: rows order[segments[s]] .. order[segments[s + 1] - 1] of what is added, in that order, which is that of
/// the rows, go to row target_rows[s]. All int64, on the device of the ids.
struct Segments {
  at::Tensor order, segments, target_rows;
};

/// The segments of ids [T], at most `rows` (V) different ones. Rows whose picture [T] is 0 or more have no segment;
/// pictures may be undefined. Each segment has a row. On the host, which waits for the ids of another device: a
/// BugError where an id is no row.
Segments segments_on_host(const at::Tensor& ids, const at::Tensor& pictures, int64_t rows);

/// The same, one segment for each of the V rows, many of them empty: on the ids' device, which nobody waits for. Ids
/// are not looked at.
Segments segments_on_device(const at::Tensor& ids, const at::Tensor& pictures, int64_t rows);

/// sums[s] = rows[order[i]] for i = starts[s] .. starts[s + 1] - 1, one at least, added one after another in that
/// order: the same bits on every run and in every form. rows float32 [T, D]; order and starts are read before this
/// returns, and the host waits for no device. -> float32 [S, D] on the device of the rows.
at::Tensor sum_segments(const at::Tensor& rows, std::span<const int64_t> order, std::span<const int64_t> starts);

namespace reference {

at::Tensor sum_segments(const at::Tensor& rows, std::span<const int64_t> order, std::span<const int64_t> starts);

}  // namespace reference
}  // namespace vixen
