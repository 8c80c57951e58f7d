// A pass of the encoder over many rows in evaluation mode: labels, training or test queries.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

#include "data/dataset.hpp"
#include "data/packed_batch.hpp"
#include "model/encoder.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

struct EncodePassOptions {
  PackOptions pack;
  at::Device device = at::kCPU;
  int64_t block_rows = RowShards::kBlockRows;  // rows of a forward pass
  int64_t prefetch = 2;                        // blocks packed ahead
  std::string progress_label;                  // empty: no progress bar
};

/// h of the rows [range.begin, range.end) of a table, a block at a time: take(first row, h float32 [m, D] on the
/// device, not normalised). Memory: one block. Blocks and their embeddings as encode_rows. Local.
void encode_blocks(Encoder& encoder, const SequenceTable& table, const ImageStore& images, RowRange range,
                   const EncodePassOptions& options,
                   const std::function<void(int64_t first_row, const at::Tensor& h)>& take);

/// h of the rows [range.begin, range.end) of a table, float32 [range.size(), D] on the device, not normalised. Blocks
/// start at range.begin; when that is a multiple of block_rows (RowShards), every row meets the same neighbours for
/// every world size, and its embedding is the same to the bit. Local.
at::Tensor encode_rows(Encoder& encoder, const SequenceTable& table, const ImageStore& images, RowRange range,
                       const EncodePassOptions& options);

}  // namespace vixen
