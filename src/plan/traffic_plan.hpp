// What ranks send one another in a training step, exchange by exchange, to the byte (comm/message_counts.hpp says what
// counts as sent): the one description that plans of many nodes are made from, and that counters of real runs are held
// against. Passes outside of steps, evaluations, minings and checkpoints are not a step's.
//   W ranks; B queries and M label columns of a batch, b and m of a rank; D width; N queries, L labels, C free vectors
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comm/message_counts.hpp"
#include "config/config.hpp"
#include "model/layered_encoder.hpp"
#include "model/parameters.hpp"
#include "model/prototype.hpp"
#include "plan/memory_plan.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Gradients that become final together, in the order of the backward pass.
struct FinishedGradients {
  RowRange elements;  // of the flat gradients
  double done = 0;    // share of the encoder's backward pass that is over by then, layers being alike
};

/// What decides what is sent.
struct TrafficShape {
  Config config;
  int64_t world_size = 1;
  int64_t width = 0;
  int64_t queries = 0, labels = 0;  // N, L
  int64_t columns = 0;              // M of a full batch
  ObjectiveWay way = ObjectiveWay::kReplicated;
  std::vector<FinishedGradients> gradients;
};
/// network: null where the objective has no prototypes.
TrafficShape traffic_shape(const MemoryShape& shape, ObjectiveWay way, const LayeredEncoder& encoder,
                           const ParameterStore& store, const PrototypeNetwork* network);

/// When ranks exchange something, and what goes on meanwhile.
enum class Moment {
  kAhead,      // between hosts, for a batch to come, while the device computes
  kForward,    // behind the encoder's forward pass; all wait for it, as up to kBackward
  kGather,     // before the objective
  kObjective,  // in it, and before the backward pass
  kBackward,   // sets out while the encoder's backward pass goes on
  kUpdate,     // behind it; all wait
  kBehind,     // between hosts, asked for now and looked at a step later
};

/// A collective of a step, on one rank.
struct Exchange {
  std::string name;
  Moment moment = Moment::kUpdate;
  Collective collective = Collective::kAllReduceSum;
  int64_t bytes = 0;             // that this rank sends
  double payload_bytes = 0;      // as plan/topology.hpp takes them
  bool depends_on_rows = false;  // on which rows the batch has: `bytes` is exact where they are known, else expected
  double done = 1;               // kBackward: share of the backward pass that is over when it sets out
};

/// The rows of a batch, the same on every rank. free_vector_rows [M]: of the label columns; empty without prototypes.
struct BatchRows {
  std::span<const int64_t> query_rows, label_rows, free_vector_rows;
};

/// The step that is asked about.
struct StepKind {
  bool logged = false;  // the last of a log interval: a line is written
  bool agrees = true;   // ranks tell one another whether to stop, as behind all steps of an epoch but its last
};

/// In the order in which rank `rank` of shape.world_size calls them. rows: of the batch; null: a full batch, whose rows
/// are drawn evenly and independently, so that exchanges that depend on them are given as expected. One rank makes
/// all calls but those for the flat gradients, and sends nothing.
std::vector<Exchange> step_exchanges(const TrafficShape& shape, const StepKind& kind, int rank,
                                     const BatchRows* rows = nullptr);
/// Calls and bytes by collective.
MessageCounts counts_of(std::span<const Exchange> exchanges);

/// An exchange over all ranks.
struct Traffic {
  Exchange most;            // of the rank that sends most
  int64_t total_bytes = 0;  // of all ranks
};
/// Of a full batch in a step that is not logged.
std::vector<Traffic> step_traffic(const TrafficShape& shape);

}  // namespace vixen
