// The CPUs and threads of a node's ranks.
#include "comm/cpu_placement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/check.hpp"
#include "device/cpu_affinity.hpp"

namespace vixen {
namespace {

constexpr size_t kHead = 5;  // numbers in front of the CPUs

int environment_number(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? 0 : std::max(0, std::atoi(value));
}

/// The least of the limits that there are; 0: none.
int least_limit(int a, int b) {
  return a == 0 || b == 0 ? std::max(a, b) : std::min(a, b);
}

}  // namespace

std::vector<int> to_numbers(const RankCpus& rank) {
  std::vector<int> numbers = {rank.rank, rank.wanted_node, rank.node_limit, rank.own_limit, rank.keep ? 1 : 0};
  numbers.insert(numbers.end(), rank.cpus.begin(), rank.cpus.end());
  return numbers;
}

RankCpus from_numbers(const std::vector<int>& numbers) {
  VIXEN_CHECK(numbers.size() >= kHead, "{} numbers of a rank's CPUs", numbers.size());
  return {numbers[0], {numbers.begin() + kHead, numbers.end()}, numbers[1], numbers[2], numbers[3], numbers[4] != 0};
}

CpuPlacement::CpuPlacement(std::vector<RankCpus> ranks, int local_rank, std::string remark)
    : ranks_(std::move(ranks)), local_rank_(static_cast<size_t>(local_rank)), remark_(std::move(remark)) {
  std::vector<std::vector<int>> masks;
  std::vector<int> wanted, all;
  int limit = 0;
  for (const auto& rank : ranks_) {
    masks.push_back(rank.cpus);
    wanted.push_back(rank.keep ? -1 : rank.wanted_node);
    all.insert(all.end(), rank.cpus.begin(), rank.cpus.end());
    limit = least_limit(limit, rank.node_limit);
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  shares_ = share_cpus(masks, wanted, cpu_places(all));
  limit_threads(shares_, limit);
  for (size_t r = 0; r < ranks_.size(); ++r)
    if (ranks_[r].own_limit > 0) shares_.threads[r] = std::min(shares_.threads[r], ranks_[r].own_limit);
}

std::vector<int> CpuPlacement::confinement() const {
  return ranks_.at(local_rank_).keep ? std::vector<int>() : shares_.cpus[local_rank_];
}

int CpuPlacement::threads() const {
  return shares_.threads.at(local_rank_);
}

std::string CpuPlacement::rank_text(size_t local_rank, int asked) const {
  const auto& rank = ranks_[local_rank];
  const auto& cpus = rank.keep ? rank.cpus : shares_.cpus[local_rank];
  const int threads = asked > 0 ? asked : shares_.threads[local_rank];
  return fmt::format("rank {}: {} thread{} on CPU{} {}", rank.rank, threads, threads == 1 ? "" : "s",
                     cpus.size() == 1 ? "" : "s", cpus.empty() ? "(not told)" : cpu_list_text(cpus));
}

std::string CpuPlacement::text(int asked) const {
  std::string text;
  for (size_t r = 0; r < ranks_.size(); ++r) text += (r > 0 ? ", " : "") + rank_text(r, asked);
  if (shares_.shared) text += "; fewer CPUs than ranks: they are shared";
  return remark_.empty() ? text : text + "; " + remark_;
}

std::string CpuPlacement::own_text(int asked) const {
  const int node = ranks_[local_rank_].wanted_node;
  return rank_text(local_rank_, asked) + (node < 0 ? "" : fmt::format(" (its GPU is on NUMA node {})", node));
}

SlurmLimits slurm_limits() {
  if (std::getenv("SLURM_JOB_ID") == nullptr) return {};
  // Under mpirun a step's task is the launcher, not this rank.
  const bool task = std::getenv("SLURM_STEP_ID") != nullptr && std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr;
  return {environment_number("SLURM_CPUS_ON_NODE"), task ? environment_number("SLURM_CPUS_PER_TASK") : 0};
}

}  // namespace vixen
