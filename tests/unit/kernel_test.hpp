// What the kernel tests share: packed batches of mixed lengths, instruction sets, comparisons.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/choice.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/dropout.hpp"

namespace vixen::test {

struct Packed {
  at::Tensor cu_seqlens, sequence_keys;
  TokenKeys keys;
  int64_t positions = 0, max_seqlen = 0;
};

inline Packed pack(const std::vector<int64_t>& lengths) {
  Packed p;
  std::vector<int32_t> offsets{0};
  std::vector<int64_t> keys;
  for (const int64_t length : lengths) {
    offsets.push_back(offsets.back() + static_cast<int32_t>(length));
    keys.push_back(static_cast<int64_t>(keys.size()) * 7919 + (int64_t{1} << 33));
    p.max_seqlen = std::max(p.max_seqlen, length);
  }
  p.cu_seqlens = at::tensor(offsets, at::kInt);
  p.sequence_keys = at::tensor(keys, at::kLong);
  p.keys = make_token_keys(p.cu_seqlens, p.sequence_keys);
  p.positions = offsets.back();
  return p;
}

/// Lengths 1 .. longest, each once, in a mixed order.
inline std::vector<int64_t> mixed_lengths(int64_t longest) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < longest; ++i) lengths.push_back((i * 17) % longest + 1);
  return lengths;
}

inline at::Tensor random(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype = at::kFloat) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn(shape, generator).to(dtype);
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

/// Largest |got - want| as a share of the largest |want|.
inline double difference(const at::Tensor& got, const at::Tensor& want) {
  EXPECT_EQ(got.sizes(), want.sizes());
  if (want.numel() == 0) return 0;
  const at::Tensor g = got.to(at::kDouble), w = want.to(at::kDouble);
  EXPECT_TRUE(g.isfinite().all().item<bool>());
  return ((g - w).abs().max() / w.abs().max().clamp_min(1e-30)).item<double>();
}

/// What rounding explains: float32 sums of some hundred terms, or one rounding to bfloat16 (2^-8) of the largest value.
inline double tolerance(at::ScalarType dtype) {
  return dtype == at::kFloat ? 3e-6 : 8e-3;
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
