// Times the two collectives that a training step is made of.
#include "bench/collective_bench.hpp"

#include <ATen/ATen.h>

#include <functional>

#include "base/lap.hpp"
#include "device/transfer.hpp"

namespace vixen {
namespace {

/// Mean seconds of `work` over five rounds, the device waited for once at the end.
double mean_seconds(const std::function<at::Tensor()>& work) {
  constexpr int kRounds = 5;
  at::Tensor made;
  const Lap lap;
  for (int i = 0; i < kRounds; ++i) made = work();
  settle(made);
  return lap.total() / kRounds;
}

}  // namespace

CollectiveTimes bench_collectives(Communicator& comm, int64_t elements) {
  auto buffer = at::zeros({elements}, at::TensorOptions().device(comm.device()));
  comm.barrier();
  CollectiveTimes times;
  times.all_reduce_seconds = mean_seconds([&] {
    comm.all_reduce_sum(buffer);
    return buffer;
  });
  const auto part = at::zeros({kGatherRows, kGatherWidth}, buffer.options());
  const std::vector<int64_t> rows(static_cast<size_t>(comm.world_size()), part.size(0));
  times.all_gather_seconds = mean_seconds([&] { return comm.all_gather_rows(part, rows); });
  return times;
}

}  // namespace vixen
