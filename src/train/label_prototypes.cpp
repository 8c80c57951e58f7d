// Free vectors, centroids and prototypes of the label shard.
#include "train/label_prototypes.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "base/random.hpp"
#include "cluster/balanced_two_means.hpp"
#include "kernels/pooling.hpp"

namespace vixen {
namespace {

// Distinguishes the initialisation of the free vectors from that of numbered parameters.
constexpr uint64_t kFreeVectorInitKey = uint64_t{1} << 32;
constexpr uint64_t kFreeVectorClusterEpoch = ~uint64_t{0};

// Xavier-uniform rows of a [n_rows, width] table; each value depends on its global place only.
void fill_xavier(at::Tensor local, RowRange range, int64_t n_rows, uint64_t seed) {
  const int64_t width = local.size(1);
  const double bound = std::sqrt(6.0 / static_cast<double>(n_rows + width));
  auto host = at::empty({range.size(), width}, at::kFloat);
  auto* values = host.data_ptr<float>();
#pragma omp parallel for
  for (int64_t i = 0; i < range.size() * width; ++i) {
    const auto element = static_cast<uint64_t>(range.begin * width + i);
    values[i] =
        static_cast<float>((2 * random_uniform(seed, RandomStream::kInit, kFreeVectorInitKey, element) - 1) * bound);
  }
  local.copy_(host);
}

}  // namespace

LabelPrototypes::LabelPrototypes(const Config& config, int64_t n_labels, int64_t width, ParameterStore& store,
                                 Communicator& comm)
    : config_(config),
      comm_(&comm),
      depth_(depth_for_free_vectors(config.prototype.free_vectors, n_labels)),
      network_(std::make_unique<PrototypeNetwork>(config.prototype, width, store)),
      free_vectors_(comm, int64_t{1} << depth_, width),
      centroids_(comm, n_labels, width),
      cluster_of_label_(at::zeros({n_labels}, at::kLong)) {}

void LabelPrototypes::initialise(const at::Tensor& label_embeddings, bool show_progress) {
  network_->initialise(config_.train.seed);
  TwoMeansOptions options;
  options.depth = depth_;
  options.seed = config_.train.seed;
  options.epoch = kFreeVectorClusterEpoch;
  options.show_progress = show_progress;
  cluster_of_label_ = balanced_two_means(label_embeddings, centroids_.shards(), options, *comm_).to(at::kLong);

  if (config_.prototype.init == FreeVectorInit::kXavier) {
    fill_xavier(free_vectors_.local(), free_vectors_.local_range(), free_vectors_.shards().n_rows(),
                config_.train.seed);
    return;
  }
  // Mean of the cluster's unit label embeddings: sums and counts meet at the owners.
  const auto range = centroids_.local_range();
  const auto clusters = cluster_of_label_.narrow(0, range.begin, range.size()).contiguous();
  const auto unit = normalize_rows(label_embeddings).y;
  auto sums = at::zeros_like(free_vectors_.local());
  free_vectors_.scatter_add(clusters, unit, sums);
  const auto own = free_vectors_.local_range();
  const auto counts = at::bincount(cluster_of_label_, {}, free_vectors_.shards().n_rows())
                          .narrow(0, own.begin, own.size())
                          .clamp_min(1)
                          .to(sums.options());
  free_vectors_.local().copy_(sums / counts.unsqueeze(1));
}

at::Tensor LabelPrototypes::clusters_of(const at::Tensor& label_ids) const {
  return cluster_of_label_.index_select(0, label_ids);
}

at::Tensor LabelPrototypes::representations(const at::Tensor& label_embeddings) {
  const auto range = centroids_.local_range();
  auto result = at::empty_like(label_embeddings);
  // Ranks meet in every gather of free vectors, so all go on until the one with the most labels is done.
  const int64_t most = centroids_.shards().max_rows();
  for (int64_t first = 0; first < most; first += RowShards::kBlockRows) {
    const int64_t begin = std::min(first, range.size());
    const int64_t rows = std::min(RowShards::kBlockRows, range.size() - begin);
    const auto free = free_vectors_.gather(cluster_of_label_.narrow(0, range.begin + begin, rows).contiguous());
    if (rows == 0) continue;
    const auto keys =
        at::arange(range.begin + begin, range.begin + begin + rows, at::kLong).to(label_embeddings.device());
    const auto z = network_->forward(label_embeddings.narrow(0, begin, rows), free,
                                     centroids_.local().narrow(0, begin, rows), keys, PassContext{}, nullptr);
    result.narrow(0, begin, rows).copy_(normalize_rows(z).y);
  }
  return result;
}

}  // namespace vixen
