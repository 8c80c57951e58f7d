// One training step of all ranks: forward, objective, backward, update.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <memory>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/sharded_table.hpp"
#include "config/config.hpp"
#include "data/packed_batch.hpp"
#include "kernels/pooling.hpp"
#include "model/encoder.hpp"
#include "train/batch_plan.hpp"
#include "train/label_prototypes.hpp"
#include "train/optimiser.hpp"

namespace vixen {

/// What the prefetch thread hands over: the global plan, and this rank's share of it, packed and on the device.
struct StepInput {
  BatchPlan plan;
  RowRange slice;  // this rank's rows of the batch
  /// Its queries, then its labels, as one packed batch or (gradient caching) several, whole sequences each.
  std::vector<PackedBatch> chunks;
  at::Tensor label_ids;       // int64 [b] host: its labels
  at::Tensor clusters;        // int64 [b] host: their free vectors (undefined without prototypes)
  at::Tensor prototype_keys;  // int64 [b] device: dropout keys of its prototypes
  at::Tensor positives;       // bool [B, B] device
  LossDraws draws;            // device
  at::Tensor bank_rows;       // int64 [B] host: rows of the query bank

  int64_t n_positions() const {
    int64_t n = 0;
    for (const PackedBatch& chunk : chunks) n += chunk.n_positions();
    return n;
  }
};

/// Device scalars of a step; nothing here makes the host wait.
struct StepResult {
  at::Tensor loss, loss_u, loss_uv, loss_i, loss_r;
  at::Tensor grad_norm;  // defined when asked for or when clipping
  double collective_seconds = 0, forward_seconds = 0, backward_seconds = 0, optimiser_seconds = 0;  // host time
};

/// The trained parts and the step over them. `prototypes` is null for the methods without them.
class TrainStep {
 public:
  /// chunks: parts of gradient caching; 1: none.
  TrainStep(const Config& config, ParameterStore& store, Encoder& encoder, LabelPrototypes* prototypes,
            ShardedTable& bank, AdamW& optimiser, int64_t chunks, Communicator& comm);

  /// Packs this rank's share of a plan, with train.image_dropout, cuts it into chunks and moves them to the device.
  /// pack: the options of inference. Safe on the prefetch thread while the step before runs: reads the data set, the
  /// settings and the prototypes' map from labels to clusters, which no step changes. Local.
  StepInput prepare(BatchPlan plan, const Dataset& dataset, const PackOptions& pack) const;

  /// Loss, gradients (summed over ranks, in the store and in free_vector_grad()) and the bank's rows, no update.
  /// Collective.
  StepResult accumulate(const StepInput& input);
  /// Clips and updates with the schedule's factor. want_norm: fills grad_norm even without clipping. Collective.
  void update(double lr_factor, bool want_norm, StepResult& result);

  /// Gradient of this rank's free vectors [local rows, D]; undefined without prototypes.
  const at::Tensor& free_vector_grad() const { return free_vector_grad_; }

 private:
  // n(z) of this rank's labels; undefined without prototypes. u [b, D] not normalised. Collective.
  Normalized prototypes(const StepInput& input, const at::Tensor& u, const PassContext& context,
                        std::unique_ptr<PrototypeNetwork::Saved>* saved);
  // q, u, z [B, D] of all ranks. Collective.
  std::array<at::Tensor, 3> gather_batch(const StepInput& input, const Normalized& q, const Normalized& u,
                                         const Normalized& z);
  // Starts the sum over ranks of the gradients of the parameters [first, last); null when there is nothing to sum.
  std::unique_ptr<CommHandle> reduce_gradients(int first, int last);

  const Config* config_;
  ParameterStore* store_;
  Encoder* encoder_;
  LabelPrototypes* prototypes_;
  ShardedTable* bank_;
  AdamW* optimiser_;
  int64_t chunks_;
  Communicator* comm_;
  at::Tensor free_vector_grad_;
};

}  // namespace vixen
