// Low-rank adapters (LoRA, arXiv 2106.09685; rank-stabilised scale, arXiv 2312.03732) beside the weights of linear
// layers.
//   y = x W^T + b + s drop(x) A^T B^T;  x [T, I], W [O, I], A [r, I], B [O, r]
// A projection that is several modules side by side (q | k | v, gate | up) has one stacked A [m r, I], so that
// u = drop(x) A^T is one product, and a B of each module that reads its r columns of u and writes its rows of W's
// output.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "kernels/dropout.hpp"
#include "kernels/moments.hpp"
#include "kernels/traffic.hpp"
#include "model/parameters.hpp"

namespace vixen {

/// The places where adapters can sit.
enum class LoraModule { kQuery, kKey, kValue, kOut, kGate, kUp, kDown };
/// "q", "k", "v", "o", "gate", "up", "down".
const char* name_of(LoraModule module);
/// lora.modules as a list, in the order above. UserError naming an unknown or doubled word.
std::vector<LoraModule> lora_modules(const LoraConfig& config);
/// alpha / sqrt(r) or alpha / r.
double lora_scale(const LoraConfig& config);

/// A linear layer and its adapter: indices into a ParameterStore.
struct AdaptedLinear {
  int weight = -1;  // [O, I]
  int bias = -1;    // [O]; -1: none
  int lora_a = -1;  // [m r, I]; -1: no adapter
  struct Piece {
    int lora_b = -1;        // [rows, r]
    int64_t first_row = 0;  // of W's rows
    int64_t rows = 0;
    LoraModule module = LoraModule::kQuery;
    std::string
        peft_name;  // "layers.0.self_attn.q_proj": what PEFT puts base_model.model. before, .lora_A.weight behind
  };
  std::vector<Piece> pieces;  // piece i reads columns i r .. of u
  double scale = 0;
  double dropout = 0;
  uint32_t dropout_site = 0;
};

/// One module of a fused projection, for add_lora.
struct LoraSlot {
  LoraModule module;
  int64_t first_row = 0, rows = 0;
  std::string peft_name;
};
/// Registers A and B of those slots that the configuration adapts (stacked A as "<name>.lora_A.weight", each B as
/// "<peft_name>.lora_B.weight", group kBackbone) and fills the adapter's part of `linear`. None adapted: leaves it
/// without. inputs: I. trainable false: kFrozen, for inference.
void add_lora(const LoraConfig& config, const std::string& name, const std::vector<LoraSlot>& slots, int64_t inputs,
              uint32_t dropout_site, bool trainable, ParameterStore& store, AdaptedLinear& linear);
/// A Kaiming-uniform with a = sqrt(5), that is uniform +-1/sqrt(I), keyed by (seed, peft_name, element) so that it does
/// not depend on what else is registered; B zero.
void initialise_lora(const AdaptedLinear& linear, uint64_t seed, ParameterStore& store);

/// Dropout of a pass: as in PackedLayout.
struct LoraDropout {
  const TokenKeys* keys = nullptr;
  bool training = false;
  uint64_t seed = 0, step = 0;
  const int64_t* device_step = nullptr;
};

/// x [T, I] in the compute dtype -> y [T, O]. u [T, m r] is what the backward needs besides x; null: not kept. It stays
/// undefined in float32 without dropout, where the product is that of the merged weight (O I floats for the call).
at::Tensor adapted_linear(const ParameterStore& store, const AdaptedLinear& linear, const at::Tensor& x,
                          const LoraDropout& dropout, at::Tensor* u);
/// Gradients of the trained ones among W, b, A, B into the store. u as kept, or undefined: recomputed from x.
/// grad_x [T, I]: the gradient of x is added to it when it is defined, else it is made. want_grad_x false: no gradient
/// of x (returns undefined).
at::Tensor adapted_linear_backward(ParameterStore& store, const AdaptedLinear& linear, const at::Tensor& grad_y,
                                   const at::Tensor& x, const at::Tensor& u, const LoraDropout& dropout,
                                   at::Tensor grad_x, bool want_grad_x = true);
/// The same where x is there only once its gradient is, as an activation that comes out of its own backward:
/// input_of(gradient of x) gives x.
void adapted_linear_backward(ParameterStore& store, const AdaptedLinear& linear, const at::Tensor& grad_y,
                             const at::Tensor& u, const LoraDropout& dropout,
                             const std::function<at::Tensor(at::Tensor grad_x)>& input_of);

/// What an adapter costs a position: the multiply-adds of x A^T and of u B^T, and the columns of u that a training pass
/// in `compute_dtype` keeps. 0 where there is none.
int64_t lora_products(const ParameterStore& store, const AdaptedLinear& linear);
int64_t kept_columns(const ParameterStore& store, const AdaptedLinear& linear, at::ScalarType compute_dtype);

/// Bytes of the operands that one call makes of its weights and inputs over T positions: the merged weight, or the
/// joined factors of one product. 0 where there are none.
struct OperandBytes {
  int64_t forward = 0, backward = 0;
};
OperandBytes operand_bytes(const ParameterStore& store, const AdaptedLinear& linear, at::ScalarType compute_dtype,
                           int64_t positions);

/// Bytes that one adapted linear layer takes for a moment over T positions: with the merged weight in float32, with
/// u = x A^T and joined operands in bfloat16 or under dropout, and with what dropout itself holds (moments).
struct LinearBytes {
  int64_t kept_u = 0;    // in the forward pass, for the backward
  int64_t forward = 0;   // besides x and y, when nothing is kept
  int64_t backward = 0;  // besides the gradient of y, x and what was kept; the gradient of x included
  // Where x comes after its gradient: what lives from the one to the other, and what the gradients of W, A and B then
  // take besides it.
  int64_t low_gradient = 0, accumulating = 0;
};
LinearBytes linear_bytes(const ParameterStore& store, const AdaptedLinear& linear, at::ScalarType compute_dtype,
                         int64_t positions, const KernelMoments& moments);

/// Bytes that a call reads and writes besides its products' operands and results over T positions: merged and joined
/// operands, dropout, and in bfloat16 sums of weights' gradients. training: with dropout.
struct LinearTraffic {
  int64_t forward = 0, backward = 0;
};
LinearTraffic linear_traffic(const ParameterStore& store, const AdaptedLinear& linear, int64_t positions,
                             const KernelTraffic& traffic, bool training);

/// W + s B A of the pieces, float32 [O, I] on the store's device: the merged weight. W alone without adapter.
at::Tensor merged_weight(const ParameterStore& store, const AdaptedLinear& linear);

}  // namespace vixen
