// Links and what collectives take over them, against sums by hand.
#include "plan/topology.hpp"

#include <gtest/gtest.h>

namespace vixen {
namespace {

DeviceRates h100() {
  DeviceRates device;
  device.reduce_rate = 370e9;
  device.source = "a data sheet";
  return device;
}

constexpr double kLaunch = 8.4e-6;

TEST(Topology, LinksAreThoseOfTheFabric) {
  PlanConfig plan;
  const auto dgx = make_topology(plan, h100(), 4, 8);
  EXPECT_EQ(dgx.world_size(), 32);
  EXPECT_DOUBLE_EQ(dgx.node.bytes_per_second, 370e9);
  EXPECT_DOUBLE_EQ(dgx.network.bytes_per_second, 8 * 0.8 * 50e9) << "an adapter a GPU";
  EXPECT_EQ(dgx.node_source, "a data sheet");
  plan.fabric = Fabric::kPcieEthernet;
  const auto plain = make_topology(plan, h100(), 4, 8);
  EXPECT_DOUBLE_EQ(plain.node.bytes_per_second, 0.8 * 31.5e9) << "no NVLink";
  EXPECT_DOUBLE_EQ(plain.network.bytes_per_second, 0.8 * 12.5e9) << "one for all GPUs of a node";
  EXPECT_GT(plain.node.latency_seconds, dgx.node.latency_seconds);
  EXPECT_GT(plain.network.latency_seconds, dgx.network.latency_seconds);
}

TEST(Topology, KeysGoOverTheFabric) {
  PlanConfig plan;
  plan.fabric = Fabric::kPcieInfiniband;
  plan.bandwidth_gbs = 20;
  plan.network_gbs = 11;
  plan.node_us = 2;
  plan.network_us = 7;
  auto device = h100();
  device.reduce_rate = 20e9;  // as device_rates() takes plan.bandwidth_gbs
  const auto topology = make_topology(plan, device, 2, 4);
  EXPECT_DOUBLE_EQ(topology.node.bytes_per_second, 20e9);
  EXPECT_DOUBLE_EQ(topology.network.bytes_per_second, 11e9);
  EXPECT_DOUBLE_EQ(topology.node.latency_seconds, 2e-6);
  EXPECT_DOUBLE_EQ(topology.network.latency_seconds, 7e-6);
  EXPECT_EQ(topology.node_source, "plan.bandwidth_gbs");
  EXPECT_EQ(topology.network_source, "plan.network_gbs");
}

TEST(Topology, ASumGoesInsideTheNodesThenAcross) {
  const Topology four{4, 8, {1e-6, 100e9}, {10e-6, 50e9}, {}, {}};
  const auto sum = collective_seconds(four, Collective::kAllReduceSum, 1e9);
  EXPECT_NEAR(sum.node, 2 * 7.0 / 8 * 0.01, 1e-12);
  EXPECT_NEAR(sum.network, 2 * 3.0 / 4 * 0.02, 1e-12);
  EXPECT_NEAR(sum.latency, kLaunch + 2 * (7 * 1e-6 + 2 * 10e-6), 1e-12);
  const auto gather = collective_seconds(four, Collective::kAllGatherRows, 1e9);
  EXPECT_NEAR(gather.node, 7.0 / 8 * 0.01, 1e-12);
  EXPECT_NEAR(gather.network, 3.0 / 4 * 0.02, 1e-12);
  EXPECT_NEAR(gather.latency, kLaunch + 28 * 1e-6 + 3 * 10e-6, 1e-12);
  EXPECT_DOUBLE_EQ(collective_seconds(four, Collective::kReduceScatterRows, 1e9).total(), gather.total());
  // 31 others: 7 in the node, 24 beyond, through the link that 8 share.
  const auto rows = collective_seconds(four, Collective::kAllToAllRows, 31e6);
  EXPECT_NEAR(rows.node, 7e6 / 100e9, 1e-12);
  EXPECT_NEAR(rows.network, 8 * 24e6 / 50e9, 1e-12);
}

TEST(Topology, OneNodeUsesNoNetworkAndOneRankNothing) {
  const Topology node{1, 8, {1e-6, 100e9}, {1, 1}, {}, {}}, rank{1, 1, {1, 1}, {1, 1}, {}, {}},
      singles{8, 1, {1, 1}, {10e-6, 50e9}, {}, {}};
  for (const auto collective : {Collective::kAllReduceSum, Collective::kAllGatherRows, Collective::kReduceScatterRows,
                                Collective::kAllToAllRows, Collective::kAllGatherHost}) {
    const auto inside = collective_seconds(node, collective, 1e6);
    EXPECT_EQ(inside.network, 0) << name_of(collective);
    EXPECT_GT(inside.node, 0) << name_of(collective);
    EXPECT_LT(inside.total(), 1e-3) << name_of(collective);
    EXPECT_EQ(collective_seconds(rank, collective, 1e6).total(), 0) << name_of(collective);
    const auto across = collective_seconds(singles, collective, 1e6);
    EXPECT_EQ(across.node, 0) << name_of(collective);
    EXPECT_LT(across.total(), 1e-2) << name_of(collective);
  }
}

}  // namespace
}  // namespace vixen
