// Input embeddings in plain ATen.
//   tokens, position_ids int64 [T]; word [V, D], position [P, D], type [D]; images [M, D] at image_positions [M].
#include "base/check.hpp"
#include "kernels/reference.hpp"

namespace vixen::reference {
namespace {

bool has_images(const at::Tensor& image_positions) {
  return image_positions.defined() && image_positions.numel() > 0;
}

/// Token ids with a harmless one where the position is an image.
at::Tensor text_tokens(const at::Tensor& tokens, const at::Tensor& image_positions) {
  return has_images(image_positions) ? tokens.index_fill(0, image_positions, 0) : tokens;
}

}  // namespace

at::Tensor embed_positions(const at::Tensor& tokens, const at::Tensor& position_ids, const at::Tensor& word,
                           const at::Tensor& position, const at::Tensor& type, const at::Tensor& images,
                           const at::Tensor& image_positions, at::ScalarType dtype) {
  at::Tensor out = word.index_select(0, text_tokens(tokens, image_positions));
  if (has_images(image_positions)) out.index_copy_(0, image_positions, images);
  out.add_(position.index_select(0, position_ids));
  if (type.defined()) out.add_(type);
  return out.to(dtype);
}

at::Tensor embed_positions_backward(const at::Tensor& grad, const at::Tensor& tokens, const at::Tensor& position_ids,
                                    const at::Tensor& image_positions, at::Tensor grad_word, at::Tensor grad_position,
                                    at::Tensor grad_type) {
  const at::Tensor all = grad.to(at::kFloat);
  const at::Tensor text = has_images(image_positions) ? all.index_fill(0, image_positions, 0) : all;
  // embedding_dense_backward sorts on CUDA: a fixed order, which index_add_ does not give.
  grad_word.add_(
      at::embedding_dense_backward(text, text_tokens(tokens, image_positions), grad_word.size(0), -1, false));
  grad_position.add_(at::embedding_dense_backward(all, position_ids, grad_position.size(0), -1, false));
  if (grad_type.defined()) grad_type.add_(all.sum(0));
  if (!has_images(image_positions)) return at::empty({0, grad.size(1)}, all.options());
  return all.index_select(0, image_positions);
}

at::Tensor embed_tokens(const at::Tensor& tokens, const at::Tensor& word, const at::Tensor& images,
                        const at::Tensor& image_positions, at::ScalarType dtype) {
  at::Tensor out = word.index_select(0, text_tokens(tokens, image_positions)).to(at::kFloat);
  if (has_images(image_positions)) out.index_copy_(0, image_positions, images.to(at::kFloat));
  return out.to(dtype);
}

at::Tensor embed_tokens_backward(const at::Tensor& grad, const at::Tensor& tokens, const at::Tensor& image_positions,
                                 at::Tensor grad_word) {
  const at::Tensor all = grad.to(at::kFloat);
  if (grad_word.defined()) {
    const at::Tensor text = has_images(image_positions) ? all.index_fill(0, image_positions, 0) : all;
    grad_word.add_(
        at::embedding_dense_backward(text, text_tokens(tokens, image_positions), grad_word.size(0), -1, false));
  }
  if (!has_images(image_positions)) return at::empty({0, grad.size(1)}, all.options());
  return all.index_select(0, image_positions);
}

}  // namespace vixen::reference
