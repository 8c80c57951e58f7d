// The exact search on a GPU against the CPU's: ids and scores to the bit, by the CUDA kernels and by their references.
#include "search/exact_search.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "commands/numerics.hpp"
#include "device/device.hpp"

namespace vixen {
namespace {

at::Tensor random_rows(int64_t n, int64_t d, uint64_t seed) {
  return at::randn({n, d}, at::make_generator<at::CPUGeneratorImpl>(seed));
}
at::Tensor unit(const at::Tensor& rows) {
  return rows / rows.norm(2, 1, true);
}

class GpuSearchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (gpu_count() == 0) GTEST_SKIP() << "no GPU";
    numerics(KernelChoice::kFused);
  }
  static void numerics(KernelChoice search) {
    Config config;
    config.device = DeviceKind::kCuda;
    config.kernels.search = search;
    set_numerics(config, /*local_rank=*/0, at::get_num_threads());
  }

  static void expect_same(const ScaledRows& labels, const at::Tensor& queries, const TopK& expected, int64_t k,
                          const IndexConfig& config) {
    const TopK found = ExactIndex(labels, 77, config).search(queries, k);
    EXPECT_TRUE(found.ids.cpu().equal(expected.ids)) << "k " << k;
    EXPECT_TRUE(found.scores.cpu().equal(expected.scores)) << "k " << k << ": scores agree to the bit";
  }
  static void check(const at::Tensor& labels, const at::Tensor& queries, int64_t k, const at::Tensor& lengths = {}) {
    const at::Device gpu(at::kCUDA, 0);
    const TopK expected = ExactIndex({labels, lengths}, 77, {}).search(queries, k);
    const at::Tensor asked = queries.to(gpu);
    const ScaledRows resident(labels.to(gpu), lengths.defined() ? lengths.to(gpu) : lengths);
    const ScaledRows on_host = ScaledRows::streamed(labels, lengths, gpu);
    for (const int64_t block_labels : {256, 8192}) {
      IndexConfig config;
      config.block_labels = block_labels;
      config.block_queries = block_labels == 256 ? 50 : 1024;
      expect_same(resident, asked, expected, k, config);
      expect_same(on_host, asked, expected, k, config);
    }
  }
};

TEST_F(GpuSearchTest, AnswersAreTheCpusToTheBit) {
  const at::Tensor labels = unit(random_rows(200'000, 96, 1)), queries = unit(random_rows(300, 96, 2));
  for (const int64_t k : {1, 100, 3000}) check(labels, queries, k);
  check(labels.to(at::kHalf), queries, 100);
  const at::Tensor halves = (random_rows(50'000, 70, 3) * 5).to(at::kHalf);
  check(halves, unit(random_rows(100, 70, 4)), 50, halves.to(at::kDouble).norm(2, 1));
}

TEST_F(GpuSearchTest, HostileRows) {
  const at::Tensor queries = unit(random_rows(40, 32, 5));
  check(at::ones({30'000, 32}), queries, 10);
  check(at::round(random_rows(100, 32, 6)).repeat({300, 1}), at::round(queries * 3), 200);
  check(unit(random_rows(1, 32, 7)) + random_rows(30'000, 32, 8) * 1e-7, queries, 10);
  check(at::arange(30'000, at::kFloat).unsqueeze(1) * at::ones({1, 32}) / 100, at::ones({2, 32}), 100);
  at::Tensor mixed = random_rows(30'000, 32, 9);
  mixed.slice(0, 0, 30'000, 5).mul_(1e16);
  mixed.slice(0, 1, 30'000, 5).zero_();
  mixed.slice(0, 2, 30'000, 5).mul_(1e-42);
  check(mixed, queries, 300);
}

TEST_F(GpuSearchTest, ReferencesAnswerTheSame) {
  numerics(KernelChoice::kReference);
  check(unit(random_rows(3000, 40, 10)), unit(random_rows(20, 40, 11)), 20);
  numerics(KernelChoice::kFused);
}

TEST_F(GpuSearchTest, CanonicalDotsAreTheCpus) {
  const at::Device gpu(at::kCUDA, 0);
  for (const int64_t d : {1, 17, 384}) {
    const at::Tensor a = random_rows(1000, d, 12), b = random_rows(1000, d, 13);
    EXPECT_TRUE(canonical_dot(a.to(gpu), b.to(gpu)).cpu().equal(canonical_dot(a, b))) << d;
  }
}

}  // namespace
}  // namespace vixen
