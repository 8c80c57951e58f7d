// The CPUs and threads of a node's ranks: what each brings, how they are dealt, what the log says of it.
#pragma once

#include <string>
#include <vector>

#include "device/cpu_share.hpp"

namespace vixen {

/// What one rank knows of its CPUs before the node's ranks divide them.
struct RankCpus {
  int rank = 0;           // in the world
  std::vector<int> cpus;  // its grant (comm/launcher.hpp)
  int wanted_node = -1;   // NUMA node of its GPU, -1: none
  int node_limit = 0;     // CPUs' worth of time that all ranks of the node have, 0: no limit
  int own_limit = 0;      // and this rank
  bool keep = false;      // the user bound it himself: its mask stays
};

/// Plain numbers, to be gathered over the node, and back.
std::vector<int> to_numbers(const RankCpus& rank);
RankCpus from_numbers(const std::vector<int>& numbers);

/// How the CPUs of a node are dealt to its ranks.
class CpuPlacement {
 public:
  CpuPlacement() = default;
  /// ranks: of the node, by local rank. remark: said at the end of text().
  CpuPlacement(std::vector<RankCpus> ranks, int local_rank, std::string remark);

  /// The CPUs this rank should be confined to; empty: it stays as it is.
  std::vector<int> confinement() const;
  /// This rank's threads where nobody asks for a number.
  int threads() const;
  /// "rank 0: 4 threads on CPUs 0-3, rank 1: ...", the node's ranks. asked: threads that were asked for, 0: none.
  std::string text(int asked) const;
  /// The same of this rank alone.
  std::string own_text(int asked) const;

 private:
  std::string rank_text(size_t local_rank, int asked) const;

  std::vector<RankCpus> ranks_;
  CpuShares shares_;
  size_t local_rank_ = 0;
  std::string remark_;
};

/// Limits that SLURM states in numbers, for clusters that do not bind: CPUs of this node's part of the job, and of this
/// task; 0 where it states none.
struct SlurmLimits {
  int node = 0, task = 0;
};
SlurmLimits slurm_limits();

}  // namespace vixen
