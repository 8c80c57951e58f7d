// The links between ranks, within a node and between nodes, and how long a collective takes over them: latencies and
// bytes, inside the nodes first, then across (an alpha-beta model).
//   W = N G ranks: N nodes of G
#pragma once

#include <cstdint>
#include <string>

#include "comm/message_counts.hpp"
#include "config/config.hpp"
#include "plan/device_rates.hpp"

namespace vixen {

struct Link {
  double latency_seconds = 0;  // of a message
  double bytes_per_second = 0;
};

struct Topology {
  int64_t nodes = 1, node_ranks = 1;
  Link node;     // of a rank to others of its node, a direction
  Link network;  // of a node to all others, a direction, all of its adapters together
  std::string node_source, network_source;

  int64_t world_size() const { return nodes * node_ranks; }
};

/// So many nodes of so many ranks with the links of plan.fabric, over which plan.bandwidth_gbs, plan.node_us,
/// plan.network_gbs and plan.network_us go. NVLink: what `device` says of its all-reduce.
Topology make_topology(const PlanConfig& plan, const DeviceRates& device, int64_t nodes, int64_t node_ranks);

/// Seconds of a collective, by what they are spent on.
struct LinkSeconds {
  double latency = 0, node = 0, network = 0;

  double total() const { return latency + node + network; }
  LinkSeconds& operator+=(const LinkSeconds& other);
};

/// payload_bytes: kAllReduceSum, kReduceScatterRows: of the tensor that every rank gives; kAllGatherRows: of all rows;
/// kAllToAllRows: what a rank sends to others, spread evenly over them; else what every rank tells all others.
///   sum:           2 ((G-1) a + ceil(log2(N)) A) + 2 (G-1)/G n/b + 2 (N-1)/N n/B
///   all rows:      (W-N) a + (N-1) A + (G-1)/G n/b + (N-1)/N n/B; the same for scattered sums
///   rows for each: (G-1) a + (N-1) A + near n/b + far G n/B, near and far being the parts for ranks of the own and of
///                  other nodes
/// with latency a and rate b of a rank's link within the node, A and B of the node's; and a launch. Latencies are
/// counted as NCCL's tuner does (src/graph/tuning.cc): trees for sums, rings for rows. One rank: nothing.
LinkSeconds collective_seconds(const Topology& topology, Collective collective, double payload_bytes);

}  // namespace vixen
