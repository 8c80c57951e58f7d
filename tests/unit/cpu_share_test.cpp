// How a node's CPUs are dealt to its ranks: W = 1..9, even and uneven counts, hardware threads, NUMA nodes, masks of
// every relation; lists; what the kernel's files say.
#include "device/cpu_share.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <numeric>
#include <set>

#include "base/check.hpp"
#include "device/cpu_affinity.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

using Masks = std::vector<std::vector<int>>;

/// `nodes` NUMA nodes of `cores` cores with `threads` hardware threads, numbered as the kernel does: first all cores'
/// first threads, then the second ones.
std::vector<CpuPlace> machine(int nodes, int cores, int threads) {
  std::vector<CpuPlace> places;
  for (int thread = 0; thread < threads; ++thread)
    for (int core = 0; core < nodes * cores; ++core)
      places.push_back({thread * nodes * cores + core, core, core / cores});
  return places;
}

std::vector<int> cpus_of(const std::vector<CpuPlace>& places) {
  std::vector<int> cpus;
  cpus.reserve(places.size());
  for (const auto& place : places) cpus.push_back(place.cpu);
  std::sort(cpus.begin(), cpus.end());
  return cpus;
}

CpuShares deal(const Masks& masks, const std::vector<CpuPlace>& places, std::vector<int> wanted = {}) {
  wanted.resize(masks.size(), -1);
  return share_cpus(masks, wanted, places);
}

/// What holds of every deal.
void check_rules(const Masks& masks, const CpuShares& shares) {
  std::set<int> used;
  for (size_t r = 0; r < masks.size(); ++r) {
    const auto& share = shares.cpus[r];
    ASSERT_FALSE(share.empty()) << "rank " << r;
    EXPECT_TRUE(std::is_sorted(share.begin(), share.end()));
    EXPECT_TRUE(std::includes(masks[r].begin(), masks[r].end(), share.begin(), share.end())) << "rank " << r;
    EXPECT_GE(shares.threads[r], 1);
    if (shares.shared) continue;
    EXPECT_EQ(shares.threads[r], static_cast<int>(share.size()));
    for (const int cpu : share) EXPECT_TRUE(used.insert(cpu).second) << "CPU " << cpu << " has two ranks";
  }
}

TEST(ShareCpus, OneMaskIsDealtWholeEvenlyAndByCores) {
  for (const int nodes : {1, 2, 4})
    for (const int cores : {1, 2, 3, 8, 13})
      for (const int threads : {1, 2})
        for (size_t ranks = 1; ranks <= 9; ++ranks) {
          SCOPED_TRACE(fmt::format("{} nodes, {} cores, {} threads, {} ranks", nodes, cores, threads, ranks));
          const auto places = machine(nodes, cores, threads);
          const Masks masks(ranks, cpus_of(places));
          const auto shares = deal(masks, places);
          check_rules(masks, shares);
          const size_t n_cores = static_cast<size_t>(nodes * cores), n_cpus = places.size();
          EXPECT_EQ(shares.shared, ranks > n_cpus);
          if (shares.shared) {
            for (const int each : shares.threads) EXPECT_EQ(each, 1);
            continue;
          }
          std::set<int> used;
          size_t least = n_cpus, most = 0;
          std::map<int, std::set<size_t>> ranks_of_core;
          for (size_t r = 0; r < ranks; ++r) {
            used.insert(shares.cpus[r].begin(), shares.cpus[r].end());
            least = std::min(least, shares.cpus[r].size()), most = std::max(most, shares.cpus[r].size());
            for (const auto& place : places)
              if (std::count(shares.cpus[r].begin(), shares.cpus[r].end(), place.cpu))
                ranks_of_core[place.core].insert(r);
          }
          EXPECT_EQ(used.size(), n_cpus) << "CPUs left idle";
          EXPECT_LE(most - least, ranks <= n_cores ? static_cast<size_t>(threads) : 1);
          if (ranks > n_cores) continue;
          for (const auto& [core, users] : ranks_of_core) EXPECT_EQ(users.size(), 1U) << "core " << core;
        }
}

TEST(ShareCpus, RanksStayWithinNumaNodesWhereTheyCan) {
  const auto places = machine(2, 8, 2);  // node 0: CPUs 0-7 and 16-23
  const auto shares = deal(Masks(4, cpus_of(places)), places);
  EXPECT_EQ(cpu_list_text(shares.cpus[0]), "0-3,16-19");
  EXPECT_EQ(cpu_list_text(shares.cpus[1]), "4-7,20-23");
  EXPECT_EQ(cpu_list_text(shares.cpus[2]), "8-11,24-27");
  EXPECT_EQ(cpu_list_text(shares.cpus[3]), "12-15,28-31");
}

