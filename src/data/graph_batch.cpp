#include "data/graph_batch.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.hpp"

namespace vixen {
namespace {

// A longest sequence in steps of what attention's kernel takes at a time; pictures in steps that leave few shapes.
constexpr int64_t kLengthStep = 16, kImageStep = 64;

int64_t rounded_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

// So many sequences of filler that none of them is longer than `longest`, whatever is missing, and none is empty.
int64_t fillers(int64_t bucket, int64_t longest) {
  return (bucket + longest - 1) / longest + 1;
}

at::Tensor with(const at::Tensor& values, const at::Tensor& more) {
  return at::cat({values, more.to(values.scalar_type())}, 0);
}

}  // namespace

GraphShape graph_shape(const PackedBatch& batch, int64_t bucket, int64_t max_positions) {
  const int64_t longest =
      std::min(rounded_up(batch.max_seqlen, kLengthStep), std::max(max_positions, batch.max_seqlen));
  const int64_t more = fillers(bucket, longest);
  return {.positions = rounded_up(batch.n_positions() + more, bucket),
          .sequences = batch.n_sequences() + more,
          .images = rounded_up(batch.n_images(), kImageStep),
          .longest = longest};
}

int64_t most_filler(int64_t bucket, int64_t max_positions) {
  // The longest sequence of a batch may be short: then filler is many sequences.
  return bucket + fillers(bucket, std::min(kLengthStep, max_positions)) - 1;
}

PackedBatch fill_batch(const PackedBatch& batch, const GraphShape& shape) {
  const int64_t t = batch.n_positions(), missing = shape.positions - t, more = shape.sequences - batch.n_sequences();
  VIXEN_CHECK(batch.tokens.is_cpu() && more >= 1 && missing >= more && missing <= more * shape.longest &&
                  shape.images >= batch.n_images(),
              "{} positions and {} sequences of filler", missing, more);
  // Nearly alike in length.
  const at::Tensor ends = at::arange(1, more + 1, at::kLong) * missing / more;
  const at::Tensor lasts = ends.to(at::kLong);
  const at::Tensor lengths = lasts.diff(1, 0, at::zeros({1}, at::kLong));
  const at::Tensor begins = lasts - lengths;

  PackedBatch filled = batch;
  filled.tokens = with(batch.tokens, at::zeros({missing}, at::kLong));
  filled.position_ids =
      with(batch.position_ids, at::arange(missing, at::kLong) - at::repeat_interleave(begins, lengths));
  filled.cu_seqlens = with(batch.cu_seqlens, lasts + t);
  // No key of a sequence of the batch, and none that a run would have.
  filled.sequence_keys = with(batch.sequence_keys, -1 - at::arange(more, at::kLong));
  filled.max_seqlen = shape.longest;
  if (shape.images > 0) {
    const int64_t pictures = shape.images - batch.n_images();
    filled.image_positions = with(batch.image_positions, at::full({pictures}, t, at::kLong));
    filled.image_embeddings =
        with(batch.image_embeddings, at::zeros({pictures, batch.image_embeddings.size(1)}, at::kFloat));
  }
  // As many as there are positions, so that their number is the shape's: the last one again and again.
  const int64_t texts = batch.text_positions.numel();
  const at::Tensor text = with(batch.text_positions, at::arange(t, shape.positions, at::kLong));
  filled.text_positions = with(text, at::full({shape.positions - texts - missing}, shape.positions - 1, at::kLong));
  return filled;
}

}  // namespace vixen
