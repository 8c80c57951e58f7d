// Free vectors, centroids and prototypes of the label shard.
#include "prototypes/label_prototypes.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/check.hpp"
#include "base/random.hpp"
#include "cluster/balanced_two_means.hpp"
#include "device/transfer.hpp"
#include "kernels/pooling.hpp"

namespace vixen {
namespace {

// Distinguishes the initialisation of the free vectors from that of numbered parameters.
constexpr uint64_t kFreeVectorInitKey = uint64_t{1} << 32;
constexpr uint64_t kFreeVectorClusterEpoch = ~uint64_t{0};
// Labels of all ranks whose embeddings are summed at a time: 8192 of width 3584 are 117 MB.
constexpr int64_t kMeanRows = 8192;
// Tables of free vectors in all.
constexpr int64_t kValueGradientMoments = 4;

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
      n_labels_(n_labels),
      width_(width),
      depth_(depth_for_free_vectors(config.prototype.free_vectors, n_labels)),
      network_(std::make_unique<PrototypeNetwork>(config.prototype, width, store)),
      cluster_of_label_(NodeArray<int32_t>::zeros(n_labels, comm)) {}

void LabelPrototypes::allocate(TablePlacement centroids) {
  free_vectors_ = std::make_unique<ShardedTable>(*comm_, int64_t{1} << depth_, width_);
  centroids_ = std::make_unique<ShardedTable>(*comm_, n_labels_, width_, at::kFloat, centroids);
}

void LabelPrototypes::initialise(at::Tensor label_embeddings, bool show_progress) {
  network_->initialise(config_.train.seed);
  TwoMeansOptions options;
  options.depth = depth_;
  options.seed = config_.train.seed;
  options.epoch = kFreeVectorClusterEpoch;
  options.in_place = true;
  options.show_progress = show_progress;
  cluster_of_label_ = balanced_two_means(label_embeddings, centroids_->shards(), options, *comm_);

  if (config_.prototype.init == FreeVectorInit::kXavier) {
    fill_xavier(free_vectors_->local(), free_vectors_->local_range(), free_vectors_->shards().n_rows(),
                config_.train.seed);
    return;
  }
  set_cluster_means(label_embeddings);
}

// Free vectors: the mean of the unit embeddings of the labels of each cluster. Sums and counts meet at the owners, some
// clusters at a time: all labels of a cluster travel together, so that their order, hence the sum, is that of the ids.
void LabelPrototypes::set_cluster_means(const at::Tensor& unit_labels) {
  const auto range = centroids_->local_range();
  const int64_t clusters = free_vectors_->shards().n_rows();
  const auto cluster_of = own_clusters(0, range.size());
  const auto [sorted, order] = at::sort(cluster_of, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const int64_t* sorted_clusters = sorted.const_data_ptr<int64_t>();
  auto sums = free_vectors_->local();
  sums.zero_();
  const int64_t parts = (n_labels_ + kMeanRows - 1) / kMeanRows;
  int64_t first = 0;
  for (int64_t part = 0; part < parts; ++part) {
    const auto* end =
        std::lower_bound(sorted_clusters + first, sorted_clusters + range.size(), clusters * (part + 1) / parts);
    const int64_t rows = end - (sorted_clusters + first);
    const auto places = order.narrow(0, first, rows);
    free_vectors_->scatter_add(sorted.narrow(0, first, rows),
                               unit_labels.index_select(0, to_device(places, unit_labels.device())), sums);
    first += rows;
  }
  const auto own = free_vectors_->local_range();
  auto counts = at::zeros({own.size()}, at::kLong);
  auto* count = counts.mutable_data_ptr<int64_t>();
  for (const int32_t cluster : cluster_of_label_.view())
    if (own.contains(cluster)) ++count[cluster - own.begin];
  sums.div_(counts.clamp_min(1).to(sums.options()).unsqueeze(1));
}

int64_t LabelPrototypes::initialise_bytes(const Config& config, int64_t local_labels, int64_t width, int64_t world_size,
                                          bool cpu) {
  const int64_t clustering = two_means_bytes(local_labels, width, world_size, cpu, /*in_place=*/true);
  if (config.prototype.init == FreeVectorInit::kXavier) return clustering;
  // Rows as picked, as sorted to be sent, as they came in, and their sums.
  const int64_t means = 4 * std::min(local_labels, kMeanRows) * width * static_cast<int64_t>(sizeof(float));
  return std::max(clustering, means);
}

int64_t LabelPrototypes::free_vector_bytes(const Config& config, int64_t n_labels, int64_t width, int64_t world_size) {
  const int64_t vectors = int64_t{1} << depth_for_free_vectors(config.prototype.free_vectors, n_labels);
  return kValueGradientMoments * RowShards(vectors, static_cast<int>(world_size)).max_rows() * width *
         static_cast<int64_t>(sizeof(float));
}

int64_t LabelPrototypes::centroid_bytes(int64_t n_labels, int64_t width, int64_t world_size) {
  return RowShards(n_labels, static_cast<int>(world_size)).max_rows() * width * static_cast<int64_t>(sizeof(float));
}

int64_t LabelPrototypes::local_bytes() const {
  return kValueGradientMoments * static_cast<int64_t>(free_vectors_->local().nbytes()) +
         static_cast<int64_t>(centroids_->local().nbytes());
}

int64_t LabelPrototypes::free_vector_elements(const Config& config, int64_t n_labels, int64_t width) {
  return (int64_t{1} << depth_for_free_vectors(config.prototype.free_vectors, n_labels)) * width;
}

at::Tensor LabelPrototypes::clusters_of(const at::Tensor& label_ids) const {
  auto clusters = at::empty_like(label_ids);
  const auto* label = label_ids.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < label_ids.numel(); ++i) clusters.mutable_data_ptr<int64_t>()[i] = cluster_of_label_[label[i]];
  return clusters;
}

at::Tensor LabelPrototypes::own_clusters(int64_t first, int64_t count) const {
  const auto own = cluster_of_label_.view().subspan(static_cast<size_t>(centroids_->local_range().begin + first),
                                                    static_cast<size_t>(count));
  auto clusters = at::empty({count}, at::kLong);
  std::copy(own.begin(), own.end(), clusters.mutable_data_ptr<int64_t>());
  return clusters;
}

void LabelPrototypes::set_cluster_of_label(NodeArray<int32_t> clusters) {
  VIXEN_CHECK(clusters.size() == n_labels_, "clusters of {} labels for {}", clusters.size(), n_labels_);
  cluster_of_label_ = std::move(clusters);
}

at::Tensor LabelPrototypes::representations(at::Tensor label_embeddings) {
  const auto range = centroids_->local_range();
  const auto device = label_embeddings.device();
  // Ranks meet in every gather of free vectors, so all go on until the one with the most labels is done.
  const int64_t most = centroids_->shards().max_rows();
  for (int64_t first = 0; first < most; first += RowShards::kBlockRows) {
    const int64_t begin = std::min(first, range.size());
    const int64_t rows = std::min(RowShards::kBlockRows, range.size() - begin);
    const auto free = free_vectors_->gather(own_clusters(begin, rows));
    if (rows == 0) continue;
    const auto keys = to_device(at::arange(range.begin + begin, range.begin + begin + rows, at::kLong), device);
    auto block = label_embeddings.narrow(0, begin, rows);
    const auto z = network_->forward(block, free, centroids_->local_on_device(begin, rows), keys, PassContext{},
                                     /*saved=*/nullptr);
    block.copy_(normalize_rows(z).y);
  }
  return label_embeddings;
}

}  // namespace vixen
