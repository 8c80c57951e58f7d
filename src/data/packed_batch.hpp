// A batch of sequences without padding: what an encoder sees.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "data/dataset.hpp"

namespace vixen {

/// n sequences laid end to end in T positions. Encoder order within a sequence: [images][CLS] text [SEP].
struct PackedBatch {
  at::Tensor tokens;        // int64 [T]: token ids; 0 where the position is an image
  at::Tensor position_ids;  // int64 [T]: 0.. within the sequence (compat.padded_positions: shifted by missing images)
  at::Tensor cu_seqlens;    // int32 [n+1]: first position of each sequence, and T
  at::Tensor image_embeddings;  // float32 [M, I]: pictures in order of their positions; undefined when M = 0
  at::Tensor image_positions;   // int64 [M]: their places in 0..T-1
  at::Tensor text_positions;    // int64 [T-M]: places of the text tokens (all positions when M = 0)
  at::Tensor sequence_keys;     // int64 [n]: global identity of each sequence within its step, the key of its dropout
  int64_t max_seqlen = 0;
  int64_t n_sequences() const { return cu_seqlens.size(0) - 1; }
  int64_t n_positions() const { return tokens.size(0); }

  PackedBatch to(at::Device device) const;  // pinned and asynchronous for CUDA
};

struct PackOptions {
  bool images = true;
  bool padded_positions = false;  // compat.padded_positions
  int64_t image_slots = 0;        // max_images of the data set, for padded positions
};

/// A piece of a batch: `rows` of `table`; sequence i of it gets the dropout key first_key + i.
struct PackPiece {
  const SequenceTable* table = nullptr;
  std::span<const int64_t> rows;
  int64_t first_key = 0;
};

/// Packs the pieces one after the other on the CPU. Local.
PackedBatch pack_batch(std::span<const PackPiece> pieces, const ImageStore& images, const PackOptions& options);

}  // namespace vixen
