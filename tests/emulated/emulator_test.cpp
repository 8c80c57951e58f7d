// The emulator itself: right kernels run, and each fault that it is there to find is found, by deliberately wrong ones.
#include "emulated/emulator.hpp"

#include <limits>
#include <string>
#include <vector>

#include "emulated/comparison.hpp"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vectors.cuh"

namespace vixen::emulated {
namespace {

/// What launch_kernel() gives in each order of threads, as floats of a tensor of `size`.
template <class Launch>
std::vector<std::vector<float>> in_orders(int64_t size, const Launch& launch_kernel) {
  std::vector<std::vector<float>> results;
  for (const Order order : {Order::kForward, Order::kReversed, Order::kShuffled}) {
    set_order(order);
    const at::Tensor out = at::full({size}, -1, at::kFloat);
    launch_kernel(out.data_ptr<float>());
    results.emplace_back(out.data_ptr<float>(), out.data_ptr<float>() + size);
  }
  set_order(Order::kForward);
  return results;
}

template <class Launch>
std::string fault_of(const Launch& launch_kernel) {
  try {
    launch_kernel();
  } catch (const Fault& fault) {
    // The emulator must be as new after it.
    int ran = 0;
    run(1, 64, 0, [&] {
      __syncthreads();
      ++ran;
    });
    EXPECT_EQ(ran, 64);
    return fault.what();
  }
  return "no fault";
}

void expect_fault(const std::string& text, const std::string& want) {
  EXPECT_NE(text.find(want), text.npos) << text;
}

// One number a thread through shared memory to its neighbour; without the barrier the neighbour may not have written.
void rotate(float* out, bool with_barrier) {
  VIXEN_SHARED(float, numbers, 64);
  const unsigned me = threadIdx.x;
  numbers[me] = static_cast<float>(me);
  if (with_barrier) __syncthreads();
  global_store(out + me, numbers[(me + 1) % 64]);
}

TEST(Emulator, AMissingBarrierShowsByTheOrderAndByNaN) {
  const auto right = in_orders(64, [](float* out) { launch(rotate, 1, 64, 0, nullptr, out, true); });
  for (const auto& result : right)
    for (size_t i = 0; i < 64; ++i) EXPECT_EQ(result[i], static_cast<float>((i + 1) % 64));
  const auto wrong = in_orders(64, [](float* out) { launch(rotate, 1, 64, 0, nullptr, out, false); });
  EXPECT_NE(wrong[0], wrong[1]);
  EXPECT_TRUE(std::isnan(wrong[0][0])) << "shared memory begins as NaN";
}

// The second barrier of block_sums: without it, who is fast overwrites the sums that the others still read.
void two_sums(float* out, bool with_barrier) {
  VIXEN_SHARED(float, numbers, 2);
  for (int turn = 0; turn < 2; ++turn) {
    if (threadIdx.x % 32 == 0) numbers[threadIdx.x / 32] = static_cast<float>(turn + 1);
    __syncthreads();
    global_store(out + turn * 64 + threadIdx.x, numbers[0] + numbers[1]);
    if (with_barrier) __syncthreads();
  }
}

TEST(Emulator, ABarrierMissingBehindAReadShows) {
  const auto right = in_orders(128, [](float* out) { launch(two_sums, 1, 64, 0, nullptr, out, true); });
  EXPECT_EQ(right[0], right[1]);
  EXPECT_EQ(right[0], right[2]);
  EXPECT_EQ(right[0][0], 2);
  EXPECT_EQ(right[0][127], 4);
  const auto wrong = in_orders(128, [](float* out) { launch(two_sums, 1, 64, 0, nullptr, out, false); });
  EXPECT_TRUE(wrong[0] != wrong[1] || wrong[0] != wrong[2] || wrong[0] != right[0]);
}

// As block_sums without its second barrier: a warp that is ahead by a whole sum overwrites what others still read.
void sums_ahead(float* out, bool with_barrier) {
  VIXEN_SHARED(float, numbers, 2);
  for (int turn = 0; turn < 3; ++turn) {
    const float sum = sum_of_lanes(static_cast<float>(turn + 1), 32);
    if (threadIdx.x % 32 == 0) numbers[threadIdx.x / 32] = sum;
    __syncthreads();
    global_store(out + turn * 64 + threadIdx.x, numbers[0] + numbers[1]);
    if (with_barrier) __syncthreads();
  }
}

TEST(Emulator, AWarpThatRunsAheadShows) {
  const auto right = in_orders(192, [](float* out) { launch(sums_ahead, 1, 64, 0, nullptr, out, true); });
  EXPECT_EQ(right[0], right[1]);
  EXPECT_EQ(right[0], right[2]);
  EXPECT_EQ(right[0][191], 192);
  const auto wrong = in_orders(192, [](float* out) { launch(sums_ahead, 1, 64, 0, nullptr, out, false); });
  EXPECT_NE(wrong[0], right[0]);
  EXPECT_NE(wrong[0], wrong[1]);
}

void sums_of_lanes(float* out, float* block) {
  const float value = static_cast<float>(1u << (threadIdx.x % 20));
  global_store(out + threadIdx.x, sum_of_lanes(value, 8));
  global_store(block + threadIdx.x, block_sum(1.0f + static_cast<float>(threadIdx.x)));
}

TEST(Emulator, WarpsAndBlocksAddUp) {
  const auto sums = in_orders(192, [](float* out) { launch(sums_of_lanes, 1, 96, 0, nullptr, out, out + 96); });
  EXPECT_EQ(sums[0], sums[1]);
  EXPECT_EQ(sums[0], sums[2]);
  EXPECT_EQ(sums[0][0], 255);
  EXPECT_EQ(sums[0][8], 65280);
  EXPECT_EQ(sums[0][96], 96 * 97 / 2);
  EXPECT_EQ(sums[0][191], 96 * 97 / 2);
}

TEST(Emulator, ShufflesGiveTheAskedLane) {
  std::vector<int> from(64), down(64), votes(64);
  run(1, 64, 0, [&] {
    const int me = static_cast<int>(threadIdx.x);
    from[static_cast<size_t>(me)] = __shfl_sync(0xffffffffu, me, 5);
    down[static_cast<size_t>(me)] = __shfl_down_sync(0xffffffffu, me, 4);
    votes[static_cast<size_t>(me)] = static_cast<int>(__ballot_sync(0xffffffffu, me % 32 < 3));
    __syncwarp(0xffffffffu);
  });
  EXPECT_EQ(from[40], 37);
  EXPECT_EQ(down[3], 7);
  EXPECT_EQ(down[63], 63);
  EXPECT_EQ(votes[50], 7);
}

TEST(Emulator, HalvesOfAWarpExchangeApart) {
  std::vector<int> got(32);
  run(1, 32, 0, [&] {
    const int me = static_cast<int>(threadIdx.x);
    int value = me;
    if (me < 16)
      for (int i = 0; i < 3; ++i) value += __shfl_xor_sync(0xffffu, value, 1 << i);
    else
      value = __shfl_xor_sync(0xffff0000u, value, 1);
    got[static_cast<size_t>(me)] = __shfl_xor_sync(0xffffffffu, value, 16);
  });
  EXPECT_EQ(got[16], 28);
  EXPECT_EQ(got[0], 17);
}

TEST(Emulator, FaultsOfWarpsAreNamed) {
  const auto launched = [](auto body) { return fault_of([&] { run(1, 32, 0, body); }); };
  expect_fault(launched([] { __shfl_sync(0xffu, 1, 0); }), "is not in the mask");
  expect_fault(launched([] {
                 if (threadIdx.x < 8) __shfl_sync(0xffu, 1, 9);
               }),
               "reads lane 9, which is not in the mask");
  expect_fault(launched([] {
                 if (threadIdx.x < 16) __syncwarp(0xffffffffu);
               }),
               "names a thread that has left");
  expect_fault(launched([] { threadIdx.x < 16 ? __syncwarp(0xffffffffu) : __syncwarp(0xfffffffeu); }), "two masks");
  expect_fault(fault_of([] { run(1, 16, 0, [] { __syncwarp(0xffffffffu); }); }), "which the block lacks");
  // Half of the warp in one branch, half in another.
  expect_fault(launched([] {
                 if (threadIdx.x < 16)
                   __syncwarp(0xffffffffu);
                 else
                   __shfl_sync(0xffffffffu, 1, 0);
               }),
               "one warp waits at");
}

TEST(Emulator, FaultsOfBarriersAreNamed) {
  const auto launched = [](auto body) { return fault_of([&] { run(1, 64, 0, body); }); };
  expect_fault(launched([] {
                 if (threadIdx.x < 40) __syncthreads();
               }),
               "left before the barrier");
  expect_fault(launched([] {
                 if (threadIdx.x < 40)
                   __syncthreads();
                 else
                   __syncthreads();
               }),
               "one block waits at the barriers");
  // A warp waits for itself, the rest of the block for that warp.
  expect_fault(launched([] {
                 if (threadIdx.x == 0)
                   __syncwarp(0xffffffffu);
                 else
                   __syncthreads();
               }),
               "waits for ever");
}

template <int N>
void copy(const float* from, float* to) {
  store(to + threadIdx.x * N, load<N>(from + threadIdx.x * N));
}

// A sector of memory is counted once a launch, however often it is read.
TEST(Emulator, MemoryIsCountedBySectors) {
  const at::Tensor from = at::arange(128, at::kFloat), to = at::zeros({128}, at::kFloat);
  const auto bytes = [&](int64_t blocks, bool wanted) {
    reset_counts();
    count_memory(wanted);
    launch(copy<4>, blocks, 32, 0, nullptr, from.const_data_ptr<float>(), to.data_ptr<float>());
    count_memory(false);
    return counts().memory_bytes;
  };
  EXPECT_EQ(bytes(1, true), 1024);
  EXPECT_EQ(bytes(3, true), 1024) << "all blocks copy the same rows";
  EXPECT_EQ(counts().loaded_bytes, 3 * 512);
  EXPECT_EQ(bytes(1, false), 0);
}

TEST(Emulator, AddressesAreChecked) {
  const at::Tensor from = at::arange(130, at::kFloat), to = at::zeros({130}, at::kFloat);
  const float* f = from.const_data_ptr<float>();
  float* t = to.data_ptr<float>();
  reset_counts();
  launch(copy<4>, 1, 32, 0, nullptr, f, t);
  EXPECT_TRUE(at::equal(from.narrow(0, 0, 128), to.narrow(0, 0, 128)));
  EXPECT_EQ(counts().loaded_bytes, 512);
  EXPECT_EQ(counts().stored_bytes, 512);
  expect_fault(fault_of([&] { launch(copy<4>, 1, 32, 0, nullptr, f + 1, t); }),
               "reads 16 bytes at an address that is no multiple of 16");
  expect_fault(fault_of([&] { launch(copy<4>, 1, 32, 0, nullptr, f, t + 2); }), "writes 16 bytes at an address");
  expect_fault(fault_of([&] { launch(copy<1>, 1, 32, 0, nullptr, f + 99, t); }), "reads 4 bytes outside of any tensor");
  expect_fault(fault_of([&] { launch(copy<1>, 1, 32, 0, nullptr, f, t - 1); }), "writes 4 bytes outside of any tensor");
}

void write_shared(int count) {
  VIXEN_SHARED(char, bytes, 8);
  VIXEN_DYNAMIC_SHARED(more);
  volatile char* at = bytes;
  for (int i = 0; i < count; ++i) at[i] = 0;
  if (threadIdx.x == 0) more[3] = 1;
}

TEST(Emulator, WritesBehindSharedMemoryAreFound) {
  reset_counts();
  launch(write_shared, 2, 32, 4, nullptr, 8);
  EXPECT_EQ(counts().shared_bytes, 12);
  expect_fault(fault_of([] { launch(write_shared, 1, 32, 4, nullptr, 9); }), "wrote behind the end");
}

void count_up(int* total, float* out) {
  global_store(out + blockIdx.x * blockDim.x + threadIdx.x, static_cast<float>(atomicAdd(total, 1)));
}

TEST(Emulator, WhoComesFirstShows) {
  const auto ranks = in_orders(6, [](float* out) {
    int total = 0;
    launch(count_up, 2, 3, 0, nullptr, &total, out);
    EXPECT_EQ(total, 6);
  });
  EXPECT_EQ(ranks[0], (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(ranks[1], (std::vector<float>{5, 4, 3, 2, 1, 0}));
  EXPECT_NE(ranks[2], ranks[0]);
}

TEST(Emulator, Bfloat16IsRoundedAsATenDoes) {
  std::vector<float> values{0.0f, -0.0f, 1.00390625f, 1.01171875f, 3.4e38f, -3.39e38f, 1e-40f, 1.17e-38f};
  for (const float limit : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()})
    values.push_back(limit);
  for (const float value : values) EXPECT_EQ(to_bfloat16(value).bits, c10::BFloat16(value).x) << value;
  const at::Tensor many = test::random({4096}, 1), rounded = many.to(at::kBFloat16);
  for (int64_t i = 0; i < many.numel(); ++i)
    EXPECT_EQ(to_bfloat16(many.const_data_ptr<float>()[i]).bits, rounded.const_data_ptr<at::BFloat16>()[i].x);
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::nanf("")))));
}

}  // namespace
}  // namespace vixen::emulated
