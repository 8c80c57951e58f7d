// Checks and dispatch of the input embeddings.
#include "kernels/embedding.hpp"

#include "base/check.hpp"
#include "kernels/reference.hpp"

namespace vixen {

at::Tensor embed_positions(const at::Tensor& tokens, const at::Tensor& position_ids, const at::Tensor& word,
                           const at::Tensor& position, const at::Tensor& type, const at::Tensor& images,
                           const at::Tensor& image_positions, at::ScalarType dtype) {
  VIXEN_CHECK(tokens.sizes() == position_ids.sizes(), "{} tokens, {} positions", tokens.numel(), position_ids.numel());
  return reference::embed_positions(tokens, position_ids, word, position, type, images, image_positions, dtype);
}

at::Tensor embed_positions_backward(const at::Tensor& grad, const at::Tensor& tokens, const at::Tensor& position_ids,
                                    const at::Tensor& image_positions, at::Tensor grad_word, at::Tensor grad_position,
                                    at::Tensor grad_type) {
  VIXEN_CHECK(grad.dim() == 2 && grad.size(0) == tokens.size(0), "{} gradient rows for {} tokens", grad.size(0),
              tokens.numel());
  return reference::embed_positions_backward(grad, tokens, position_ids, image_positions, grad_word, grad_position,
                                             grad_type);
}

}  // namespace vixen
