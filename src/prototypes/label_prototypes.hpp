// The label side of PRIME: prototype network, free vectors, centroids and the cluster of each label.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>

#include "comm/node_array.hpp"
#include "comm/sharded_table.hpp"
#include "config/config.hpp"
#include "model/prototype.hpp"

namespace vixen {

class LabelPrototypes {
 public:
  /// Registers the network's parameters in `store` (not yet allocated). Collective.
  LabelPrototypes(const Config& config, int64_t n_labels, int64_t width, ParameterStore& store, Communicator& comm);
  /// Makes the sharded tables (zeros), the centroids where `centroids` says. Before anything below.
  void allocate(TablePlacement centroids);

  /// Before training: the network's weights (after store.allocate()), the free vector of each label by balanced 2-means
  /// over the initial label embeddings, and the free vectors themselves. label_embeddings: this rank's rows of u,
  /// float32 [local labels, D] (need not be unit), which become unit rows: a second table of them may not fit.
  /// Collective.
  void initialise(at::Tensor label_embeddings, bool show_progress);
  /// Bytes that initialise() holds at its fullest besides the label embeddings and the tables.
  static int64_t initialise_bytes(const Config& config, int64_t local_labels, int64_t width, int64_t world_size,
                                  bool cpu);

  /// Bytes of a rank's share of the tables of `n_labels` labels: free vectors with their gradients and moments; and
  /// centroids.
  static int64_t free_vector_bytes(const Config& config, int64_t n_labels, int64_t width, int64_t world_size);
  static int64_t centroid_bytes(int64_t n_labels, int64_t width, int64_t world_size);
  /// Elements of all free vectors.
  static int64_t free_vector_elements(const Config& config, int64_t n_labels, int64_t width);

  /// n(z) of this rank's labels from their u [local labels, D], in evaluation mode, float32; written over u, block by
  /// block, and returned. Collective.
  at::Tensor representations(at::Tensor label_embeddings);

  /// Bytes that this rank holds: free vectors, their moments and gradient; centroids.
  int64_t local_bytes() const;

  PrototypeNetwork& network() { return *network_; }
  ShardedTable& free_vectors() { return *free_vectors_; }
  ShardedTable& centroids() { return *centroids_; }
  /// The row of the free vector table of every label [L]; 0 until initialise().
  const NodeArray<int32_t>& cluster_of_label() const { return cluster_of_label_; }
  void set_cluster_of_label(NodeArray<int32_t> clusters);
  /// The clusters of some labels, int64 [m] host. ids int64 [m] host. Local.
  at::Tensor clusters_of(const at::Tensor& label_ids) const;

 private:
  void set_cluster_means(const at::Tensor& unit_labels);
  // Clusters of this rank's labels [first, first + count), int64 host.
  at::Tensor own_clusters(int64_t first, int64_t count) const;

  Config config_;
  Communicator* comm_;
  int64_t n_labels_;
  int64_t width_;
  int depth_;
  std::unique_ptr<PrototypeNetwork> network_;
  std::unique_ptr<ShardedTable> free_vectors_;  // [C, D]
  std::unique_ptr<ShardedTable> centroids_;     // [L, D]
  NodeArray<int32_t> cluster_of_label_;
};

}  // namespace vixen
