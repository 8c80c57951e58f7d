// Packs sequences end to end: two passes, first the lengths, then every array in its final place.
// n sequences, T positions, M pictures of width I.
#include "data/packed_batch.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "base/check.hpp"
#include "base/random.hpp"
#include "device/transfer.hpp"

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

/// What one sequence is made of, besides the template's fixed pieces.
struct Parts {
  std::span<const int32_t> text;      // without the bos when that was moved
  std::span<const int32_t> pictures;  // rows of the image store
  bool bos_moved = false;             // the text's bos opens the sequence
  bool image_prefix = false;
};

bool padded_decoder(const PackOptions& options) {
  return options.padded_positions && options.prompt.decoder;
}

Parts parts_of(const PackPiece& piece, size_t i, const PackOptions& options) {
  const SequenceTemplate& prompt = options.prompt;
  const int64_t row = piece.rows[i];
  VIXEN_CHECK(row >= 0 && row < piece.table->size(), "row {} of {}", row, piece.table->size());
  Parts parts;
  parts.text = piece.table->tokens[row];
  VIXEN_CHECK(!parts.text.empty(), "row {} is empty", row);
  if (options.images && !options.withhold_images) parts.pictures = piece.table->images[row];
  if (options.image_dropout > 0 && !parts.pictures.empty() &&
      random_uniform(options.seed, RandomStream::kImageDropout, options.step,
                     static_cast<uint64_t>(piece.first_key) + i) < options.image_dropout)
    parts.pictures = {};
  if (options.images) parts.image_prefix = !parts.pictures.empty() || padded_decoder(options);
  // Whatever stands first becomes the attention sink, which is the bos's work.
  const bool preceded =
      !prompt.text_prefix.empty() ||
      (prompt.images_first && (!parts.pictures.empty() || (parts.image_prefix && !prompt.image_prefix.empty())));
  if (prompt.bos >= 0 && preceded && parts.text.front() == prompt.bos) {
    parts.bos_moved = true;
    parts.text = parts.text.subspan(1);
  }
  return parts;
}

int64_t positions_of(const Parts& parts, const SequenceTemplate& prompt) {
  const size_t image_prefix = parts.image_prefix ? prompt.image_prefix.size() : 0;
  return static_cast<int64_t>((parts.bos_moved ? 1 : 0) + prompt.text_prefix.size() + parts.text.size() + image_prefix +
                              parts.pictures.size() + prompt.closing.size());
}

/// Fills a batch's arrays from front to back.
struct Filler {
  int64_t* tokens;
  int64_t* position_ids;
  int64_t* text_positions;   // of the next token
  int64_t* image_positions;  // of the next picture
  std::vector<int32_t>* image_rows;
  int64_t at = 0;        // the next position of the batch
  int64_t position = 0;  // its number within the sequence

  void put_tokens(std::span<const int32_t> ids) {
    for (const int32_t id : ids) {
      tokens[at] = id;
      position_ids[at] = position++;
      *text_positions++ = at++;
    }
  }
  void put_pictures(std::span<const int32_t> rows) {
    for (const int32_t row : rows) {
      tokens[at] = 0;
      position_ids[at] = position++;
      *image_positions++ = at++;
      image_rows->push_back(row);
    }
  }
};

/// Appends one sequence. Free slots of padded positions take numbers, but no place.
void put_sequence(Filler& filler, const Parts& parts, const PackOptions& options) {
  const SequenceTemplate& prompt = options.prompt;
  const auto put_text = [&] {
    filler.put_tokens(prompt.text_prefix);
    const int64_t first = filler.position;
    filler.put_tokens(parts.text);
    if (!padded_decoder(options)) return;
    const int64_t slots = prompt.text_slots - (parts.bos_moved ? 1 : 0);
    VIXEN_CHECK(filler.position - first <= slots, "{} tokens in {} slots", filler.position - first, slots);
    filler.position = first + slots;
  };
  const auto put_images = [&] {
    if (parts.image_prefix) filler.put_tokens(prompt.image_prefix);
    const int64_t first = filler.position;
    filler.put_pictures(parts.pictures);
    if (!options.padded_positions || !options.images) return;
    VIXEN_CHECK(filler.position - first <= options.image_slots, "{} pictures in {} slots", filler.position - first,
                options.image_slots);
    filler.position = first + options.image_slots;
  };

  filler.position = 0;
  if (parts.bos_moved) filler.put_tokens({&prompt.bos, 1});
  if (prompt.images_first) put_images();
  put_text();
  if (!prompt.images_first) put_images();
  filler.put_tokens(prompt.closing);
}

}  // namespace

