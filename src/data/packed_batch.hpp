// A batch of sequences without padding: what an encoder sees.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "data/dataset.hpp"
#include "data/sequence_template.hpp"

namespace vixen {

/// n sequences laid end to end in T positions; the order within one is the template's (data/sequence_template.hpp).
struct PackedBatch {
  at::Tensor tokens;            // int64 [T]: token ids; 0 where the position is an image
  at::Tensor position_ids;      // int64 [T]: 0.. within the sequence (compat.padded_positions: as the authors' code)
  at::Tensor cu_seqlens;        // int32 [n+1]: first position of each sequence, and T
  at::Tensor image_embeddings;  // float32 [M, I]: pictures in order of their positions; undefined when M = 0
  at::Tensor image_positions;   // int64 [M]: their places in 0..T-1
  at::Tensor text_positions;    // int64 [T-M]: places of the tokens, prompts included (all positions when M = 0)
  at::Tensor sequence_keys;     // int64 [n]: global identity of each sequence within its step, the key of its dropout
  int64_t max_seqlen = 0;
  // Of a batch that to() has put on a device: what the host reads of it.
  at::Tensor host_cu_seqlens, host_image_positions;

  int64_t n_sequences() const { return cu_seqlens.size(0) - 1; }
  int64_t n_positions() const { return tokens.size(0); }
  int64_t n_images() const { return image_positions.defined() ? image_positions.size(0) : 0; }
  /// cu_seqlens and image_positions (undefined without pictures) on the host, which waits for nothing after to().
  at::Tensor offsets_on_host() const { return host_cu_seqlens.defined() ? host_cu_seqlens : cu_seqlens.cpu(); }
  at::Tensor images_on_host() const;

  PackedBatch to(at::Device device) const;  // from the host: as to_device()
  /// Adds those that to() moves, undefined ones too.
  void append_tensors(std::vector<at::Tensor>& tensors) const;
};

struct PackOptions {
  bool images = true;             // the model takes pictures
  bool padded_positions = false;  // compat.padded_positions
  int64_t image_slots = 0;        // max_images of the data set, for padded positions
  SequenceTemplate prompt = {};
  bool withhold_images = false;  // of a model that takes pictures: sequences go without theirs (data.query_images)
  double image_dropout = 0;  // probability that a sequence goes without its pictures, keyed by (seed, step, its key)
  uint64_t seed = 0, step = 0;
};

/// A piece of a batch: `rows` of `table`; sequence i of it gets the dropout key first_key + i.
struct PackPiece {
  const SequenceTable* table = nullptr;
  std::span<const int64_t> rows;
  int64_t first_key = 0;
};

/// Packs the pieces one after the other on the CPU. Local. A picture with NaN or infinity is a UserError naming its
/// row. Padded positions number a sequence as it would lie with every slot taken, each part in its template's order:
/// pictures take image_slots, a decoder's text takes prompt.text_slots (a bos that was moved to the front included).
PackedBatch pack_batch(std::span<const PackPiece> pieces, const ImageStore& images, const PackOptions& options);

/// Positions of the longest sequence that a data set can give: text, prompt and pictures (padded numbering included),
/// whatever withhold_images and image_dropout say. 0 for a data set without rows.
int64_t longest_sequence(const Dataset& dataset, const PackOptions& options);

}  // namespace vixen
