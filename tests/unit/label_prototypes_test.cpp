// What the passes over all labels hold of memory: one table of embeddings, never a second one.
#include "prototypes/label_prototypes.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "cluster/balanced_two_means.hpp"
#include "device/device.hpp"
#include "device/tracked_memory.hpp"
#include "fixtures/single_rank.hpp"
#include "kernels/pooling.hpp"
#include "prototypes/centroids.hpp"

namespace vixen {
namespace {

constexpr int64_t kLabels = 40'000, kWidth = 64, kFreeVectors = 512;
constexpr int64_t kTable = kLabels * kWidth * 4;

at::Tensor random_rows(int64_t n, uint64_t seed) {
  return at::randn({n, kWidth}, at::make_generator<at::CPUGeneratorImpl>(seed), at::dtype(at::kFloat));
}

// Bytes that work holds at its fullest beyond what was alive before.
template <typename Work>
int64_t peak_of(Work work) {
  const int64_t before = tensor_bytes();
  reset_peak_tensor_bytes();
  work();
  return peak_tensor_bytes() - before;
}

class LabelPrototypesTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    track_tensor_memory();
    set_threads(2);
  }

  LabelPrototypesTest() {
    config_.prototype.free_vectors = kFreeVectors;
    config_.prototype.heads = 4;
    config_.prototype.feed_forward = 64;
    config_.prototype.init = FreeVectorInit::kClusterMean;
    prototypes_ = std::make_unique<LabelPrototypes>(config_, kLabels, kWidth, store_, comm_);
    prototypes_->allocate(TablePlacement::kHost);
    store_.allocate(at::kCPU, at::kFloat);
  }

  test::SingleRank comm_;
  Config config_;
  ParameterStore store_;
  std::unique_ptr<LabelPrototypes> prototypes_;
};

TEST_F(LabelPrototypesTest, FreeVectorsAreTheMeansOfTheirClusters) {
  const auto u = random_rows(kLabels, 1);
  at::Tensor own = u.clone();
  const int64_t planned = LabelPrototypes::initialise_bytes(config_, kLabels, kWidth, 1, /*cpu=*/true);
  const int64_t measured = peak_of([&] { prototypes_->initialise(std::move(own), false); });
  EXPECT_LE(measured, planned + kLabels * 5 * 8) << "beside lists of ids and clusters";
  EXPECT_GE(measured, planned / 2);
  EXPECT_LT(planned, kTable);

  const auto unit = normalize_rows(u).y.to(at::kDouble);
  const auto clusters = prototypes_->cluster_of_label().tensor().to(at::kLong);
  at::Tensor means = at::zeros({kFreeVectors, kWidth}, at::kDouble);
  means.index_add_(0, clusters, unit);
  means.div_(at::bincount(clusters, {}, kFreeVectors).unsqueeze(1));
  EXPECT_LE((prototypes_->free_vectors().local() - means).abs().max().item<double>(), 1e-6);
}

TEST_F(LabelPrototypesTest, RepresentationsAreWrittenOverTheEmbeddings) {
  prototypes_->initialise(random_rows(kLabels, 1), false);
  prototypes_->centroids().local().copy_(random_rows(kLabels, 2));
  const auto u = random_rows(kLabels, 3);
  at::Tensor own = u.clone();
  const void* data = own.data_ptr();
  at::Tensor z;
  EXPECT_LT(peak_of([&] { z = prototypes_->representations(std::move(own)); }), kTable / 2) << "no second table";
  EXPECT_EQ(z.data_ptr(), data);
  // Rows on their own, across the borders of blocks.
  for (const int64_t first : {int64_t{0}, int64_t{500}, kLabels - 20}) {
    const auto ids = at::arange(first, first + 20, at::kLong);
    const auto expected =
        normalize_rows(prototypes_->network().forward(
                           u.narrow(0, first, 20), prototypes_->free_vectors().gather(prototypes_->clusters_of(ids)),
                           prototypes_->centroids().gather(ids), ids, PassContext{}, nullptr))
            .y;
    EXPECT_LE((z.narrow(0, first, 20) - expected).abs().max().item<double>(), 1e-6);
  }
}

TEST_F(LabelPrototypesTest, ClusteringHoldsWhatIsPlanned) {
  const RowShards shards(kLabels, 1);
  for (const bool in_place : {false, true}) {
    at::Tensor rows = random_rows(kLabels, 5);
    const TwoMeansOptions options{.depth = 9, .in_place = in_place};
    const int64_t planned = two_means_bytes(kLabels, kWidth, 1, /*cpu=*/true, in_place);
    EXPECT_EQ(planned, in_place ? 0 : kTable);
    const int64_t measured = peak_of([&] { balanced_two_means(rows, shards, options, comm_); });
    EXPECT_GE(measured, planned);
    EXPECT_LE(measured, planned + kLabels * kWidth + kLabels * 16) << "a mask of a chunk, which is all of these; ids";
  }
}

}  // namespace
}  // namespace vixen