TEST(ShareCpus, RanksGetCpusNearTheirGpus) {
  const auto places = machine(2, 4, 1);
  // The GPUs' order need not be that of the nodes.
  auto shares = deal(Masks(4, cpus_of(places)), places, {1, 1, 0, 0});
  EXPECT_EQ(shares.cpus, (Masks{{4, 5}, {6, 7}, {0, 1}, {2, 3}}));
  // One rank alone takes its GPU's node; ranks without a wish take what is left.
  EXPECT_EQ(deal({cpus_of(places)}, places, {1}).cpus, (Masks{{4, 5, 6, 7}}));
  shares = deal(Masks(2, cpus_of(places)), places, {1, -1});
  EXPECT_EQ(shares.cpus, (Masks{{4, 5, 6, 7}, {0, 1, 2, 3}}));
  // A node with too few CPUs for the ranks that want it, or with none that they may use: the wish is left aside.
  shares = deal(Masks(5, cpus_of(places)), places, {0, 0, 0, 0, 0});
  check_rules(Masks(5, cpus_of(places)), shares);
  EXPECT_FALSE(shares.shared);
  EXPECT_EQ(deal({{4, 5}}, places, {0}).cpus, (Masks{{4, 5}}));
  EXPECT_EQ(deal({{4, 5}}, places, {7}).cpus, (Masks{{4, 5}}));
}

TEST(ShareCpus, DisjointMasksStayAsTheyAre) {
  const auto places = machine(1, 8, 1);
  const Masks masks = {{0, 1, 2}, {3}, {4, 5, 6, 7}};
  const auto shares = deal(masks, places);
  EXPECT_EQ(shares.cpus, masks);
  EXPECT_EQ(shares.threads, (std::vector<int>{3, 1, 4}));
}

TEST(ShareCpus, OverlappingMasksLeaveNobodyWithoutWhereThereIsAWay) {
  const auto places = machine(1, 6, 1);
  // Rank 0 could take everything; rank 2 has one CPU that both others may use too.
  Masks masks = {{0, 1, 2, 3, 4, 5}, {1, 2}, {1}};
  auto shares = deal(masks, places);
  check_rules(masks, shares);
  EXPECT_EQ(shares.cpus, (Masks{{0, 3, 4, 5}, {2}, {1}}));
  // Two ranks on one CPU share it; the third keeps what is its own.
  masks = {{0}, {0}, {0, 1, 2}};
  shares = deal(masks, places);
  EXPECT_TRUE(shares.shared);
  EXPECT_EQ(shares.cpus, (Masks{{0}, {0}, {1, 2}}));
  EXPECT_EQ(shares.threads, (std::vector<int>{1, 1, 2}));
  // Hardware threads of one core, where masks split it.
  masks = {{0, 2}, {2}};
  shares = deal(masks, machine(1, 2, 2));
  EXPECT_EQ(shares.cpus, (Masks{{0}, {2}}));
}

TEST(ShareCpus, EveryMixOfSmallMasksKeepsTheRules) {
  const auto places = machine(2, 2, 1);
  for (int bits = 0; bits < 15 * 15 * 15; ++bits) {
    Masks masks;
    for (int rest = bits, r = 0; r < 3; ++r, rest /= 15) {
      masks.emplace_back();
      for (int cpu = 0; cpu < 4; ++cpu)
        if ((rest % 15 + 1) >> cpu & 1) masks.back().push_back(cpu);
    }
    SCOPED_TRACE(
        fmt::format("{} | {} | {}", cpu_list_text(masks[0]), cpu_list_text(masks[1]), cpu_list_text(masks[2])));
    const auto shares = deal(masks, places);
    check_rules(masks, shares);
    // Hall: there is a way when every set of ranks has as many CPUs as ranks.
    bool enough = true;
    for (int set = 1; set < 8; ++set) {
      std::set<int> all;
      int count = 0;
      for (size_t r = 0; r < 3; ++r)
        if (set >> r & 1) all.insert(masks[r].begin(), masks[r].end()), ++count;
      enough = enough && static_cast<int>(all.size()) >= count;
    }
    EXPECT_EQ(shares.shared, !enough);
    if (HasFailure()) return;
  }
}

