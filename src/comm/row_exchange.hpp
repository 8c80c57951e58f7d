// What travels between ranks when rows of a sharded table are asked for, added to or written: index lists alone. Ids
// that all ranks know, those of a batch, are planned by each for itself, ahead of the step that uses them and on any
// thread; ids that only their rank knows take two messages between hosts.
//   W ranks, m ids of this rank, D width
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "comm/communicator.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Rows of ids to whoever asks for them. Each distinct row travels once for each asking rank.
struct RowGather {
  std::vector<int64_t> sent, received;  // [W] rows for, and from, each rank
  at::Tensor rows;                      // int64 [sum sent], where the table's rows are: local rows, as they are sent
  at::Tensor places;                    // int64 [m] device: of the row of each id among those received
};

/// Rows of this rank added to the rows of their ids at the owners.
struct RowSums {
  std::vector<int64_t> sent, received;  // [W] rows for, and from, each rank
  at::Tensor order;                     // int64 [m] device: the caller's rows, as they are sent
  at::Tensor places;                    // int64 [sum received] device: received rows by id; of one id by rank, place
  at::Tensor starts;                    // int64 [n + 1] device: where each id's begin in `places`, and their number
  at::Tensor targets;                   // int64 [n] device: the local row of each id
};

/// Rows of a list that all ranks hold, those written here alone.
struct RowWrites {
  at::Tensor sources;  // int64 [k] device: rows of the list
  at::Tensor targets;  // int64 [k], where the table's rows are: local rows, each once
};

/// Whose exchange: `rows` is the device of the table's rows, `device` that of the rows that travel.
struct RowOwner {
  RowShards shards;
  int rank = 0;
  at::Device rows = at::kCPU, device = at::kCPU;
};

/// The exchange in which rank r asks for, or adds to, part batch_slice() of ids that are the same on all ranks.
/// BugError for an id that is no row. Local; index lists go up to the device behind the current stream.
RowGather plan_batch_gather(const RowOwner& owner, std::span<const int64_t> batch_ids);
RowSums plan_batch_sums(const RowOwner& owner, std::span<const int64_t> batch_ids);

/// The exchange for ids of this rank. BugError for an id that is no row. Collective.
RowGather plan_gather(const RowOwner& owner, std::span<const int64_t> ids, Communicator& comm);
RowSums plan_sums(const RowOwner& owner, std::span<const int64_t> ids, Communicator& comm);

/// The last place of each of this rank's rows in ids that are the same on all ranks. BugError for an id that is no row.
/// Local, as the first two.
RowWrites plan_writes(const RowOwner& owner, std::span<const int64_t> ids);

}  // namespace vixen
