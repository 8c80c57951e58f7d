// Holds an emulated CUDA kernel to its reference: in three orders of threads and blocks with equal bits, and by the
// bytes that it asks of global memory.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "emulated/emulated_table.hpp"
#include "emulated/emulator.hpp"
#include "fixtures/kernel_comparisons.hpp"
#include "kernels/cuda_kernels.hpp"

namespace vixen::emulated {

using Results = std::vector<at::Tensor>;
using Body = std::function<Results()>;

/// The emulated kernels for a scope, one thread of ATen's.
class Emulation {
 public:
  Emulation() : threads_(at::get_num_threads()) {
    at::set_num_threads(1);
    force_cpu_kernels(cpu_kernels_with_cuda_rows());
  }
  ~Emulation() {
    force_cpu_isa(nullptr);
    at::set_num_threads(threads_);
  }
  Emulation(const Emulation&) = delete;
  Emulation& operator=(const Emulation&) = delete;

 private:
  int threads_;
};

/// For a scope, CPU tensors run an emulated table of a module's own kernels (search, clusters, objective):
/// lend(&table()).
template <auto lend, auto table>
class LentToCpu {
 public:
  LentToCpu() {
    lend_kernels(at::kCPU, {nullptr, &launch});
    lend(&table());
  }
  ~LentToCpu() {
    lend(nullptr);
    lend_kernels(at::kCPU, {});
  }
  LentToCpu(const LentToCpu&) = delete;
  LentToCpu& operator=(const LentToCpu&) = delete;

 private:
  static void launch(const char* kernel, const std::function<int(CUstream_st*)>& enqueue) {
    EXPECT_EQ(enqueue(nullptr), 0) << kernel;
  }
};

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         (a.numel() == 0 || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0);
}

/// What body() gives, once for each order, to the bit; `counted`, unless null: what one run did.
inline Results in_all_orders(const Body& body, Counts* counted = nullptr) {
  Results first;
  Counts counts_of_first;
  for (const Order order : {Order::kForward, Order::kReversed, Order::kShuffled}) {
    set_order(order);
    reset_counts();
    const Results results = body();
    EXPECT_GT(counts().launches, 0) << "no emulated kernel ran";
    if (order == Order::kForward) {
      first = results;
      counts_of_first = counts();
      continue;
    }
    EXPECT_EQ(results.size(), first.size());
    for (size_t i = 0; i < results.size(); ++i)
      EXPECT_TRUE(same_bits(results[i], first[i])) << "result " << i << " depends on the order of threads";
    EXPECT_EQ(counts().loaded_bytes, counts_of_first.loaded_bytes);
    EXPECT_EQ(counts().stored_bytes, counts_of_first.stored_bytes);
  }
  set_order(Order::kForward);
  if (counted) *counted = counts_of_first;
  return first;
}

/// Prints, when the tests end, the largest difference that they met of each kernel and dtype: docs/kernels.md.
void note_difference(const std::string& kernel, at::ScalarType dtype, double difference);

/// body() by the emulated kernel of the family against body() by its reference; returns what the kernel did.
inline Counts expect_meets_reference(const std::string& kernel, KernelFamily family, at::ScalarType dtype,
                                     const Body& body, double factor = 1) {
  Results want, got;
  {
    const ScopedChoices choices(family, KernelChoice::kReference);
    want = body();
  }
  Counts counted;
  {
    const Emulation emulation;
    const ScopedChoices choices(family, KernelChoice::kFused);
    got = in_all_orders(body, &counted);
  }
  EXPECT_EQ(got.size(), want.size());
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    EXPECT_EQ(got[i].scalar_type(), want[i].scalar_type()) << kernel << ", result " << i;
    const double apart = test::difference(got[i], want[i]);
    EXPECT_LT(apart, factor * test::tolerance(got[i].scalar_type())) << kernel << ", result " << i;
    note_difference(kernel, dtype, apart);
  }
  return counted;
}

inline int64_t element_bytes(at::ScalarType dtype) {
  return dtype == at::kFloat ? 4 : 2;
}
/// Columns that a thread takes at a time, of rows of `width`.
inline int64_t lanes_of(at::ScalarType dtype, int64_t width) {
  const int64_t lanes = 16 / element_bytes(dtype);
  return width % lanes == 0 ? lanes : 1;
}

}  // namespace vixen::emulated
