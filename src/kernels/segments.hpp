// Rows of one id brought together, so that they are added up in one order: what segment sums go over.
//   T rows of D columns, V rows of the target.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

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

/// sums[s] = rows[order[i]] for i = starts[s] .. starts[s + 1] - 1, added one after another in that order, from zero
/// on: the same bits on every run and in every form. rows float32 [T, D]; order int64 [R] and starts int64 [S + 1],
/// from 0 to R, on their device, for which the host does not wait. -> float32 [S, D].
at::Tensor sum_segments(const at::Tensor& rows, const at::Tensor& order, const at::Tensor& starts);

namespace reference {

at::Tensor sum_segments(const at::Tensor& rows, const at::Tensor& order, const at::Tensor& starts);

}  // namespace reference
}  // namespace vixen
