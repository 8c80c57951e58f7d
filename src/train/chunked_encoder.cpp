// Cutting packed batches, and the two passes over the parts.
#include "train/chunked_encoder.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.hpp"

namespace vixen {
namespace {

// Elements of the ascending `places` that lie in [begin, end), counted from begin.
at::Tensor places_within(const at::Tensor& places, int64_t begin, int64_t end, int64_t* first) {
  const auto* values = places.const_data_ptr<int64_t>();
  const auto* from = std::lower_bound(values, values + places.numel(), begin);
  const auto* to = std::lower_bound(from, values + places.numel(), end);
  *first = from - values;
  return places.narrow(0, *first, to - from) - begin;
}

// Sequences [from, to) of a batch.
PackedBatch part_of(const PackedBatch& batch, int64_t from, int64_t to) {
  const auto* ends = batch.cu_seqlens.const_data_ptr<int32_t>();
  const int64_t begin = ends[from], end = ends[to];
  PackedBatch part;
  part.tokens = batch.tokens.narrow(0, begin, end - begin);
  part.position_ids = batch.position_ids.narrow(0, begin, end - begin);
  part.cu_seqlens = batch.cu_seqlens.narrow(0, from, to - from + 1) - begin;
  part.sequence_keys = batch.sequence_keys.narrow(0, from, to - from);
  int64_t first = 0;
  part.text_positions = places_within(batch.text_positions, begin, end, &first);
  if (batch.image_embeddings.defined()) {
    const auto places = places_within(batch.image_positions, begin, end, &first);
    if (places.numel() > 0) {
      part.image_positions = places;
      part.image_embeddings = batch.image_embeddings.narrow(0, first, places.numel());
    }
  }
  for (int64_t i = from; i < to; ++i) part.max_seqlen = std::max<int64_t>(part.max_seqlen, ends[i + 1] - ends[i]);
  return part;
}

}  // namespace

std::vector<PackedBatch> split_batch(const PackedBatch& batch, int64_t chunks) {
  const int64_t n = batch.n_sequences();
  VIXEN_CHECK(chunks >= 1 && batch.cu_seqlens.is_cpu(), "{} chunks", chunks);
  if (chunks == 1 || n <= 1) return {batch};
  const auto* ends = batch.cu_seqlens.const_data_ptr<int32_t>();
  const double share = static_cast<double>(batch.n_positions()) / static_cast<double>(chunks);
  std::vector<PackedBatch> parts;
  for (int64_t chunk = 0, from = 0; chunk < chunks && from < n; ++chunk) {
    // The sequence whose end lies nearest to where the chunk should end.
    const double target = share * static_cast<double>(chunk + 1);
    int64_t to = chunk + 1 == chunks ? n : std::lower_bound(ends + from + 1, ends + n, target) - ends;
    if (to > from + 1 && target - ends[to - 1] < ends[to] - target) --to;
    parts.push_back(part_of(batch, from, to));
    from = to;
  }
  return parts;
}

ChunkedEncoder::ChunkedEncoder(Encoder& encoder, std::span<const PackedBatch> chunks, const PassContext& context)
    : encoder_(&encoder), chunks_(chunks), context_(context) {
  VIXEN_CHECK(!chunks.empty(), "a step without a chunk");
}

at::Tensor ChunkedEncoder::forward() {
  if (chunks_.size() == 1) return encoder_->forward(chunks_[0], context_, &saved_);
  std::vector<at::Tensor> parts;
  for (const PackedBatch& chunk : chunks_) parts.push_back(encoder_->forward(chunk, context_, nullptr));
  return at::cat(parts, 0);
}

void ChunkedEncoder::backward(const at::Tensor& grad_h, const std::function<void(int, int)>& on_ready) {
  if (chunks_.size() == 1) {
    encoder_->backward(grad_h, chunks_[0], context_, *saved_, on_ready);
    saved_.reset();
    return;
  }
  int64_t row = 0;
  for (size_t i = 0; i < chunks_.size(); ++i) {
    const PackedBatch& chunk = chunks_[i];
    encoder_->forward(chunk, context_, &saved_);
    encoder_->backward(grad_h.narrow(0, row, chunk.n_sequences()), chunk, context_, *saved_,
                       i + 1 == chunks_.size() ? on_ready : nullptr);
    saved_.reset();
    row += chunk.n_sequences();
  }
}

}  // namespace vixen