TEST(ShareCpus, UnknownCpusAndEmptyMasks) {
  const auto shares = deal({{100, 101}, {100, 101}, {}}, {});
  EXPECT_EQ(shares.cpus, (Masks{{100}, {101}, {}}));
  EXPECT_EQ(shares.threads, (std::vector<int>{1, 1, 1}));
}

TEST(LimitThreads, DealsTheLimitAmongTheRanks) {
  const auto threads = [](std::vector<int> before, int limit) {
    CpuShares shares;
    shares.threads = std::move(before);
    limit_threads(shares, limit);
    return shares.threads;
  };
  EXPECT_EQ(threads({8}, 0), (std::vector<int>{8}));
  EXPECT_EQ(threads({8}, 3), (std::vector<int>{3}));
  EXPECT_EQ(threads({8, 8}, 4), (std::vector<int>{2, 2}));
  EXPECT_EQ(threads({8, 1}, 100), (std::vector<int>{8, 1}));
  EXPECT_EQ(threads({4, 4, 4}, 2), (std::vector<int>{1, 1, 1}));
}

TEST(CpuList, IsReadAndWrittenAsTheKernelDoes) {
  for (const char* text : {"", "0", "0-1", "0,2", "0-3,8-11,15"}) EXPECT_EQ(cpu_list_text(parse_cpu_list(text)), text);
  EXPECT_EQ(parse_cpu_list("3-1"), std::vector<int>());
  EXPECT_EQ(parse_cpu_list("0,x"), std::vector<int>{0});
  EXPECT_EQ(parse_cpu_list("0-99999999999"), std::vector<int>());
}

class KernelFiles : public ::testing::Test {
 protected:
  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root() / path).parent_path());
    std::ofstream(root() / path) << text << "\n";
  }
  std::filesystem::path root() const { return folder_.path(); }
  test::TempDir folder_;
};

TEST_F(KernelFiles, PlacesOfCpus) {
  put("devices/system/node/node0/cpulist", "0-1");
  put("devices/system/node/node1/cpulist", "2-3");
  put("devices/system/node/possible", "0-1");
  for (const int cpu : {0, 2}) put(fmt::format("devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu), "0,2");
  const auto places = cpu_places({0, 2, 3}, root());
  ASSERT_EQ(places.size(), 3U);
  EXPECT_EQ(places[0].core, places[1].core);
  EXPECT_NE(places[2].core, places[0].core);
  EXPECT_EQ(places[0].node, 0);
  EXPECT_EQ(places[2].node, 1);
  EXPECT_EQ(cpu_places({5}, root() / "none").at(0).node, 0);
}

TEST_F(KernelFiles, NumaNodeOfAGpu) {
  put("bus/pci/devices/0000:3b:00.0/numa_node", "1");
  put("bus/pci/devices/0000:5e:00.0/numa_node", "-1");
  EXPECT_EQ(numa_node_of("0000:3B:00.0", root()), 1);
  EXPECT_EQ(numa_node_of("0000:5E:00.0", root()), -1);
  EXPECT_EQ(numa_node_of("0000:99:00.0", root()), -1);
}

TEST_F(KernelFiles, QuotaOfTheControlGroups) {
  EXPECT_EQ(cpu_quota("0::/\n", root()), 0);
  put("job/step/cpu.max", "max 100000");
  EXPECT_EQ(cpu_quota("0::/job/step\n", root()), 0);
  put("job/cpu.max", "350000 100000");
  EXPECT_EQ(cpu_quota("0::/job/step\n", root()), 4);
  put("job/step/cpu.max", "150000 100000");
  EXPECT_EQ(cpu_quota("0::/job/step\n", root()), 2);
  EXPECT_EQ(cpu_quota("0::/other\n", root()), 0);
  // Version 1; a path of the host's that a container does not see.
  put("cpu/cpu.cfs_quota_us", "-1");
  put("cpu/cpu.cfs_period_us", "100000");
  EXPECT_EQ(cpu_quota("3:cpuset:/x\n2:cpu,cpuacct:/docker/abc\n", root()), 0);
  put("cpu/cpu.cfs_quota_us", "50000");
  EXPECT_EQ(cpu_quota("3:cpuset:/x\n2:cpu,cpuacct:/docker/abc\n", root()), 1);
  EXPECT_EQ(cpu_quota("3:cpuset:/x\n", root()), 0);
  EXPECT_EQ(cpu_quota("nonsense", root()), 0);
}

}  // namespace
}  // namespace vixen
