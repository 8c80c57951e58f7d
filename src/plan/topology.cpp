#include "plan/topology.hpp"

#include <fmt/format.h>

#include <cmath>

#include "base/check.hpp"

namespace vixen {
namespace {

// Of a collective's call, and of a hop over NVLink, PCIe and InfiniBand: NCCL's tuning table (src/graph/tuning.cc,
// ring, simple protocol). Sockets over Ethernet: assumed.
constexpr double kLaunch = 8.4e-6;
constexpr double kNvlinkHop = 3.4e-6, kPcieHop = 5.7e-6, kInfinibandHop = 9.6e-6, kEthernetHop = 30e-6;
// Data sheets: PCI Express 4.0 x16, InfiniBand NDR (400 Gb/s) and HDR (200 Gb/s), 100 Gb/s Ethernet, a direction. What
// large messages reach of them: assumed.
constexpr double kPcieRate = 31.5e9, kNdrRate = 50e9, kHdrRate = 25e9, kEthernetRate = 12.5e9;
constexpr double kReached = 0.8;

// What is between nodes: adapters and what they are.
struct Network {
  double hop = 0;
  double adapter_rate = 0;
  bool adapter_a_rank = false;  // else one a node
  const char* name = "";
};

bool has_nvlink(Fabric fabric) {
  return fabric == Fabric::kNvlinkInfiniband || fabric == Fabric::kNvlinkEthernet;
}

Network network_of(Fabric fabric) {
  switch (fabric) {
    case Fabric::kNvlinkInfiniband:
      return {kInfinibandHop, kNdrRate, true, "InfiniBand NDR, an adapter a GPU"};
    case Fabric::kPcieInfiniband:
      return {kInfinibandHop, kHdrRate, false, "InfiniBand HDR, an adapter a node"};
    case Fabric::kNvlinkEthernet:
    case Fabric::kPcieEthernet:
      return {kEthernetHop, kEthernetRate, false, "Ethernet 100 Gb/s, an adapter a node"};
  }
  VIXEN_CHECK(false, "fabric {}", static_cast<int>(fabric));
}

double part(int64_t others) {
  return static_cast<double>(others - 1) / static_cast<double>(others);
}

}  // namespace

Topology make_topology(const PlanConfig& plan, const DeviceRates& device, int64_t nodes, int64_t node_ranks) {
  VIXEN_CHECK(nodes >= 1 && node_ranks >= 1, "{} nodes of {} ranks", nodes, node_ranks);
  Topology topology{nodes, node_ranks, {}, {}, {}, {}};
  const bool own_rate = has_nvlink(plan.fabric) || plan.bandwidth_gbs > 0 || !plan.rates.empty();
  topology.node = {has_nvlink(plan.fabric) ? kNvlinkHop : kPcieHop,
                   own_rate ? device.reduce_rate : kReached * kPcieRate};
  topology.node_source = plan.bandwidth_gbs > 0 ? "plan.bandwidth_gbs"
                         : own_rate             ? device.source
                                    : fmt::format("data sheet of PCIe 4.0 x16, {:.0f}% reached", 100 * kReached);
  const Network network = network_of(plan.fabric);
  const double adapters = network.adapter_a_rank ? static_cast<double>(node_ranks) : 1;
  topology.network = {network.hop, kReached * network.adapter_rate * adapters};
  topology.network_source = fmt::format("data sheet of {}, {:.0f}% reached", network.name, 100 * kReached);
  if (plan.network_gbs > 0) {
    topology.network.bytes_per_second = plan.network_gbs * 1e9;
    topology.network_source = "plan.network_gbs";
  }
  if (plan.node_us > 0) topology.node.latency_seconds = plan.node_us * 1e-6;
  if (plan.network_us > 0) topology.network.latency_seconds = plan.network_us * 1e-6;
  return topology;
}

LinkSeconds& LinkSeconds::operator+=(const LinkSeconds& other) {
  latency += other.latency;
  node += other.node;
  network += other.network;
  return *this;
}

LinkSeconds collective_seconds(const Topology& topology, Collective collective, double payload_bytes) {
  const auto [n, g] = std::pair(topology.nodes, topology.node_ranks);
  const int64_t w = topology.world_size();
  if (w == 1) return {};
  const auto latency = [&](double within, double across) {
    return kLaunch + within * topology.node.latency_seconds + across * topology.network.latency_seconds;
  };
  const double within = static_cast<double>(g - 1), across = static_cast<double>(n - 1);
  const double inside = payload_bytes / topology.node.bytes_per_second;
  const double between = payload_bytes / topology.network.bytes_per_second;
  switch (collective) {
    case Collective::kAllReduceSum:
      return {latency(2 * within, 2 * std::ceil(std::log2(n))), 2 * part(g) * inside, 2 * part(n) * between};
    case Collective::kAllGatherRows:
    case Collective::kReduceScatterRows:
      return {latency(static_cast<double>(w - n), across), part(g) * inside, part(n) * between};
    case Collective::kAllToAllRows: {
      const double far = static_cast<double>(w - g) / static_cast<double>(w - 1);
      return {latency(within, across), (1 - far) * inside, far * static_cast<double>(g) * between};
    }
    default:
      // Between hosts, every rank's bytes to every node.
      return {latency(within, across), within * inside, across * static_cast<double>(g) * between};
  }
}

}  // namespace vixen
