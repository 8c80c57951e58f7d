// Free vectors from cluster means, and representations of all labels: what one rank alone has, for every world size.
#include "prototypes/label_prototypes.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fixtures/single_rank.hpp"
#include "mpi/mpi_main.hpp"

namespace vixen {
namespace {

using test::world;

// More labels than are summed at a time.
constexpr int64_t kLabels = 20'000, kWidth = 16;

at::Tensor random_rows(uint64_t seed) {
  return at::randn({kLabels, kWidth}, at::make_generator<at::CPUGeneratorImpl>(seed), at::dtype(at::kFloat));
}

// The label side of one communicator; its rows of u from the whole [L, D].
struct LabelSide {
  LabelSide(Communicator& comm, FreeVectorInit init, TablePlacement centroids) {
    config.prototype.free_vectors = 256;
    config.prototype.heads = 4;
    config.prototype.feed_forward = 32;
    config.prototype.init = init;
    prototypes = std::make_unique<LabelPrototypes>(config, kLabels, kWidth, store, comm);
    prototypes->allocate(centroids);
    store.allocate(at::kCPU, at::kFloat);
    prototypes->initialise(own(random_rows(1)), false);
    prototypes->centroids().local().copy_(own(random_rows(2)));
  }
  at::Tensor own(const at::Tensor& whole) {
    const RowRange range = prototypes->centroids().local_range();
    return whole.narrow(0, range.begin, range.size()).clone();
  }

  Config config;
  ParameterStore store;
  std::unique_ptr<LabelPrototypes> prototypes;
};

TEST(LabelPrototypes, free_vectors_and_representations_are_those_of_one_rank) {
  for (const auto init : {FreeVectorInit::kXavier, FreeVectorInit::kClusterMean}) {
    test::SingleRank one;
    LabelSide together(world(), init, TablePlacement::kHost), alone(one, init, TablePlacement::kDevice);
    EXPECT_TRUE(together.prototypes->cluster_of_label().tensor().equal(alone.prototypes->cluster_of_label().tensor()));
    EXPECT_TRUE(together.prototypes->free_vectors().gather_all().equal(alone.prototypes->free_vectors().local()))
        << "the same bits";
    EXPECT_GT(alone.prototypes->free_vectors().local().abs().min().item<double>(), 0);
    const auto z = together.prototypes->representations(together.own(random_rows(3)));
    const auto expected = together.own(alone.prototypes->representations(random_rows(3)));
    EXPECT_TRUE(z.equal(expected)) << "blocks are the same for every world size";
  }
}

}  // namespace
}  // namespace vixen
