#include "bench/objective_bench.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <vector>

#include "base/lap.hpp"
#include "device/device.hpp"
#include "device/tracked_memory.hpp"
#include "device/transfer.hpp"
#include "objective/partial_objective.hpp"
#include "train/batch_objective.hpp"

namespace vixen {
namespace {

// Each query is relevant to its own column; the further ones are relevant to nobody.
BatchPlan one_label_each(const Objective& objective, int64_t b, int64_t m) {
  BatchPlan plan;
  const auto own = at::arange(b, at::kLong);
  plan.positives = at::stack({own, own});
  for (const DrawSpec& spec : objective.draws())
    plan.draws.push_back(spec.side == Side::kQueries ? own : at::cat({own, at::full({m - b}, -1, at::kLong)}));
  return plan;
}

}  // namespace

std::optional<ObjectiveTiming> bench_objective(const Config& config, ObjectiveWay way, Communicator& comm) {
  const auto objective = make_objective(config);
  const int64_t b = config.train.batch_size, m = b + config.mining.columns;
  ObjectiveTiming timing;
  timing.planned_bytes = objective->bytes(b, m);
  if (way == ObjectiveWay::kReplicated && timing.planned_bytes > kMostObjectiveBytes) return std::nullopt;
  if (way == ObjectiveWay::kSharded)
    timing.planned_bytes = partial_bytes(*objective, batch_slice(b, 0, comm.world_size()).size(),
                                         batch_slice(m, 0, comm.world_size()).size(), b, m);

  auto random = at::make_generator<at::CPUGeneratorImpl>(uint64_t{1});
  const auto rows = [&](int64_t n) {
    const auto x = at::randn({n, kObjectiveWidth}, random);
    return to_device(x / x.norm(2, 1, true), comm.device());
  };
  const auto plan = one_label_each(*objective, b, m);
  ObjectiveInput input{rows(b),
                       rows(m),
                       objective->uses_prototypes() ? rows(m) : at::Tensor(),
                       to_device(plan.positives, comm.device()),
                       {}};
  for (const auto& draw : plan.draws) input.draws.push_back(to_device(draw, comm.device()));
  const auto once = [&] {
    const auto made = evaluate_batch(*objective, way, input, plan, comm);
    settle(made.grad_z.defined() ? made.grad_z : made.grad_u);  // the last
  };

  // The first one warms up and is measured for memory, which on a GPU is the largest since the program began.
  const int64_t before = memory_use(comm.device()).tensor_bytes;
  if (comm.device().is_cpu()) reset_peak_tensor_bytes();
  const Lap first;
  once();
  constexpr double kLong = 5;
  const size_t rounds = comm.max_host(first.total()) > kLong ? 1 : 3;
  timing.peak_bytes = memory_use(comm.device()).peak_tensor_bytes - before;
  std::vector<double> seconds;
  while (seconds.size() < rounds) {
    comm.barrier();
    const Lap lap;
    once();
    seconds.push_back(comm.max_host(lap.total()));
  }
  std::sort(seconds.begin(), seconds.end());
  timing.seconds = seconds[rounds / 2];
  return timing;
}

}  // namespace vixen
