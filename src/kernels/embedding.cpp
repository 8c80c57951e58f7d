// Checks and dispatch of the input embeddings.
#include "kernels/embedding.hpp"

#include "kernels/activation.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/reference.hpp"
#include "kernels/segments.hpp"

namespace vixen {
namespace {

bool has_images(const at::Tensor& image_positions) {
  return image_positions.defined() && image_positions.numel() > 0;
}

/// For each position the row of its picture, -1 for text: int64 [T], undefined without pictures.
at::Tensor image_rows(const at::Tensor& image_positions, int64_t positions) {
  if (!has_images(image_positions)) return {};
  const at::Tensor places = image_positions.contiguous();
  check_ids(places, positions, "the position of an image,");
  return at::full({positions}, -1, places.options())
      .index_copy_(0, places, at::arange(places.numel(), places.options()));
}

const int64_t* data_of(const at::Tensor& ids) {
  return ids.defined() ? ids.const_data_ptr<int64_t>() : nullptr;
}

/// target[ids[t]] += grad[t] over all t without a picture (`pictures` as image_rows gives it): the rows of one id are
/// added in the order of t, by one thread.
void add_rows(const FusedKernel<SegmentSumsArgs>& kernel, const at::Tensor& grad, const at::Tensor& ids,
              const at::Tensor& pictures, at::Tensor& target) {
  VIXEN_CHECK(target.scalar_type() == at::kFloat && target.is_contiguous(),
              "gradients of embeddings are contiguous float32");
  const Segments of = grad.is_cpu() ? segments_on_host(ids, pictures, target.size(0))
                                    : segments_on_device(ids, pictures, target.size(0));
  const SegmentSumsArgs args{.storage = storage_of(grad.scalar_type()),
                             .width = grad.size(1),
                             .x = grad.const_data_ptr(),
                             .order = of.order.const_data_ptr<int64_t>(),
                             .segments = of.segments.const_data_ptr<int64_t>(),
                             .target_rows = of.target_rows.const_data_ptr<int64_t>(),
                             .target = target.mutable_data_ptr<float>()};
  kernel.run(args, of.target_rows.numel(), 1);
}

/// Text positions' ids must be rows of the table; looked at on a CPU only, as in check_ids.
void check_tokens(const at::Tensor& tokens, const at::Tensor& pictures, int64_t vocabulary) {
  if (!tokens.is_cpu()) return;
  const int64_t *id = data_of(tokens), *picture = data_of(pictures);
  for (int64_t t = 0; t < tokens.numel(); ++t)
    VIXEN_CHECK((picture && picture[t] >= 0) || (id[t] >= 0 && id[t] < vocabulary), "token {} of {} at position {}",
                id[t], vocabulary, t);
}

bool is_table(at::ScalarType dtype) {
  return dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf;
}

TableStorage table_storage(at::ScalarType dtype) {
  return dtype == at::kFloat      ? TableStorage::kFloat32
         : dtype == at::kBFloat16 ? TableStorage::kBfloat16
                                  : TableStorage::kFloat16;
}

/// float32 rows of the pictures' gradients, [M, D].
at::Tensor image_gradients(const at::Tensor& rows, const at::Tensor& image_positions) {
  if (!has_images(image_positions)) return at::empty({0, rows.size(1)}, rows.options().dtype(at::kFloat));
  return rows.index_select(0, image_positions).to(at::kFloat);
}

}  // namespace

at::Tensor embed_positions(const at::Tensor& tokens, const at::Tensor& position_ids, const at::Tensor& word,
                           const at::Tensor& position, const at::Tensor& type, const at::Tensor& images,
                           const at::Tensor& image_positions, at::ScalarType dtype) {
  VIXEN_CHECK(tokens.sizes() == position_ids.sizes(), "{} tokens, {} positions", tokens.numel(), position_ids.numel());
  const auto kernel = fused_kernel(kernel::embed_positions, word, /*fits=*/word.scalar_type() == at::kFloat);
  if (!kernel)
    return reference::embed_positions(tokens, position_ids, word, position, type, images, image_positions, dtype);
  const int64_t positions = tokens.size(0), width = word.size(1);
  const at::Tensor ids = tokens.contiguous(), places = position_ids.contiguous(), words = word.contiguous();
  const at::Tensor place_table = position.contiguous(), types = contiguous_or_none(type);
  const at::Tensor rows = image_rows(image_positions, positions);
  const at::Tensor pictures = rows.defined() ? images.contiguous() : at::Tensor{};
  check_tokens(ids, rows, word.size(0));
  check_ids(places, position.size(0), "position id");
  at::Tensor out = at::empty({positions, width}, word.options().dtype(dtype));
  const EmbedPositionsArgs args{.storage = storage_of(dtype),
                                .width = width,
                                .tokens = data_of(ids),
                                .position_ids = data_of(places),
                                .image_rows = data_of(rows),
                                .word = words.const_data_ptr<float>(),
                                .position = place_table.const_data_ptr<float>(),
                                .type = types.defined() ? types.const_data_ptr<float>() : nullptr,
                                .images = pictures.defined() ? pictures.const_data_ptr<float>() : nullptr,
                                .out = out.mutable_data_ptr()};
  kernel.run(args, positions, 16);
  return out;
}

at::Tensor embed_positions_backward(const at::Tensor& grad, const at::Tensor& tokens, const at::Tensor& position_ids,
                                    const at::Tensor& image_positions, at::Tensor grad_word, at::Tensor grad_position,
                                    at::Tensor grad_type) {
  VIXEN_CHECK(grad.dim() == 2 && grad.size(0) == tokens.size(0), "{} gradient rows for {} tokens", grad.size(0),
              tokens.numel());
  const auto kernel = fused_kernel(kernel::segment_sums, grad);
  if (!kernel)
    return reference::embed_positions_backward(grad, tokens, position_ids, image_positions, grad_word, grad_position,
                                               grad_type);
  const at::Tensor rows = grad.contiguous();
  add_rows(kernel, rows, tokens.contiguous(), image_rows(image_positions, tokens.size(0)), grad_word);
  add_rows(kernel, rows, position_ids.contiguous(), {}, grad_position);
  if (grad_type.defined()) accumulate_bias_gradient(rows, grad_type);
  return image_gradients(rows, image_positions);
}

at::Tensor embed_tokens(const at::Tensor& tokens, const at::Tensor& word, const at::Tensor& images,
                        const at::Tensor& image_positions, at::ScalarType dtype) {
  VIXEN_CHECK(tokens.dim() == 1 && word.dim() == 2, "tokens have {} dimensions, the table {}", tokens.dim(),
              word.dim());
  const auto kernel = fused_kernel(kernel::embed_tokens, word.device(), word.scalar_type(),
                                   /*fits=*/is_table(word.scalar_type()) && tokens.device() == word.device() &&
                                       (dtype == at::kFloat || dtype == at::kBFloat16));
  if (!kernel) return reference::embed_tokens(tokens, word, images, image_positions, dtype);
  const int64_t positions = tokens.size(0), width = word.size(1);
  const at::Tensor ids = tokens.contiguous(), words = word.contiguous();
  const at::Tensor rows = image_rows(image_positions, positions);
  const at::Tensor pictures = rows.defined() ? images.to(at::kFloat).contiguous() : at::Tensor{};
  VIXEN_CHECK(!pictures.defined() || (pictures.size(0) == image_positions.numel() && pictures.size(1) == width),
              "images [{}, {}] for {} positions of width {}", pictures.size(0), pictures.size(-1),
              image_positions.numel(), width);
  check_tokens(ids, rows, word.size(0));
  at::Tensor out = at::empty({positions, width}, word.options().dtype(dtype));
  const EmbedTokensArgs args{.storage = storage_of(dtype),
                             .table_storage = table_storage(word.scalar_type()),
                             .width = width,
                             .tokens = data_of(ids),
                             .image_rows = data_of(rows),
                             .word = words.const_data_ptr(),
                             .images = pictures.defined() ? pictures.const_data_ptr<float>() : nullptr,
                             .out = out.mutable_data_ptr()};
  kernel.run(args, positions, 16);
  return out;
}

at::Tensor embed_tokens_backward(const at::Tensor& grad, const at::Tensor& tokens, const at::Tensor& image_positions,
                                 at::Tensor grad_word) {
  VIXEN_CHECK(grad.dim() == 2 && grad.size(0) == tokens.size(0), "{} gradient rows for {} tokens", grad.size(0),
              tokens.numel());
  const auto kernel = fused_kernel(kernel::segment_sums, grad);
  if (!kernel) return reference::embed_tokens_backward(grad, tokens, image_positions, grad_word);
  const at::Tensor rows = grad.contiguous();
  if (grad_word.defined())
    add_rows(kernel, rows, tokens.contiguous(), image_rows(image_positions, tokens.size(0)), grad_word);
  return image_gradients(rows, image_positions);
}

}  // namespace vixen
