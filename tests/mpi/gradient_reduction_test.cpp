// Sums of gradients in buckets against sums of the whole buffer; gradients that travel in bfloat16 lose nothing for
// good.
#include "train/gradient_reduction.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "comm/hosted_communicator.hpp"
#include "mpi/mpi_main.hpp"

namespace vixen {
namespace {

using test::world;

// The job's ranks; counts the sums that are begun.
class CountingSums final : public HostedCommunicator {
 public:
  CountingSums() : HostedCommunicator(std::shared_ptr<Communicator>(&world(), [](Communicator*) {})) {}
  at::Device device() const override { return at::kCPU; }
  void all_reduce_sum(at::Tensor tensor) override { host().all_reduce_sum(std::move(tensor)); }
  std::unique_ptr<CommHandle> all_reduce_sum_async(at::Tensor tensor) override {
    sizes.push_back(tensor.numel());
    types.push_back(tensor.scalar_type());
    return host().all_reduce_sum_async(std::move(tensor));
  }
  at::Tensor all_gather_rows(const at::Tensor& local, std::span<const int64_t> rows) override {
    return host().all_gather_rows(local, rows);
  }
  at::Tensor reduce_scatter_rows(const at::Tensor& tensor, std::span<const int64_t> rows) override {
    return host().reduce_scatter_rows(tensor, rows);
  }
  at::Tensor all_to_all_rows(const at::Tensor& send, std::span<const int64_t> send_rows,
                             std::span<const int64_t> receive_rows) override {
    return host().all_to_all_rows(send, send_rows, receive_rows);
  }
  void broadcast(at::Tensor tensor, int root) override { host().broadcast(std::move(tensor), root); }

  std::vector<int64_t> sizes;
  std::vector<at::ScalarType> types;
};

class GradientReductionTest : public ::testing::Test {
 protected:
  static constexpr int kParameters = 12;
  GradientReductionTest() {
    for (int i = 0; i < kParameters; ++i)
      store_.add("p" + std::to_string(i), {40 + 7 * i, 5},
                 i == 4 ? ParameterGroup::kFrozen : ParameterGroup::kBackbone);
    store_.allocate(at::kCPU, at::kFloat);
  }

  // Gradients of step `step` and this rank, zero between parameters.
  void fill(uint64_t step, int rank) {
    store_.zero_grads();
    for (int i = 0; i < kParameters; ++i) {
      if (!store_.trained(i)) continue;
      const auto seed = 1000 * step + 100 * static_cast<uint64_t>(rank) + static_cast<uint64_t>(i);
      store_.grad(i).copy_(at::randn(store_.grad(i).sizes(), at::make_generator<at::CPUGeneratorImpl>(seed)));
    }
  }
  at::Tensor expected(uint64_t step) {
    at::Tensor sum;
    for (int rank = 0; rank < world().world_size(); ++rank) {
      fill(step, rank);
      sum = sum.defined() ? sum + store_.flat_grads() : store_.flat_grads().clone();
    }
    return sum;
  }
  // As a backward pass does: the last parameters first, here and there out of order.
  static void announce(GradientReduction& reduction) {
    for (const auto& [first, last] : {std::pair{8, 12}, {6, 8}, {0, 1}, {3, 6}, {4, 5}, {1, 3}})
      reduction.ready(first, last);
    reduction.finish();
  }

  ParameterStore store_;
  CountingSums comm_;
};

TEST_F(GradientReductionTest, BucketsOfAnySizeGiveTheSameBits) {
  const auto whole = expected(0);
  const int64_t elements = whole.numel();
  for (const double elements_a_bucket : {0.0, 1.0, 500.0, 1e9}) {
    CommConfig config;
    config.bucket_mb = elements_a_bucket * 4 / 1e6;
    comm_.sizes.clear();
    fill(0, world().rank());
    GradientReduction reduction(config, store_, comm_);
    announce(reduction);
    EXPECT_TRUE(at::equal(store_.flat_grads(), whole)) << elements_a_bucket;
    if (world().world_size() == 1) {
      EXPECT_TRUE(comm_.sizes.empty());
    } else if (elements_a_bucket <= 1) {
      EXPECT_EQ(comm_.sizes.size(), 5U);  // a call each, but for the frozen parameter's
    } else if (elements_a_bucket > 1e6) {
      EXPECT_LE(comm_.sizes.size(), 3U);  // [6, 12), [0, 1), [1, 6): the second lies elsewhere
      EXPECT_LE(*std::max_element(comm_.sizes.begin(), comm_.sizes.end()), elements);
    }
  }
}

// The same gradients forty times, each parameter's on one rank alone, so that sums over ranks round nothing: what is
// still owed at the end is half a unit in the last place of bfloat16, not forty times as much.
TEST_F(GradientReductionTest, WhatRoundingTakesAwayComesLater) {
  CommConfig config;
  config.gradients = GradientSums::kBf16;
  GradientReduction reduction(config, store_, comm_);
  const int world_size = world().world_size();
  const auto share = [&](int rank) {
    fill(0, 0);
    for (int i = 0; i < kParameters; ++i)
      if (store_.trained(i) && i % world_size != rank) store_.grad(i).zero_();
  };
  fill(0, 0);
  const auto whole = store_.flat_grads().clone();
  auto sent = at::zeros_like(whole, at::kDouble);
  double worst_of_one = 0;
  constexpr int kSteps = 40;
  for (int step = 0; step < kSteps; ++step) {
    share(world().rank());
    announce(reduction);
    sent += store_.flat_grads();
    worst_of_one = std::max(worst_of_one, (store_.flat_grads() - whole).abs().max().item<double>());
  }
  const double gap = (sent - kSteps * whole.to(at::kDouble)).abs().max().item<double>();
  if (world_size == 1) {
    EXPECT_EQ(gap, 0);
    return;
  }
  const double half_unit = whole.abs().max().item<double>() / 256;
  EXPECT_GT(worst_of_one, half_unit / 8) << "gradients are rounded";
  EXPECT_LT(gap, 1.01 * half_unit);
  for (const auto type : comm_.types) EXPECT_EQ(type, at::kBFloat16);
}

TEST_F(GradientReductionTest, AfterItIsForgottenAStepIsTheFirstAgain) {
  CommConfig config;
  config.gradients = GradientSums::kBf16;
  GradientReduction reduction(config, store_, comm_);
  const auto of = [&](uint64_t step) {
    fill(step, world().rank());
    announce(reduction);
    return store_.flat_grads().clone();
  };
  const auto first = of(7);
  const auto again = of(7);
  EXPECT_EQ(at::equal(first, again), world().world_size() == 1);
  reduction.forget_error();
  EXPECT_TRUE(at::equal(of(7), first));
}

}  // namespace
}  // namespace vixen
