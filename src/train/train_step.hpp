// One training step of all ranks: forward, objective, backward, update.
//   B queries and M label columns of the batch, b and m of this rank; D width, P relevant pairs
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/sharded_table.hpp"
#include "config/config.hpp"
#include "data/packed_batch.hpp"
#include "device/copy_stream.hpp"
#include "device/device_timer.hpp"
#include "kernels/pooling.hpp"
#include "model/encoder.hpp"
#include "objective/objective.hpp"
#include "prototypes/label_prototypes.hpp"
#include "sampling/batch_plan.hpp"
#include "train/gradient_reduction.hpp"
#include "train/optimiser.hpp"
#include "train/recorded_passes.hpp"
#include "train/spread.hpp"

namespace vixen {

/// The global plan of a step, and this rank's share of it, packed and on the device. Made by a thread that runs ahead
/// of the steps (data/prefetcher.hpp).
struct StepInput {
  BatchPlan plan;
  RowRange queries, labels;  // this rank's rows of the batch: [b] of B, [m] of M
  /// Its queries, then its labels, as one packed batch or (gradient caching) several, whole sequences each.
  std::vector<PackedBatch> chunks;
  // Of the free vectors and centroids of its labels, and back (nothing without prototypes); of the banks.
  RowGather free_vectors, centroids;
  RowSums free_vector_grads;
  RowWrites bank, label_bank;       // label_bank: nothing without one
  at::Tensor prototype_keys;        // int64 [m] device: dropout keys of its prototypes
  at::Tensor positives;             // int64 [2, P] device
  std::vector<at::Tensor> draws;    // device
  Arrival arrival;                  // of all this on the device
  int64_t n_positions = 0;          // of its sequences
  std::optional<GraphShape> graph;  // what the only chunk is filled up to, where passes are recorded
  /// Makes what was fetched usable on the current stream, without a wait of the host.
  void join() const;
};

/// Host seconds of a step's parts.
struct StepSeconds {
  double forward = 0, collectives = 0, backward = 0, optimiser = 0;
};

/// Device scalars of a step; nothing here makes the host wait.
struct StepResult {
  at::Tensor loss;
  std::vector<LossTerm> terms;
  at::Tensor grad_norm;                   // defined when asked for or when clipping
  std::optional<Spread> queries, labels;  // of the whole batch, when asked for
  StepSeconds seconds;
  /// Of this rank's encoder, forward and backward, which wait for no other rank; when asked for.
  std::optional<DeviceTimer> encoder;
};

/// What a step trains and trains with; everything outlives the step. `prototypes`: null where the objective has none.
struct StepParts {
  const Config& config;
  ParameterStore& store;
  Encoder& encoder;
  const Objective& objective;
  ObjectiveWay way;  // replicated or sharded
  LabelPrototypes* prototypes;
  ShardedTable& bank;
  ShardedTable* label_bank;  // null where nothing looks at it
  AdamW& optimiser;
  Communicator& comm;
  int64_t columns;  // M of a full batch: where dropout keys of prototypes begin
  int64_t chunks;   // parts of gradient caching; 1: none
};

class TrainStep {
 public:
  explicit TrainStep(const StepParts& parts);

  /// Packs this rank's share of a plan, with train.image_dropout, and cuts it into chunks. pack: the options of
  /// inference. Reads the data set and constants only: it may run on another thread beside accumulate() and update(),
  /// and copies to the device on a stream of its own. What the ranks exchange of the batch is planned here: all of them
  /// know all of it. Local.
  StepInput prepare(BatchPlan plan, const Dataset& dataset, const PackOptions& pack) const;

  /// Loss, gradients (summed over ranks, in the store and in free_vector_grad()) and the bank's rows, no update.
  /// logged: fills queries, labels and encoder. Collective.
  StepResult accumulate(const StepInput& input, bool logged = false);
  /// Clips and updates with the schedule's factor. want_norm: fills grad_norm even without clipping. Collective.
  void update(double lr_factor, bool want_norm, StepResult& result);

  /// See GradientReduction::forget_error().
  void forget_rounding_error() { reduction_.forget_error(); }

  /// Where train.graph_positions asks for them and the device has them; null else.
  const RecordedPasses* recorded_passes() const { return recorded_.get(); }

  /// Gradient of this rank's free vectors [local rows, D]; undefined without prototypes.
  const at::Tensor& free_vector_grad() const { return free_vector_grad_; }

 private:
  // The objective of a step whose negatives are not hard yet (objective/curriculum.hpp); null: the run's.
  std::unique_ptr<Objective> objective_of(uint64_t step) const;
  // n(z) of this rank's labels; undefined without prototypes. u [m, D] not normalised. Collective.
  Normalized prototypes(const StepInput& input, const at::Tensor& u, const PassContext& context,
                        std::unique_ptr<PrototypeNetwork::Saved>* saved);
  // q [B, D], u and z [M, D] of all ranks. Collective.
  std::array<at::Tensor, 3> gather_batch(const StepInput& input, const Normalized& q, const Normalized& u,
                                         const Normalized& z);
  StepParts parts_;
  std::unique_ptr<RecordedPasses> recorded_;  // null: passes run as they are
  CopyStream copies_;
  GradientReduction reduction_;
  at::Tensor free_vector_grad_;
};

}  // namespace vixen
