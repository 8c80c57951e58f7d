// The label side of PRIME: prototype network, free vectors, centroids and the cluster of each label.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>

#include "comm/sharded_table.hpp"
#include "config/config.hpp"
#include "model/prototype.hpp"

namespace vixen {

class LabelPrototypes {
 public:
  /// Registers the network's parameters in `store` (not yet allocated) and makes the sharded tables.
  LabelPrototypes(const Config& config, int64_t n_labels, int64_t width, ParameterStore& store, Communicator& comm);

  /// Before training: the network's weights (after store.allocate()), the free vector of each label by balanced 2-means
  /// over the initial label embeddings, and the free vectors themselves. label_embeddings: this rank's rows of u,
  /// float32 [local labels, D] (need not be unit). Collective.
  void initialise(const at::Tensor& label_embeddings, bool show_progress);

  /// n(z) of this rank's labels from their u [local labels, D], in evaluation mode, float32. Collective.
  at::Tensor representations(const at::Tensor& label_embeddings);

  PrototypeNetwork& network() { return *network_; }
  ShardedTable& free_vectors() { return free_vectors_; }
  ShardedTable& centroids() { return centroids_; }
  /// int64 [L] on the host: row of the free vector table.
  at::Tensor& cluster_of_label() { return cluster_of_label_; }
  /// The clusters of some labels. ids int64 [m] host.
  at::Tensor clusters_of(const at::Tensor& label_ids) const;

 private:
  Config config_;
  Communicator* comm_;
  int depth_;
  std::unique_ptr<PrototypeNetwork> network_;
  ShardedTable free_vectors_;  // [C, D]
  ShardedTable centroids_;     // [L, D]
  at::Tensor cluster_of_label_;
};

}  // namespace vixen
