// How much memory a rank needs for training, by part, before anything is allocated; and how a budget is kept by
// recomputing layers and by gradient caching in chunks.
//   b = ceil(B / W) rows of a rank, so 2b sequences of T positions with M pictures; D width, L labels, N queries, C
//   free vectors
// Counted are tensors. Everything here is a pure function: ranks that ask the same get the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "data/packed_batch.hpp"
#include "model/encoder.hpp"
#include "model/parameters.hpp"

namespace vixen {

/// Positions (prompt and pictures included) and pictures of the sequences that a side draws.
struct LengthStatistics {
  double mean = 0, deviation = 0;                // of the length
  double mean_square = 0, square_deviation = 0;  // of its square
  double mean_images = 0, images_deviation = 0;
  int64_t longest = 0, most_images = 0;
};

/// What of a data set decides memory and time.
struct DataShape {
  int64_t queries = 0, labels = 0, test_queries = 0;
  LengthStatistics query, label;  // label: as a batch draws them, each as often as its queries ask for it
  int64_t image_width = 0;
};
DataShape data_shape(const Dataset& dataset, const PackOptions& pack);
/// Of [plan] keys; lengths are taken to deviate by half their mean. Unknown test split: a quarter of the queries.
DataShape data_shape(const PlanConfig& plan);

/// The mean batch of 2 rows sequences, and one that hardly any batch exceeds: four standard deviations above it.
Encoder::BatchShape mean_batch(const DataShape& data, int64_t rows);
Encoder::BatchShape worst_batch(const DataShape& data, int64_t rows);

/// What decides a rank's memory.
struct MemoryShape {
  Config config;
  DataShape data;
  int64_t world_size = 1;
  bool cpu = true;
  int64_t width = 0;
  int64_t trained_elements = 0;  // of the flat buffers
  int64_t frozen_bytes = 0;      // of the base in memory
  int64_t mapped_bytes = 0;      // of the base in the page cache, shared by the ranks of a node
  int64_t copy_bytes = 0;        // bf16 copies of trained parameters
  Encoder::BatchShape batch;     // of a rank, as large as it may get
};
/// `store` with all parameters registered; nothing needs to be allocated. Reads config.json for the dtype that frozen
/// weights are stored in.
MemoryShape memory_shape(const Config& config, const DataShape& data, const Encoder& encoder,
                         const ParameterStore& store, int64_t world_size, bool cpu);

/// How a step keeps its memory.
struct MemoryChoice {
  int64_t recompute_layers = 0;
  int64_t chunks = 1;
  bool operator==(const MemoryChoice&) const = default;
};

struct MemoryPart {
  std::string name;
  int64_t bytes = 0;
};

struct MemoryPlan {
  MemoryChoice choice;
  std::vector<MemoryPart> resident;  // there all the time
  std::vector<MemoryPart> step;      // besides, at the fullest moment of a step
  std::vector<MemoryPart> passes;    // besides, at the fullest moment of each pass outside of steps; one at a time
  int64_t mapped_bytes = 0;          // not counted: the system may drop them
  int64_t slack_bytes = 0;           // what allocators and libraries take beyond tensors
  int64_t budget_bytes = 0;          // 0: none

  int64_t resident_bytes() const;
  int64_t step_bytes() const;
  /// The largest pass.
  int64_t pass_bytes() const;
  /// Tensors at the fullest moment of all.
  int64_t tensor_bytes() const;
  int64_t peak_bytes() const { return tensor_bytes() + slack_bytes; }
};

/// The bytes of one way to run.
MemoryPlan predict_memory(const MemoryShape& shape, const Encoder& encoder, const MemoryChoice& choice);

/// Largest number of chunks that makes sense: one sequence each.
int64_t most_chunks(const MemoryShape& shape);

/// Keeps everything when that fits into budget_bytes (or there is none); else recomputes the fewest layers; else caches
/// gradients in the fewest chunks; else in chunks with all layers recomputed. train.chunks and train.recompute_layers
/// fix what they name. UserError that says the least that works when nothing fits.
MemoryPlan plan_memory(const MemoryShape& shape, const Encoder& encoder, int64_t budget_bytes);

/// The choice in words: "activations of all layers are kept".
std::string choice_text(const MemoryPlan& plan, int64_t n_layers);
/// A table of the parts in GB with the choice.
std::string memory_table(const MemoryPlan& plan, int64_t n_layers);

}  // namespace vixen
