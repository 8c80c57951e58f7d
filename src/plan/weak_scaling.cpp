#include "plan/weak_scaling.hpp"

#include <algorithm>
#include <optional>

#include "base/check.hpp"
#include "plan/step_timeline.hpp"
#include "plan/time_plan.hpp"
#include "plan/topology.hpp"
#include "plan/traffic_plan.hpp"

namespace vixen {
namespace {

// As many for each of `ranks` as a rank of `of_ranks` has, the fuller ones.
int64_t scaled(int64_t value, int64_t of_ranks, int64_t ranks) {
  return (value + of_ranks - 1) / of_ranks * ranks;
}

std::vector<int64_t> rank_counts(int64_t node_ranks) {
  std::vector<int64_t> counts;
  for (int64_t ranks = 1; ranks < std::min(node_ranks, kMostRanks); ranks *= 2) counts.push_back(ranks);
  for (int64_t ranks = node_ranks; ranks <= kMostRanks; ranks *= 2) counts.push_back(ranks);
  return counts;
}

std::optional<MemoryPlan> fitting(const MemoryShape& shape, const LayeredEncoder& encoder, int64_t budget_bytes) {
  try {
    return plan_memory(shape, encoder, budget_bytes);
  } catch (const UserError&) {  // nothing fits
    return std::nullopt;
  }
}

}  // namespace

std::vector<ScalePoint> weak_scaling(const PlannedRun& run) {
  const int64_t planned = run.shape.world_size;
  std::vector<ScalePoint> points;
  double first_rate = 0;  // queries a second and rank
  for (const int64_t ranks : rank_counts(run.shape.config.plan.node_ranks)) {
    Config config = run.shape.config;
    config.train.batch_size = scaled(config.train.batch_size, planned, ranks);
    config.mining.columns = scaled(config.mining.columns, planned, ranks);
    const int64_t node_ranks = std::min(ranks, config.plan.node_ranks);
    const auto shape = memory_shape(config, run.shape.data, run.encoder, run.store, ranks, node_ranks, run.shape.cpu);
    ScalePoint point{
        .ranks = ranks, .nodes = (ranks + node_ranks - 1) / node_ranks, .batch_size = config.train.batch_size};
    if (const auto memory = fitting(shape, run.encoder, run.budget_bytes)) {
      const auto topology = make_topology(config.plan, run.device, point.nodes, node_ranks);
      const auto traffic = traffic_shape(shape, memory->objective, run.encoder, run.store, run.network);
      const auto compute = plan_time(shape, run.encoder, memory->choice, run.device).compute;
      const auto timeline = step_timeline(compute, step_exchanges(traffic, {}, 0), topology,
                                          {.chunks = memory->choice.chunks, .behind = !shape.cpu});
      const double rate = static_cast<double>(point.batch_size) / timeline.seconds / static_cast<double>(ranks);
      if (first_rate == 0) first_rate = rate;
      point.peak_bytes = memory->peak_bytes();
      point.step_seconds = timeline.seconds;
      point.waited_seconds = timeline.waited();
      point.efficiency = rate / first_rate;
      point.binds = timeline.binds();
      point.longest_wait = timeline.longest_wait();
    }
    points.push_back(std::move(point));
  }
  return points;
}

}  // namespace vixen
