// What a process makes of the environment that its launcher left it: launchers, numbers of processes, wishes about
// binding, Open MPI's default binding.
#include "comm/launcher.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "comm/cpu_placement.hpp"

namespace vixen {
namespace {

using Variables = std::map<std::string, std::string>;

Environment of(const Variables& variables) {
  return [&variables](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

TEST(Launcher, CountsTheProcessesOfTheNearestOne) {
  const auto check = [](const Variables& variables, bool launcher, int processes) {
    EXPECT_EQ(has_launcher(of(variables)), launcher);
    EXPECT_EQ(launched_processes(of(variables)), processes);
  };
  check({}, false, 1);
  check({{"OMPI_COMM_WORLD_SIZE", "3"}}, true, 3);
  check({{"PMIX_RANK", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}}, true, 4);
  // A shell in a step of one task; tasks that PMI does not connect; mpirun within a step of several.
  check({{"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_NTASKS", "4"}}, false, 1);
  check({{"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}}, false, 4);
  check({{"OMPI_COMM_WORLD_SIZE", "1"}, {"SLURM_STEP_NUM_TASKS", "4"}}, true, 1);
  check({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}}, false, 1);  // a batch script
}

TEST(SingletonEnvironment, HidesTheStepAndBringsItBack) {
  for (const char* step : {"0", ""}) {
    setenv("SLURM_STEP_ID", "5", 1);
    if (*step == '\0') unsetenv("SLURM_STEP_ID");
    {
      const SingletonEnvironment environment;
      EXPECT_EQ(std::getenv("SLURM_STEP_ID"), nullptr);
      EXPECT_STREQ(std::getenv("OMPI_MCA_ess_singleton_isolated"), "1");
    }
    if (*step == '\0')
      EXPECT_EQ(std::getenv("SLURM_STEP_ID"), nullptr);
    else
      EXPECT_STREQ(std::getenv("SLURM_STEP_ID"), "5");
  }
  unsetenv("SLURM_STEP_ID");
}

TEST(BindingWish, IsWhatTheUserSaidAndNothingElse) {
  const auto wish = [](Variables variables, const std::vector<std::string>& arguments = {}) {
    variables["OMPI_COMM_WORLD_SIZE"] = "2";
    return binding_wish(of(variables), arguments);
  };
  EXPECT_EQ(wish({}), "");
  EXPECT_EQ(wish({{"OMPI_MCA_hwloc_base_binding_policy", "none"}}), "OMPI_MCA_hwloc_base_binding_policy=none");
  EXPECT_EQ(wish({{"OMPI_MCA_hwloc_base_cpu_set", "0-3"}}), "OMPI_MCA_hwloc_base_cpu_set=0-3");
  EXPECT_EQ(wish({{"OMPI_MCA_orte_rankfile", "ranks"}}), "OMPI_MCA_orte_rankfile=ranks");
  EXPECT_EQ(wish({{"OMPI_MCA_rmaps_base_cpus_per_rank", "2"}}), "OMPI_MCA_rmaps_base_cpus_per_rank=2");
  EXPECT_EQ(wish({{"PRTE_MCA_hwloc_default_binding_policy", "core"}}), "PRTE_MCA_hwloc_default_binding_policy=core");
  for (const char* policy : {"slot:PE=2", "ppr:1:node:pe=4", "core", "numa", "ppr:2:socket", "L3cache"})
    EXPECT_EQ(wish({{"OMPI_MCA_rmaps_base_mapping_policy", policy}}),
              std::string("OMPI_MCA_rmaps_base_mapping_policy=") + policy);
  for (const char* policy : {"slot", "node", ":oversubscribe", "ppr:4:node", "seq"})
    EXPECT_EQ(wish({{"PRTE_MCA_rmaps_default_mapping_policy", policy}}), "") << policy;
  EXPECT_EQ(wish({{"OMPI_MCA_rmaps_base_oversubscribe", "1"}, {"OMPI_MCA_orte_bound_at_launch", "1"}}), "");

  EXPECT_EQ(wish({}, {"mpirun", "-n", "2", "vixen", "train", "--threads", "2"}), "");
  EXPECT_EQ(wish({}, {"mpirun", "--bind-to", "none", "-n", "2"}), "--bind-to none");
  EXPECT_EQ(wish({}, {"mpirun", "-bind-to", "core"}), "-bind-to core");
  EXPECT_EQ(wish({}, {"prterun", "--bind-to=numa"}), "--bind-to numa");
  EXPECT_EQ(wish({}, {"prterun", "--map-by", "slot:pe=8"}), "--map-by slot:pe=8");
  EXPECT_EQ(wish({}, {"prterun", "--map-by", "node"}), "");
  EXPECT_EQ(wish({}, {"prterun", "--prtemca", "hwloc_default_binding_policy", "none"}),
            "hwloc_default_binding_policy none");
  EXPECT_EQ(wish({}, {"mpirun", "--rankfile", "ranks"}), "--rankfile ranks");
}

TEST(BindingWish, OpenMpCountsWithoutMpirunTheRestDoesNot) {
  EXPECT_EQ(binding_wish(of({{"OMPI_MCA_hwloc_base_binding_policy", "none"}}), {}), "");
  const Variables places = {{"OMP_PLACES", "cores"}}, off = {{"OMP_PROC_BIND", "false"}, {"OMP_NUM_THREADS", "2"}};
  EXPECT_EQ(binding_wish(of(places), {}), "OMP_PLACES=cores");
  EXPECT_EQ(binding_wish(of(off), {}), "");
}

TEST(DefaultBinding, IsAWholeCoreOrNode) {
  // Two nodes of two cores of two hardware threads.
  std::vector<CpuPlace> places(8);
  for (int cpu = 0; cpu < 8; ++cpu) places[static_cast<size_t>(cpu)] = {cpu, cpu % 4, cpu % 4 / 2};
  const std::vector<int> all = {0, 1, 2, 3, 4, 5, 6, 7};
  const auto looks = [&](const std::vector<int>& own, bool threads = false) {
    return looks_bound_by_default(own, all, places, threads);
  };
  EXPECT_TRUE(looks({0, 4}));
  EXPECT_TRUE(looks({2, 3, 6, 7}));
  EXPECT_FALSE(looks({0}));  // taskset
  EXPECT_TRUE(looks({0}, true));
  EXPECT_FALSE(looks({0, 1, 2}));
  EXPECT_FALSE(looks({0, 1, 4}));
  EXPECT_FALSE(looks({}));
  EXPECT_FALSE(looks(all));
  EXPECT_TRUE(looks({0, 8}));  // not mpirun's: taskset -c 5 mpirun
  // mpirun itself was confined to one hardware thread of each core.
  EXPECT_TRUE(looks_bound_by_default({1}, {0, 1, 2, 3}, places, false));
}

TEST(CpuPlacement, SaysWhoGotWhat) {
  const auto place = [](std::vector<RankCpus> ranks, int local_rank = 0, std::string remark = {}) {
    for (size_t r = 0; r < ranks.size(); ++r) {
      ranks[r].rank = static_cast<int>(r) + 4;
      ranks[r] = from_numbers(to_numbers(ranks[r]));
    }
    return CpuPlacement(std::move(ranks), local_rank, std::move(remark));
  };
  const std::vector<int> far = {100'000, 100'001, 100'002, 100'003};  // no machine has them: each a core of its own
  const RankCpus free{0, far};
  auto placement = place({free, free}, 1);
  EXPECT_EQ(placement.text(0), "rank 4: 2 threads on CPUs 100000-100001, rank 5: 2 threads on CPUs 100002-100003");
  EXPECT_EQ(placement.threads(), 2);
  EXPECT_EQ(placement.confinement(), (std::vector<int>{100'002, 100'003}));
  EXPECT_EQ(placement.own_text(1), "rank 5: 1 thread on CPUs 100002-100003");

  // Limits lower the threads, not the CPUs.
  RankCpus limited = free;
  limited.node_limit = 3;
  EXPECT_EQ(place({limited}).threads(), 3);
  limited.own_limit = 2;
  placement = place({limited});
  EXPECT_EQ(placement.threads(), 2);
  EXPECT_EQ(placement.confinement(), far);

  // What the user bound himself stays; unbound ranks still divide the cores by number.
  RankCpus kept = free;
  kept.keep = true;
  placement = place({kept, kept}, 0, "as bound by --bind-to none");
  EXPECT_TRUE(placement.confinement().empty());
  EXPECT_EQ(
      placement.text(0),
      "rank 4: 2 threads on CPUs 100000-100003, rank 5: 2 threads on CPUs 100000-100003; as bound by --bind-to none");

  const RankCpus narrow{0, {100'000}};
  placement = place({narrow, narrow});
  EXPECT_EQ(placement.text(0),
            "rank 4: 1 thread on CPU 100000, rank 5: 1 thread on CPU 100000; fewer CPUs than ranks: they are shared");
  EXPECT_EQ(place({RankCpus{}}).text(0), "rank 4: 1 thread on CPUs (not told)");
}

}  // namespace
}  // namespace vixen
