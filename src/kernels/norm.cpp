// Checks and dispatch of layer norm fused with dropout and residual.
#include "kernels/norm.hpp"

#include "base/check.hpp"
#include "kernels/choice.hpp"
#include "kernels/reference.hpp"

namespace vixen {
namespace {

void check_rows(const at::Tensor& x, const at::Tensor& weight, const TokenKeys& keys, const Dropout& dropout) {
  VIXEN_CHECK(x.dim() == 2 && weight.dim() == 1 && x.size(1) == weight.size(0), "x [{}, {}] with {} weights", x.size(0),
              x.size(-1), weight.numel());
  VIXEN_CHECK(!dropout.active() || (keys.sequence.defined() && keys.sequence.size(0) == x.size(0)),
              "dropout over {} rows needs as many token keys", x.size(0));
}

}  // namespace

NormResult dropout_add_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                            const at::Tensor& bias, double eps, const TokenKeys& keys, const Dropout& dropout) {
  check_rows(x, weight, keys, dropout);
  return reference::dropout_add_norm(x, residual, weight, bias, eps, keys, dropout);
}

NormGradient dropout_add_norm_backward(const at::Tensor& grad_y, const NormResult& forward, const at::Tensor& weight,
                                       const TokenKeys& keys, const Dropout& dropout, at::Tensor grad_weight,
                                       at::Tensor grad_bias) {
  check_rows(grad_y, weight, keys, dropout);
  return reference::dropout_add_norm_backward(grad_y, forward, weight, keys, dropout, grad_weight, grad_bias);
}

NormResult norm_dropout(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                        const TokenKeys& keys, const Dropout& dropout) {
  check_rows(x, weight, keys, dropout);
  return reference::norm_dropout(x, weight, bias, eps, keys, dropout);
}

at::Tensor norm_dropout_backward(const at::Tensor& grad_y, const NormResult& forward, const at::Tensor& weight,
                                 const TokenKeys& keys, const Dropout& dropout, at::Tensor grad_weight,
                                 at::Tensor grad_bias) {
  check_rows(grad_y, weight, keys, dropout);
  return reference::norm_dropout_backward(grad_y, forward, weight, keys, dropout, grad_weight, grad_bias);
}

}  // namespace vixen
