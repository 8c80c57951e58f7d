// Everything that a run trains and trains with, made from a configuration and a data set.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/counting_communicator.hpp"
#include "comm/node_array.hpp"
#include "comm/sharded_table.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"
#include "data/packed_batch.hpp"
#include "data/pairs.hpp"
#include "mining/mined_lists.hpp"
#include "model/layered_encoder.hpp"
#include "model/parameters.hpp"
#include "objective/objective.hpp"
#include "plan/memory_plan.hpp"
#include "prototypes/label_prototypes.hpp"
#include "sampling/batch_plan.hpp"
#include "sampling/sampler.hpp"
#include "train/optimiser.hpp"
#include "train/train_step.hpp"

namespace vixen {

/// The parts point to one another: neither copied nor moved.
struct TrainingParts {
  /// Loads the backbone and makes all tables. inverse_propensity [L] weighs the draw of positives. UserError for
  /// settings that cannot work (batch smaller than W, a budget that is too small, weights that do not fit). `dataset`
  /// must outlive the object. Collective.
  TrainingParts(const Config& config, const Dataset& dataset, NodeArray<double> inverse_propensity,
                std::shared_ptr<Communicator> comm);
  TrainingParts(const TrainingParts&) = delete;
  TrainingParts& operator=(const TrainingParts&) = delete;

  Config config;  // with lora.* as adapters in use say
  const Dataset& dataset;
  std::shared_ptr<CountingCommunicator> messages;  // comm, with run.count_messages; else null
  std::shared_ptr<Communicator> comm;
  PackOptions pack;   // of inference
  MemoryPlan memory;  // what a rank needs, and how it was made to fit
  ParameterStore store;
  std::unique_ptr<LayeredEncoder> encoder;
  std::unique_ptr<Objective> objective;
  std::unique_ptr<Sampler> sampler;
  std::unique_ptr<LabelPrototypes> prototypes;  // null where the objective has none
  std::unique_ptr<ShardedTable> bank;           // [N, D] unit query embeddings seen last, float16
  std::unique_ptr<ShardedTable> label_bank;     // [L, D] unit label embeddings seen last, float16; null unless mined
  std::unique_ptr<MinedLists> mined;            // null without mining
  std::unique_ptr<AdamW> optimiser;
  std::unique_ptr<BatchPlanner> planner;
  std::unique_ptr<TrainStep> step;
  OwnedRagged queries_of_label;  // of this rank's labels
  // What the run began with, as checkpoints name it (model/weight_fingerprint.hpp); adapter: null without one.
  nlohmann::json base_fingerprint, adapter_fingerprint;
};

/// The order of queries [N] in an epoch, kept once a node. Collective.
NodeArray<int64_t> epoch_order(const TrainingParts& parts, uint64_t epoch);

}  // namespace vixen
