// Gradient caching (GradCache, arXiv 2101.06983): a batch is embedded in chunks that keep nothing, and every chunk is
// re-embedded, with activations kept, once the gradients of the whole batch's embeddings are known.
//   n sequences in C chunks; h [n, D]
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "data/packed_batch.hpp"
#include "model/encoder.hpp"

namespace vixen {

/// Cuts a packed batch between sequences into at most `chunks` parts of nearly the same number of positions, none
/// empty. One part: the batch itself. On the CPU (offsets are read on the host); the parts are views. Local.
std::vector<PackedBatch> split_batch(const PackedBatch& batch, int64_t chunks);

/// One training pass over the chunks. With one chunk nothing is computed twice.
class ChunkedEncoder {
 public:
  /// `chunks` must outlive the object.
  ChunkedEncoder(Encoder& encoder, std::span<const PackedBatch> chunks, const PassContext& context);

  /// h [n, D] float32 of all sequences, in order. Local.
  at::Tensor forward();
  /// grad_h [n, D]: adds into the store's gradients. Dropout is keyed by step and sequence, so that the second pass is
  /// identical to the first. on_ready as Encoder::backward; called in the last chunk, when all have been added. Local.
  void backward(const at::Tensor& grad_h, const std::function<void(int, int)>& on_ready);

 private:
  Encoder* encoder_;
  std::span<const PackedBatch> chunks_;
  PassContext context_;
  std::unique_ptr<Encoder::Saved> saved_;  // of the only chunk
};

}  // namespace vixen
