#include "comm/row_exchange.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "base/check.hpp"
#include "device/transfer.hpp"

namespace vixen {
namespace {

using Ids = std::span<const int64_t>;

// Ids for other ranks, by rank: ascending ids are ascending owners.
struct Outgoing {
  std::vector<int64_t> ids, counts;
};
// Local rows that other ranks mean, by rank.
struct Incoming {
  std::vector<int64_t> rows, counts;
};

void check_ids(Ids ids, int64_t n_rows) {
  for (size_t i = 0; i < ids.size(); ++i)
    VIXEN_CHECK(ids[i] >= 0 && ids[i] < n_rows, "id {} (place {}) of {} rows", ids[i], i, n_rows);
}

Ids part_of(Ids batch_ids, int rank, int world_size) {
  const RowRange slice = batch_slice(std::ssize(batch_ids), rank, world_size);
  return batch_ids.subspan(static_cast<size_t>(slice.begin), static_cast<size_t>(slice.size()));
}

std::vector<int64_t> sorted(std::vector<int64_t> ids, bool distinct) {
  std::sort(ids.begin(), ids.end());
  if (distinct) ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

Outgoing outgoing(const RowOwner& owner, std::vector<int64_t> ids) {
  Outgoing out{std::move(ids), std::vector<int64_t>(static_cast<size_t>(owner.shards.world_size()), 0)};
  for (const int64_t id : out.ids) ++out.counts[static_cast<size_t>(owner.shards.owner(id))];
  return out;
}

// What the other ranks' outgoing() is for this one, from what all ranks know.
Incoming known(const RowOwner& owner, Ids batch_ids, bool distinct) {
  const RowRange own = owner.shards.range(owner.rank);
  const int world_size = owner.shards.world_size();
  Incoming in;
  for (int rank = 0; rank < world_size; ++rank) {
    std::vector<int64_t> mine;
    for (const int64_t id : part_of(batch_ids, rank, world_size))
      if (own.contains(id)) mine.push_back(id - own.begin);
    mine = sorted(std::move(mine), distinct);
    in.counts.push_back(std::ssize(mine));
    in.rows.insert(in.rows.end(), mine.begin(), mine.end());
  }
  return in;
}

// The same by messages.
Incoming told(const RowOwner& owner, const Outgoing& out, Communicator& comm) {
  Incoming in;
  in.counts = comm.all_to_all_host(out.counts);
  in.rows = comm.all_to_all_host(out.ids, out.counts, in.counts);
  const int64_t first = owner.shards.range(owner.rank).begin;
  for (int64_t& row : in.rows) row -= first;
  return in;
}

at::Tensor on(at::Device device, const std::vector<int64_t>& values) {
  return to_device(at::tensor(at::IntArrayRef(values), at::kLong), device);
}

// Indices 0..n-1 by key (stable), and where each run of one key begins, with n at the end.
std::pair<std::vector<int64_t>, std::vector<int64_t>> group_by(Ids keys) {
  std::vector<int64_t> order(keys.size()), starts;
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return keys[static_cast<size_t>(a)] < keys[static_cast<size_t>(b)]; });
  for (size_t i = 0; i < order.size(); ++i)
    if (i == 0 || keys[static_cast<size_t>(order[i])] != keys[static_cast<size_t>(order[i - 1])])
      starts.push_back(static_cast<int64_t>(i));
  starts.push_back(std::ssize(keys));
  return {std::move(order), std::move(starts)};
}

RowGather gather_of(const RowOwner& owner, Ids ids, const Outgoing& out, const Incoming& in) {
  std::vector<int64_t> places(ids.size());
  for (size_t i = 0; i < ids.size(); ++i)
    places[i] = std::lower_bound(out.ids.begin(), out.ids.end(), ids[i]) - out.ids.begin();
  return {in.counts, out.counts, on(owner.rows, in.rows), on(owner.device, places)};
}

RowSums sums_of(const RowOwner& owner, const std::vector<int64_t>& order, const Outgoing& out, const Incoming& in) {
  const auto [places, starts] = group_by(in.rows);
  std::vector<int64_t> targets;
  for (size_t g = 0; g + 1 < starts.size(); ++g)
    targets.push_back(in.rows[static_cast<size_t>(places[static_cast<size_t>(starts[g])])]);
  return {out.counts,
          in.counts,
          on(owner.device, order),
          on(owner.device, places),
          on(owner.device, starts),
          on(owner.device, targets)};
}

// The ids of this rank in the order that its rows are sent in. Every row travels: were repeats summed before, the
// brackets of the sum, hence its last bits, would depend on which ranks the rows of one id lie on.
std::vector<int64_t> picked(Ids ids, const std::vector<int64_t>& order) {
  std::vector<int64_t> result;
  result.reserve(order.size());
  for (const int64_t i : order) result.push_back(ids[static_cast<size_t>(i)]);
  return result;
}

}  // namespace

RowGather plan_batch_gather(const RowOwner& owner, std::span<const int64_t> batch_ids) {
  check_ids(batch_ids, owner.shards.n_rows());
  const Ids ids = part_of(batch_ids, owner.rank, owner.shards.world_size());
  const Outgoing out = outgoing(owner, sorted({ids.begin(), ids.end()}, /*distinct=*/true));
  return gather_of(owner, ids, out, known(owner, batch_ids, /*distinct=*/true));
}

RowGather plan_gather(const RowOwner& owner, std::span<const int64_t> ids, Communicator& comm) {
  check_ids(ids, owner.shards.n_rows());
  const Outgoing out = outgoing(owner, sorted({ids.begin(), ids.end()}, /*distinct=*/true));
  return gather_of(owner, ids, out, told(owner, out, comm));
}

RowSums plan_batch_sums(const RowOwner& owner, std::span<const int64_t> batch_ids) {
  check_ids(batch_ids, owner.shards.n_rows());
  const Ids ids = part_of(batch_ids, owner.rank, owner.shards.world_size());
  const std::vector<int64_t> order = group_by(ids).first;
  return sums_of(owner, order, outgoing(owner, picked(ids, order)), known(owner, batch_ids, /*distinct=*/false));
}

RowSums plan_sums(const RowOwner& owner, std::span<const int64_t> ids, Communicator& comm) {
  check_ids(ids, owner.shards.n_rows());
  const std::vector<int64_t> order = group_by(ids).first;
  const Outgoing out = outgoing(owner, picked(ids, order));
  return sums_of(owner, order, out, told(owner, out, comm));
}

RowWrites plan_writes(const RowOwner& owner, std::span<const int64_t> ids) {
  check_ids(ids, owner.shards.n_rows());
  const RowRange own = owner.shards.range(owner.rank);
  std::vector<int64_t> own_rows, places;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!own.contains(ids[i])) continue;
    own_rows.push_back(ids[i] - own.begin);
    places.push_back(static_cast<int64_t>(i));
  }
  // The last place of each row: index writes with repeats have no order of their own.
  const auto [order, starts] = group_by(own_rows);
  std::vector<int64_t> sources, targets;
  for (size_t g = 0; g + 1 < starts.size(); ++g) {
    const auto last = static_cast<size_t>(order[static_cast<size_t>(starts[g + 1] - 1)]);
    targets.push_back(own_rows[last]);
    sources.push_back(places[last]);
  }
  return {on(owner.device, sources), on(owner.rows, targets)};
}

}  // namespace vixen