PackedBatch pack_batch(std::span<const PackPiece> pieces, const ImageStore& images, const PackOptions& options) {
  int64_t n_sequences = 0, n_positions = 0, n_images = 0;
  for (const PackPiece& piece : pieces) n_sequences += static_cast<int64_t>(piece.rows.size());
  std::vector<Parts> sequences;
  sequences.reserve(static_cast<size_t>(n_sequences));
  for (const PackPiece& piece : pieces)
    for (size_t i = 0; i < piece.rows.size(); ++i) {
      const Parts& parts = sequences.emplace_back(parts_of(piece, i, options));
      n_positions += positions_of(parts, options.prompt);
      n_images += static_cast<int64_t>(parts.pictures.size());
    }
  VIXEN_CHECK(n_positions <= std::numeric_limits<int32_t>::max(), "{} positions", n_positions);

  PackedBatch batch;
  batch.tokens = at::empty({n_positions}, at::kLong);
  batch.position_ids = at::empty({n_positions}, at::kLong);
  batch.cu_seqlens = at::empty({n_sequences + 1}, at::kInt);
  batch.text_positions = at::empty({n_positions - n_images}, at::kLong);
  batch.sequence_keys = at::empty({n_sequences}, at::kLong);
  if (n_images > 0) batch.image_positions = at::empty({n_images}, at::kLong);
  std::vector<int32_t> image_rows;
  image_rows.reserve(static_cast<size_t>(n_images));

  Filler filler{batch.tokens.mutable_data_ptr<int64_t>(), batch.position_ids.mutable_data_ptr<int64_t>(),
                batch.text_positions.mutable_data_ptr<int64_t>(),
                n_images > 0 ? batch.image_positions.mutable_data_ptr<int64_t>() : nullptr, &image_rows};
  auto* cu_seqlens = batch.cu_seqlens.mutable_data_ptr<int32_t>();
  auto* keys = batch.sequence_keys.mutable_data_ptr<int64_t>();
  *cu_seqlens = 0;
  size_t sequence = 0;
  for (const PackPiece& piece : pieces)
    for (size_t i = 0; i < piece.rows.size(); ++i) {
      const int64_t first = filler.at;
      put_sequence(filler, sequences[sequence], options);
      batch.max_seqlen = std::max(batch.max_seqlen, filler.at - first);
      keys[sequence] = piece.first_key + static_cast<int64_t>(i);
      cu_seqlens[++sequence] = static_cast<int32_t>(filler.at);
    }
  VIXEN_CHECK(filler.at == n_positions, "{} of {} positions", filler.at, n_positions);
  if (n_images > 0) batch.image_embeddings = gather_images(images, image_rows);
  return batch;
}

int64_t longest_sequence(const Dataset& dataset, const PackOptions& options) {
  const SequenceTemplate& prompt = options.prompt;
  const bool padded = options.padded_positions;
  int64_t longest = 0;
  for (const SequenceTable* table : {&dataset.train(), &dataset.test(), &dataset.labels()})
    for (int64_t i = 0; i < table->size(); ++i) {
      const auto pictures = options.images ? static_cast<int64_t>(table->images[i].size()) : 0;
      const bool prefix = pictures > 0 || (options.images && padded_decoder(options));
      const int64_t image_part = (prefix ? static_cast<int64_t>(prompt.image_prefix.size()) : 0) +
                                 std::max(pictures, options.images && padded ? options.image_slots : 0);
      const int64_t text_part =
          std::max(static_cast<int64_t>(table->tokens[i].size()), padded_decoder(options) ? prompt.text_slots : 0);
      longest = std::max(longest, image_part + text_part);
    }
  if (longest == 0) return 0;
  return longest + static_cast<int64_t>(prompt.text_prefix.size() + prompt.closing.size());
}

at::Tensor PackedBatch::images_on_host() const {
  if (host_image_positions.defined() || !image_positions.defined()) return host_image_positions;
  return image_positions.cpu();
}

namespace {
constexpr at::Tensor PackedBatch::*kMoved[] = {&PackedBatch::tokens,          &PackedBatch::position_ids,
                                               &PackedBatch::cu_seqlens,      &PackedBatch::image_embeddings,
                                               &PackedBatch::image_positions, &PackedBatch::text_positions,
                                               &PackedBatch::sequence_keys};
}  // namespace

PackedBatch PackedBatch::to(at::Device device) const {
  const auto move = [&](const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.device() == device) return tensor;
    return tensor.is_cpu() ? to_device(tensor, device) : tensor.to(device);
  };
  PackedBatch moved = *this;
  if (cu_seqlens.is_cpu()) {
    moved.host_cu_seqlens = cu_seqlens;
    moved.host_image_positions = image_positions;
  }
  for (at::Tensor PackedBatch::*member : kMoved) moved.*member = move(this->*member);
  return moved;
}

void PackedBatch::append_tensors(std::vector<at::Tensor>& tensors) const {
  for (at::Tensor PackedBatch::*member : kMoved) tensors.push_back(this->*member);
}

}  // namespace vixen
