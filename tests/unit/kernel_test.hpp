// What the kernel tests share: packed batches of mixed lengths, instruction sets, comparisons.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "doctor/kernel_comparisons.hpp"
#include "kernels/cpu/cpu_kernels.hpp"

namespace vixen::test {

using Packed = PackedLengths;

inline Packed pack(const std::vector<int64_t>& lengths) {
  return pack_lengths(lengths);
}

inline at::Tensor random(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype = at::kFloat) {
  return seeded_normal(shape, seed, dtype);
}

/// Runs body(isa) under each instruction set of this machine, and puts the best one back.
template <class Body>
void for_each_isa(Body body) {
  int tried = 0;
  for (const char* isa : {"avx512", "avx2", "baseline"}) {
    if (!force_cpu_isa(isa)) continue;
    SCOPED_TRACE(isa);
    ++tried;
    body(isa);
  }
  force_cpu_isa(nullptr);
  EXPECT_GE(tried, 1);
}

inline double difference(const at::Tensor& got, const at::Tensor& want) {
  EXPECT_EQ(got.sizes(), want.sizes());
  return kernel_difference(got, want);
}

inline double tolerance(at::ScalarType dtype) {
  return kernel_tolerance(dtype);
}

/// body() at one thread and at two: tensors it returns must agree in every bit.
template <class Body>
void expect_same_for_threads(Body body) {
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const std::vector<at::Tensor> one = body();
  at::set_num_threads(2);
  const std::vector<at::Tensor> two = body();
  at::set_num_threads(before);
  ASSERT_EQ(one.size(), two.size());
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], two[i])) << "tensor " << i;
}

/// The slope of f, a function of a float64 tensor, at `x` along its element i: central differences.
template <class Function>
double slope_along(const at::Tensor& x, int64_t i, double step, const Function& f) {
  at::Tensor up = x.to(at::kDouble).clone(at::MemoryFormat::Contiguous), down = up.clone();
  up.view(-1)[i] += step;
  down.view(-1)[i] -= step;
  return (f(up) - f(down)) / (2 * step);
}

/// Checks every element of `grad` against the slope of f at `x` along it.
template <class Function>
void expect_derivative(const at::Tensor& grad, const at::Tensor& x, double step, double tolerance, const Function& f) {
  for (int64_t i = 0; i < x.numel(); ++i)
    EXPECT_NEAR(grad.reshape(-1)[i].item<double>(), slope_along(x, i, step, f), tolerance) << i;
}

constexpr at::ScalarType kStorages[] = {at::kFloat, at::kBFloat16};

}  // namespace vixen::test
