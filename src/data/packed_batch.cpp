// Packs sequences end to end: two passes, first the lengths, then every array in its final place.
// n sequences, T positions, M pictures of width I.
#include "data/packed_batch.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "base/check.hpp"

namespace vixen {
namespace {

/// Whether any half has an exponent of all ones: NaN or infinity.
bool has_non_finite(const uint16_t* halves, int64_t n) {
  unsigned any = 0;
#pragma omp simd reduction(| : any)
  for (int64_t i = 0; i < n; ++i) any |= static_cast<unsigned>((halves[i] & 0x7C00) == 0x7C00);
  return any != 0;
}

/// Rows of the store as float32 [rows.size(), I]. Gathered as they are, then converted a few rows at a time:
/// vectorised, within the cache, and below the size at which ATen would wake other threads.
at::Tensor gather_images(const ImageStore& images, const std::vector<int32_t>& rows) {
  constexpr int64_t kChunkValues = 16384;
  const auto n = static_cast<int64_t>(rows.size());
  const int64_t chunk = std::clamp<int64_t>(kChunkValues / images.width, 1, n);
  at::Tensor out = at::empty({n, images.width}, at::kFloat);
  at::Tensor halves = at::empty({chunk, images.width}, at::kHalf);
  auto* gathered = static_cast<uint16_t*>(halves.mutable_data_ptr());
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t count = std::min(chunk, n - first);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t row = rows[static_cast<size_t>(first + i)];
      VIXEN_CHECK(row >= 0 && row < images.n_rows, "image row {} of {}", row, images.n_rows);
      std::memcpy(gathered + i * images.width, images.rows + int64_t{row} * images.width,
                  static_cast<size_t>(images.width) * sizeof(uint16_t));
      if (has_non_finite(gathered + i * images.width, images.width))
        fail_user("{}: row {} holds NaN or infinity, expected finite values: embed that picture again", images.where,
                  row);
    }
    out.narrow(0, first, count).copy_(halves.narrow(0, 0, count));
  }
  return out;
}

}  // namespace

PackedBatch pack_batch(std::span<const PackPiece> pieces, const ImageStore& images, const PackOptions& options) {
  int64_t n_sequences = 0, n_positions = 0, n_images = 0;
  for (const PackPiece& piece : pieces) {
    n_sequences += static_cast<int64_t>(piece.rows.size());
    for (const int64_t row : piece.rows) {
      VIXEN_CHECK(row >= 0 && row < piece.table->size(), "row {} of {}", row, piece.table->size());
      n_positions += static_cast<int64_t>(piece.table->tokens[row].size());
      if (options.images) n_images += static_cast<int64_t>(piece.table->images[row].size());
    }
  }
  n_positions += n_images;

  PackedBatch batch;
  batch.tokens = at::empty({n_positions}, at::kLong);
  batch.position_ids = at::empty({n_positions}, at::kLong);
  batch.cu_seqlens = at::empty({n_sequences + 1}, at::kInt);
  batch.text_positions = at::empty({n_positions - n_images}, at::kLong);
  batch.sequence_keys = at::empty({n_sequences}, at::kLong);
  if (n_images > 0) batch.image_positions = at::empty({n_images}, at::kLong);
  VIXEN_CHECK(n_positions <= std::numeric_limits<int32_t>::max(), "{} positions", n_positions);

  auto* tokens = batch.tokens.mutable_data_ptr<int64_t>();
  auto* position_ids = batch.position_ids.mutable_data_ptr<int64_t>();
  auto* cu_seqlens = batch.cu_seqlens.mutable_data_ptr<int32_t>();
  auto* text_positions = batch.text_positions.mutable_data_ptr<int64_t>();
  auto* keys = batch.sequence_keys.mutable_data_ptr<int64_t>();
  int64_t* image_positions = n_images > 0 ? batch.image_positions.mutable_data_ptr<int64_t>() : nullptr;
  std::vector<int32_t> image_rows;
  image_rows.reserve(static_cast<size_t>(n_images));

  int64_t at = 0, sequence = 0;
  *cu_seqlens = 0;
  for (const PackPiece& piece : pieces) {
    for (size_t i = 0; i < piece.rows.size(); ++i) {
      const int64_t first = at, row = piece.rows[i];
      if (options.images) {
        const auto pictures = piece.table->images[row];
        VIXEN_CHECK(!options.padded_positions || static_cast<int64_t>(pictures.size()) <= options.image_slots,
                    "{} pictures in {} slots", pictures.size(), options.image_slots);
        for (const int32_t picture : pictures) {
          tokens[at] = 0;
          position_ids[at] = at - first;
          *image_positions++ = at++;
          image_rows.push_back(picture);
        }
      }
      // Contiguous numbering, or (compat.padded_positions) as if every image slot were taken.
      int64_t position = options.images && options.padded_positions ? options.image_slots : at - first;
      for (const int32_t token : piece.table->tokens[row]) {
        tokens[at] = token;
        position_ids[at] = position++;
        *text_positions++ = at++;
      }
      VIXEN_CHECK(at > first, "row {} is empty", row);
      keys[sequence] = piece.first_key + static_cast<int64_t>(i);
      cu_seqlens[++sequence] = static_cast<int32_t>(at);
      batch.max_seqlen = std::max(batch.max_seqlen, at - first);
    }
  }
  if (n_images > 0) batch.image_embeddings = gather_images(images, image_rows);
  return batch;
}

PackedBatch PackedBatch::to(at::Device device) const {
  const auto move = [&](const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.device() == device) return tensor;
    // Pageable memory would make the copy synchronous. The host allocator keeps the pinned block until the copy is
    // done.
    const at::Tensor source = device.is_cuda() && tensor.is_cpu() ? tensor.pin_memory() : tensor;
    return source.to(device, /*non_blocking=*/true);
  };
  PackedBatch moved = *this;
  for (at::Tensor PackedBatch::*member :
       {&PackedBatch::tokens, &PackedBatch::position_ids, &PackedBatch::cu_seqlens, &PackedBatch::image_embeddings,
        &PackedBatch::image_positions, &PackedBatch::text_positions, &PackedBatch::sequence_keys})
    moved.*member = move(this->*member);
  return moved;
}

}  // namespace vixen
