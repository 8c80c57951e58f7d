// The sampler `clustered`: NGAME's curriculum (docs/algorithm.md section 6). Plain shuffles at first; from
// cluster.start_epoch on, batches of neighbours by balanced 2-means over the query bank, in clusters that grow.
#include "sampling/clustered.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "base/check.hpp"
#include "cluster/balanced_two_means.hpp"
#include "sampling/sampler.hpp"
#include "sampling/shuffled.hpp"

namespace vixen {

void fill_clustered_order(std::span<const int32_t> leaf, uint64_t seed, uint64_t epoch, std::span<int64_t> order) {
  const auto n = std::ssize(leaf);
  VIXEN_CHECK(std::ssize(order) == n, "an order of {} for {} queries", order.size(), n);
  const int64_t n_leaves = n == 0 ? 0 : int64_t{*std::max_element(leaf.begin(), leaf.end())} + 1;
  std::vector<int64_t> clusters(static_cast<size_t>(n_leaves)), first(static_cast<size_t>(n_leaves)),
      size(static_cast<size_t>(n_leaves), 0);
  std::iota(clusters.begin(), clusters.end(), 0);
  shuffle(clusters, seed, epoch);
  for (int64_t i = 0; i < n; ++i) {
    VIXEN_CHECK(leaf[static_cast<size_t>(i)] >= 0, "query {} is in leaf {}", i, leaf[static_cast<size_t>(i)]);
    ++size[static_cast<size_t>(leaf[static_cast<size_t>(i)])];
  }
  int64_t at = 0;
  for (const int64_t cluster : clusters) {
    first[static_cast<size_t>(cluster)] = at;
    at += size[static_cast<size_t>(cluster)];
  }
  for (int64_t i = 0; i < n; ++i)
    order[static_cast<size_t>(first[static_cast<size_t>(leaf[static_cast<size_t>(i)])]++)] = i;
}

namespace {

// Iterations that a split takes until it gains less than its tolerance (on title embeddings).
constexpr double kTwoMeansIterations = 8;

class Clustered : public Sampler {
 public:
  Clustered(const Config& config, int64_t n_queries)
      : curriculum_(config.cluster),
        seed_(config.train.seed),
        epochs_(config.train.epochs),
        n_queries_(n_queries),
        size_(config.cluster.size) {}

  void fill_order(uint64_t epoch, std::span<int64_t> order) const override {
    leaves_.size() > 0 ? fill_clustered_order(leaves_.view(), seed_, epoch, order)
                       : fill_shuffled_order(seed_, epoch, order);
  }

  void end_epoch(uint64_t epoch, bool more, const ShardedTable& bank, Communicator& comm) override {
    const auto ended = static_cast<int64_t>(epoch);
    const auto& doubles = curriculum_.double_at;
    if (std::find(doubles.begin(), doubles.end(), ended) != doubles.end()) size_ *= 2;
    const int64_t since_start = ended - curriculum_.start_epoch;
    if (!more || since_start < 0 || since_start % curriculum_.update_epochs != 0) return;
    TwoMeansOptions options;
    options.depth = depth_for_cluster_size(n_queries_, size_);
    options.seed = seed_;
    options.epoch = epoch;
    leaves_ = balanced_two_means(bank.local(), bank.shards(), options, comm);
  }

  // The names are those of checkpoints since the first version.
  SamplerState state() const override {
    SamplerState state;
    state.scalars = {{"cluster_size", size_}, {"has_leaves", leaves_.size() > 0}};
    if (leaves_.size() > 0) state.dense["leaves"] = leaves_.tensor();
    return state;
  }
  void restore(const SamplerState& state, Communicator& comm) override {
    size_ = state.scalars.at("cluster_size").get<int64_t>();
    if (!state.scalars.at("has_leaves").get<bool>()) return;
    const auto saved = state.dense.find("leaves");
    if (saved == state.dense.end()) fail_user("damaged: has no tensor leaves, expected one");
    if (saved->second.sizes() != at::IntArrayRef{n_queries_})
      fail_user("damaged: tensor leaves has {} rows, expected {}", saved->second.numel(), n_queries_);
    leaves_ = shared_ints(saved->second, comm);
  }

  int64_t end_epoch_bytes(int64_t local_queries, int64_t width, int64_t world_size, bool cpu) const override {
    return updates() == 0 ? 0 : two_means_bytes(local_queries, width, world_size, cpu, /*in_place=*/false);
  }
  int64_t updates() const override {
    const int64_t last = epochs_ - 2;  // the last epoch at whose end another one follows
    return last < curriculum_.start_epoch ? 0 : 1 + (last - curriculum_.start_epoch) / curriculum_.update_epochs;
  }
  double update_traffic_bytes(int64_t local_queries, int64_t width) const override {
    const double depth = depth_for_cluster_size(n_queries_, curriculum_.size);
    return static_cast<double>(local_queries) * static_cast<double>(width) * sizeof(float) * depth *
           kTwoMeansIterations;
  }

 private:
  ClusterConfig curriculum_;
  uint64_t seed_;
  int64_t epochs_, n_queries_;
  int64_t size_;               // queries of a cluster now
  NodeArray<int32_t> leaves_;  // [N] cluster of each query; empty before the first clustering
};

}  // namespace

std::unique_ptr<Sampler> make_clustered(const Config& config, int64_t n_queries) {
  return std::make_unique<Clustered>(config, n_queries);
}

}  // namespace vixen
