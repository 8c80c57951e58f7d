// The ranks of a node under mpirun, without any word about binding: every thread is confined to its rank's share, the
// shares are disjoint and together what the launcher may use.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "comm/launcher.hpp"
#include "device/cpu_affinity.hpp"
#include "mpi/mpi_main.hpp"

namespace vixen {
namespace {

using test::session;
using test::world;

TEST(CpuPlacement, SharesAreDisjointAndNothingIsLeftOver) {
  if (!binding_wish(process_environment, {}).empty()) GTEST_SKIP() << "the environment binds";
  const auto all = allowed_cpus(getppid());  // mpirun's
  const auto own = allowed_cpus(0);
  test::step("gathering shares");
  const std::vector<std::string> texts = world().all_gather_host(cpu_list_text(own));
  std::set<int> used;
  size_t sum = 0;
  for (const auto& text : texts) {
    const auto cpus = parse_cpu_list(text);
    used.insert(cpus.begin(), cpus.end());
    sum += cpus.size();
  }
  EXPECT_EQ(std::vector<int>(used.begin(), used.end()), all);
  if (all.size() >= texts.size()) {
    EXPECT_EQ(sum, all.size()) << "shares overlap";
    EXPECT_LE(session().cpus().threads(), static_cast<int>(own.size()));
  } else {
    EXPECT_EQ(own, all);
    EXPECT_EQ(session().cpus().threads(), 1);
  }
  EXPECT_EQ(session().cpus().confinement(), own);
}

TEST(CpuPlacement, HoldsForThreadsThatMpiStarted) {
  const auto own = allowed_cpus(0);
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task"))
    EXPECT_EQ(allowed_cpus(std::atoi(task.path().filename().c_str())), own) << task.path();
}

}  // namespace
}  // namespace vixen
