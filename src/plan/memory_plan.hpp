// How much memory a rank needs for training, by part, before anything is allocated; and how a budget is kept by
// tables in host memory, recomputing layers and gradient caching in chunks.
//   B queries and M label columns of a batch, b and m of a rank; D width, L labels, N queries, C free vectors
// Counted are tensors on the device. Everything here is a pure function: ranks that ask the same get the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/sharded_table.hpp"
#include "config/config.hpp"
#include "model/layered_encoder.hpp"
#include "model/parameters.hpp"
#include "plan/data_shape.hpp"

namespace vixen {

/// What decides a rank's memory.
struct MemoryShape {
  Config config;
  DataShape data;
  int64_t world_size = 1;
  int64_t node_ranks = 1;  // of the fullest node
  bool cpu = true;
  int64_t width = 0;
  int64_t trained_elements = 0;  // of the flat buffers
  int64_t frozen_bytes = 0;      // of the base in memory
  int64_t mapped_bytes = 0;      // of the base in the page cache, shared by the ranks of a node
  int64_t copy_bytes = 0;        // bf16 copies of trained parameters
  int64_t columns = 0;           // M
  int64_t rank_queries = 0;      // b
  int64_t rank_labels = 0;       // m
  BatchShape batch;              // of a rank, as large as it may get
};
/// `store` with all parameters registered; nothing needs to be allocated. Reads config.json for the dtype that frozen
/// weights are stored in.
MemoryShape memory_shape(const Config& config, const DataShape& data, const LayeredEncoder& encoder,
                         const ParameterStore& store, int64_t world_size, int64_t node_ranks, bool cpu);

/// How a step keeps its memory.
struct MemoryChoice {
  int64_t recompute_layers = 0;
  int64_t chunks = 1;
  TablePlacement tables = TablePlacement::kDevice;  // query bank and centroids; on a CPU both are the same memory
  bool operator==(const MemoryChoice&) const = default;
};

struct MemoryPart {
  std::string name;
  int64_t bytes = 0;
};

struct MemoryPlan {
  MemoryChoice choice;
  ObjectiveWay objective = ObjectiveWay::kReplicated;  // by train.objective or the batch's size, not by the budget
  std::vector<MemoryPart> resident;                    // there all the time
  std::vector<MemoryPart> step;                        // besides, at the fullest moment of a step
  std::vector<MemoryPart> passes;  // besides, at the fullest moment of each pass outside of steps; one at a time
  std::vector<MemoryPart> host;    // not counted: in host memory while the rest is on a GPU
  std::vector<MemoryPart> node;    // in host memory, once for all ranks of a node; of a CPU rank its share counts
  int64_t mapped_bytes = 0;        // not counted: the system may drop them
  int64_t slack_bytes = 0;         // what allocators and libraries take beyond tensors
  int64_t budget_bytes = 0;        // 0: none

  int64_t resident_bytes() const;
  int64_t step_bytes() const;
  /// The largest pass.
  int64_t pass_bytes() const;
  int64_t host_bytes() const;
  int64_t node_bytes() const;
  /// Tensors on the device at the fullest moment of all.
  int64_t tensor_bytes() const;
  int64_t peak_bytes() const { return tensor_bytes() + slack_bytes; }
};

/// The bytes of one way to run.
MemoryPlan predict_memory(const MemoryShape& shape, const LayeredEncoder& encoder, const MemoryChoice& choice);

/// Largest number of chunks that makes sense: one sequence each.
int64_t most_chunks(const MemoryShape& shape);

/// Keeps everything when that fits into budget_bytes (or there is none); else, on a GPU, puts query bank and centroids
/// into host memory (some milliseconds a step, less than a layer), which also leaves room below; else recomputes the
/// fewest layers; else caches gradients in the fewest chunks; else in chunks with all layers recomputed. What would do
/// as well with the tables on the device keeps them there. train.tables, train.chunks and train.recompute_layers fix
/// what they name. of_device: the budget is what the device has, not train.memory_gb. UserError that says the least
/// that works when nothing fits.
MemoryPlan plan_memory(const MemoryShape& shape, const LayeredEncoder& encoder, int64_t budget_bytes,
                       bool of_device = false);

/// The choice in words: "all activations are kept", "query bank and centroids in host memory, 20 of 28 layers ...".
std::string choice_text(const MemoryPlan& plan, int64_t n_layers);
/// A table of the parts in GB with the choice.
std::string memory_table(const MemoryPlan& plan, int64_t n_layers);

}  // namespace vixen
