// 2-means' CUDA kernels, emulated: what their references and the CPU's loops give, to the bit, in three orders of
// threads; bytes. Whole trees: tests/pretend/emulated_clusters.cpp.
#include "cluster/device_kernels.hpp"
#include "cluster/two_means_arithmetic.hpp"
#include "emulated/comparison.hpp"

namespace vixen::emulated {
namespace {

using EmulatedClusters = LentToCpu<two_means::lend_cluster_kernels, emulated_cuda_cluster_kernels>;

at::Tensor random_rows(int64_t n, int64_t d, uint64_t seed) {
  return at::randn({n, d}, at::make_generator<at::CPUGeneratorImpl>(seed));
}
at::Tensor unit_rows_of(const at::Tensor& rows) {
  at::Tensor out = at::empty(rows.sizes(), at::kFloat);
  two_means::unit_rows(rows, out);
  return out;
}
at::Tensor ids(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong);
}

/// body() by the kernels gives what body() gives by the references, to the bit.
Counts expect_bits_of_reference(const Body& body) {
  const Results want = body();
  Counts counted;
  const EmulatedClusters emulated;
  const Results got = in_all_orders(body, &counted);
  EXPECT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(same_bits(got[i], want[i])) << "result " << i;
  return counted;
}

constexpr int64_t kWidths[] = {1, 3, 4, 37, 96, 130, 384, 1500};

TEST(EmulatedClusterKernels, UnitRows) {
  for (const int64_t width : kWidths)
    for (const auto dtype : {at::kFloat, at::kHalf}) {
      SCOPED_TRACE(testing::Message() << width << " columns, " << c10::toString(dtype));
      at::Tensor rows = random_rows(9, width, 1);
      rows[3].zero_();
      rows[4].mul_(dtype == at::kFloat ? 1e-30 : 1e-4);
      rows[5].mul_(dtype == at::kFloat ? 1e30 : 1e3);
      rows = rows.to(dtype);
      const Counts counted = expect_bits_of_reference([&] { return Results{unit_rows_of(rows)}; });
      EXPECT_EQ(counted.loaded_bytes, int64_t{2} * 9 * width * static_cast<int64_t>(rows.element_size()));
      EXPECT_EQ(counted.stored_bytes, 9 * width * 4);
      EXPECT_TRUE(same_bits(unit_rows_of(rows), two_means::unit_rows_cpu(rows)));
    }
}

TEST(EmulatedClusterKernels, UnitRowsInTheirOwnPlace) {
  const at::Tensor rows = random_rows(20, 48, 2);
  expect_bits_of_reference([&] {
    at::Tensor own = rows.clone();
    two_means::unit_rows(own, own);
    return Results{own};
  });
}

TEST(EmulatedClusterKernels, ScoresAndSums) {
  for (const int64_t width : kWidths) {
    SCOPED_TRACE(testing::Message() << width << " columns");
    const at::Tensor x = unit_rows_of(random_rows(40, width, 3));
    at::Tensor differences = (unit_rows_of(random_rows(4, width, 4)) - unit_rows_of(random_rows(4, width, 5)));
    differences = differences.to(at::kDouble);
    // Slots of one row, of none and of more rows than a piece has.
    std::vector<int64_t> rows, slots;
    std::vector<double> signs;
    const auto list = [&](int64_t slot, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        rows.push_back((7 * std::ssize(rows) + 3) % 40);
        slots.push_back(slot);
        signs.push_back(i % 3 == 0 ? -1 : 1);
      }
    };
    list(0, 1);
    list(1, 30);
    list(3, 600);
    const int64_t m = std::ssize(rows), pieces = 1 + 1 + 3, lanes = lanes_of(at::kFloat, width);
    Counts counted =
        expect_bits_of_reference([&] { return Results{two_means::row_scores(x, ids(rows), ids(slots), differences)}; });
    const int64_t blocks = (m + 7) / 8;  // of eight warps, all of whose lanes ask for a row and a slot
    EXPECT_EQ(counted.loaded_bytes, m * width * 12 + blocks * 256 * 16);
    EXPECT_EQ(counted.stored_bytes, 4 * m);
    counted = expect_bits_of_reference([&] {
      at::Tensor sums = differences.clone();
      two_means::add_rows(x, ids(rows), ids(slots), at::tensor(signs, at::kDouble), sums);
      return Results{sums};
    });
    EXPECT_EQ(counted.loaded_bytes, m * width * 4 + (m + pieces) * 16 * (width / lanes));
    EXPECT_EQ(counted.stored_bytes, pieces * width * 8);

    const at::Tensor scores = two_means::row_scores(x, ids(rows), ids(slots), differences);
    for (int64_t i = 0; i < m; i += 50)
      EXPECT_EQ(scores[i].item<float>(),
                static_cast<float>(two_means::exact_dot(
                    x.const_data_ptr<float>() + rows[static_cast<size_t>(i)] * width,
                    differences.const_data_ptr<double>() + slots[static_cast<size_t>(i)] * width, width)));
  }
}

TEST(EmulatedClusterKernels, ListsWithoutRows) {
  const EmulatedClusters emulated;
  const at::Tensor x = unit_rows_of(random_rows(3, 8, 6));
  at::Tensor sums = at::ones({2, 8}, at::kDouble);
  EXPECT_EQ(two_means::row_scores(x, ids({}), ids({}), sums).numel(), 0);
  two_means::add_rows(x, ids({}), ids({}), at::empty({0}, at::kDouble), sums);
  EXPECT_TRUE(sums.equal(at::ones({2, 8}, at::kDouble)));
}

}  // namespace
}  // namespace vixen::emulated
