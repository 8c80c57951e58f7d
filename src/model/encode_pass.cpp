// Evaluation-mode encoding, block by block; packing runs ahead on its own thread.
#include "model/encode_pass.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "base/progress.hpp"
#include "data/prefetcher.hpp"
#include "device/copy_stream.hpp"

namespace vixen {
namespace {

struct Block {
  PackedBatch batch;
  Arrival arrival;
};

}  // namespace

void encode_blocks(Encoder& encoder, const SequenceTable& table, const ImageStore& images, RowRange range,
                   const EncodePassOptions& options,
                   const std::function<void(int64_t first_row, const at::Tensor& h)>& take) {
  const int64_t blocks = (range.size() + options.block_rows - 1) / options.block_rows;
  const CopyStream copies(options.device);
  Prefetcher<Block> packed(
      [&](int64_t block) {
        const int64_t first = range.begin + block * options.block_rows;
        std::vector<int64_t> rows(static_cast<size_t>(std::min(options.block_rows, range.end - first)));
        std::iota(rows.begin(), rows.end(), first);
        const PackPiece piece{&table, rows, first};
        const CopyStream::Scope copying(copies);
        auto batch = pack_batch({&piece, 1}, images, options.pack).to(options.device);
        return Block{std::move(batch), copies.mark()};
      },
      0, blocks, static_cast<size_t>(std::max<int64_t>(1, options.prefetch)));

  Progress progress(options.progress_label, "rows", range.size(), !options.progress_label.empty());
  for (int64_t block = 0; block < blocks; ++block) {
    const auto [batch, arrival] = packed.next();
    std::vector<at::Tensor> tensors;
    batch.append_tensors(tensors);
    arrival.join(tensors);
    const auto h = encoder.forward(batch, PassContext{}, nullptr);
    take(range.begin + block * options.block_rows, h);
    progress.advance(h.size(0));
  }
}

at::Tensor encode_rows(Encoder& encoder, const SequenceTable& table, const ImageStore& images, RowRange range,
                       const EncodePassOptions& options) {
  auto result =
      at::empty({range.size(), encoder.width()}, at::TensorOptions().dtype(at::kFloat).device(options.device));
  encode_blocks(encoder, table, images, range, options,
                [&](int64_t first, const at::Tensor& h) { result.narrow(0, first - range.begin, h.size(0)).copy_(h); });
  return result;
}

}  // namespace vixen
