// Adapted linear layers: forward, explicit backward, initial values, merging.
//
// In float32 without dropout the merged weight W + s B A is made for the call (O I r multiply-adds, little beside the
// T O I of the product): one product each way, no second pass over y or the gradient of x, and u need not be kept. In
// bfloat16 that would round the adapter's small part away. There the adapter's columns are joined to the product's
// inner dimension where that moves fewer bytes than reading and writing the result once more:
//   y = [x | u] [W | s B]^T, where W has more rows than columns, and
//   grad_x = [grad_y | grad_u] [W ; s A], where it has fewer.
// The joined operands are copies of the narrow side, made for the call. Elsewhere the adapter's product is added to the
// columns of y in place.
#include "model/adapters/lora.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <sstream>
#include <utility>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/random.hpp"
#include "kernels/activation.hpp"
#include "model/initialise.hpp"

namespace vixen {
namespace {

using Piece = AdaptedLinear::Piece;

constexpr std::array<std::pair<LoraModule, const char*>, 7> kModules = {{{LoraModule::kQuery, "q"},
                                                                         {LoraModule::kKey, "k"},
                                                                         {LoraModule::kValue, "v"},
                                                                         {LoraModule::kOut, "o"},
                                                                         {LoraModule::kGate, "gate"},
                                                                         {LoraModule::kUp, "up"},
                                                                         {LoraModule::kDown, "down"}}};
constexpr const char* kModuleWords = "q, k, v, o, gate, up, down";

bool has_adapter(const AdaptedLinear& linear) {
  return linear.lora_a >= 0;
}

int64_t rank_of(const ParameterStore& store, const AdaptedLinear& linear) {
  return store.info(linear.lora_a).shape[0] / static_cast<int64_t>(linear.pieces.size());
}

// Frozen adapters are kept in float32 (they are small, and exports need them exact).
at::Tensor operand(const ParameterStore& store, int parameter) {
  return store.compute(parameter).to(store.compute_dtype());
}

Dropout dropout_of(const AdaptedLinear& linear, const LoraDropout& pass) {
  return {.p = pass.training ? linear.dropout : 0.0,
          .seed = pass.seed,
          .step = pass.step,
          .site = linear.dropout_site,
          .device_step = pass.device_step};
}

at::Tensor dropped(const at::Tensor& x, const Dropout& dropout, const LoraDropout& pass) {
  if (!dropout.active()) return x;
  VIXEN_CHECK(pass.keys != nullptr, "dropout of an adapter without token keys");
  return apply_dropout(x, *pass.keys, dropout);
}

bool merges(const AdaptedLinear& linear, at::ScalarType compute_dtype, bool dropout) {
  return has_adapter(linear) && compute_dtype == at::kFloat && !dropout;
}

// f(first row, rows, piece) over all rows of W in order; piece -1: rows without an adapter.
template <class F>
void for_each_block(const AdaptedLinear& linear, int64_t rows, const F& f) {
  int64_t row = 0;
  const auto until = [&](int64_t end) {
    if (end > row) f(row, end - row, int64_t{-1});
  };
  for (size_t i = 0; i < linear.pieces.size(); ++i) {
    const Piece& piece = linear.pieces[i];
    until(piece.first_row);
    f(piece.first_row, piece.rows, static_cast<int64_t>(i));
    row = piece.first_row + piece.rows;
  }
  until(rows);
}

// Rows of operands that begin at multiples of 16 bytes of bfloat16, which tensor cores' products ask for.
bool is_aligned(int64_t columns) {
  return columns % 8 == 0;
}

// Pieces are joined two at a time, on both sides of x: [u_0 | x | u_1], so that each finds x beside its u.
bool joins_output(const ParameterStore& store, const AdaptedLinear& linear) {
  const int64_t inputs = store.info(linear.weight).shape.at(1), r = rank_of(store, linear);
  const auto pieces = static_cast<int64_t>(linear.pieces.size());
  int64_t rows = 0;
  for (const Piece& piece : linear.pieces) rows += piece.rows;
  return is_aligned(inputs) && is_aligned(r) && rows > (pieces + 1) / 2 * inputs + pieces * r;
}

bool joins_input_gradient(const ParameterStore& store, const AdaptedLinear& linear, bool dropout) {
  const auto& shape = store.info(linear.weight).shape;
  const int64_t columns = shape.at(0) + store.info(linear.lora_a).shape.at(0);
  return !dropout && is_aligned(shape.at(0)) && is_aligned(columns) && shape.at(1) > columns;
}

// x W^T + b + s u B^T [T, O].
at::Tensor joined_output(const ParameterStore& store, const AdaptedLinear& linear, const at::Tensor& x,
                         const at::Tensor& u) {
  const at::Tensor weight = store.compute(linear.weight);
  const int64_t inputs = x.size(1), r = rank_of(store, linear);
  at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
  const auto write = [&](int64_t first, int64_t rows, const at::Tensor& factor, const at::Tensor& matrix) {
    at::Tensor columns = y.narrow(1, first, rows);
    if (linear.bias >= 0)
      at::addmm_out(columns, store.compute(linear.bias).narrow(0, first, rows), factor, matrix.t());
    else
      at::mm_out(columns, factor, matrix.t());
  };
  at::Tensor joined;
  for_each_block(linear, weight.size(0), [&](int64_t row, int64_t rows, int64_t piece) {
    const at::Tensor w = weight.narrow(0, row, rows);
    if (piece < 0) return write(row, rows, x, w);
    const bool first = piece % 2 == 0;
    if (first) {
      std::vector<at::Tensor> parts = {u.narrow(1, piece * r, r), x};
      if ((piece + 1) * r < u.size(1)) parts.push_back(u.narrow(1, (piece + 1) * r, r));
      joined = at::cat(parts, 1);
    }
    const at::Tensor b = operand(store, linear.pieces[static_cast<size_t>(piece)].lora_b) * linear.scale;
    write(row, rows, joined.narrow(1, first ? 0 : r, r + inputs), first ? at::cat({b, w}, 1) : at::cat({w, b}, 1));
  });
  return y;
}

// Bytes of its copies: operands of T positions, and what a piece's matrix takes while it is made.
int64_t joined_output_bytes(const ParameterStore& store, const AdaptedLinear& linear, int64_t positions,
                            int64_t element) {
  const int64_t inputs = store.info(linear.weight).shape.at(1), r = rank_of(store, linear);
  int64_t rows = 0;
  for (const Piece& piece : linear.pieces) rows = std::max(rows, piece.rows);
  const int64_t joined = inputs + r * std::min<int64_t>(2, static_cast<int64_t>(linear.pieces.size()));
  return element * (positions * joined + rows * (inputs + 2 * r));
}

int64_t joined_gradient_bytes(const ParameterStore& store, const AdaptedLinear& linear, int64_t positions,
                              int64_t element) {
  const auto& shape = store.info(linear.weight).shape;
  const int64_t low = store.info(linear.lora_a).shape.at(0);
  return element * (positions * (shape.at(0) + low) + (shape.at(0) + 2 * low) * shape.at(1));
}

// target += scale a b, in float32; bfloat16 products are rounded before they are added.
void accumulate(at::Tensor target, const at::Tensor& a, const at::Tensor& b, double scale) {
  if (a.scalar_type() == at::kFloat)
    at::addmm_out(target, target, a, b, 1, scale);
  else
    target.add_(at::mm(a, b), scale);
}

void accumulate_adapter(ParameterStore& store, const AdaptedLinear& linear, const at::Tensor& grad_y,
                        const at::Tensor& x, const at::Tensor& kept_u, const at::Tensor& grad_u) {
  const int64_t r = rank_of(store, linear);
  const at::Tensor u = kept_u.defined() ? kept_u : at::mm(x, operand(store, linear.lora_a).t());
  for (size_t i = 0; i < linear.pieces.size(); ++i) {
    const Piece& piece = linear.pieces[i];
    accumulate(store.grad(piece.lora_b), grad_y.narrow(1, piece.first_row, piece.rows).t(),
               u.narrow(1, static_cast<int64_t>(i) * r, r), linear.scale);
  }
  accumulate(store.grad(linear.lora_a), grad_u.t(), x, linear.scale);
}

bool trains_adapter(const ParameterStore& store, const AdaptedLinear& linear) {
  return has_adapter(linear) && store.trained(linear.lora_a);
}

// Gradient of u = x A^T [T, m r], without the scale; undefined where nobody asks for it.
at::Tensor low_gradient(const ParameterStore& store, const AdaptedLinear& linear, const at::Tensor& grad_y,
                        const LoraDropout& dropout, bool want_grad_x) {
  const bool merged = merges(linear, store.compute_dtype(), dropout_of(linear, dropout).active());
  if (!trains_adapter(store, linear) && !(has_adapter(linear) && want_grad_x && !merged)) return {};
  const int64_t r = rank_of(store, linear);
  at::Tensor grad_u = at::empty({grad_y.size(0), store.info(linear.lora_a).shape[0]}, grad_y.options());
  for (size_t i = 0; i < linear.pieces.size(); ++i) {
    const Piece& piece = linear.pieces[i];
    at::Tensor columns = grad_u.narrow(1, static_cast<int64_t>(i) * r, r);
    at::mm_out(columns, grad_y.narrow(1, piece.first_row, piece.rows), operand(store, piece.lora_b));
  }
  return grad_u;
}

// Into the store: those of W, b, A and B that are trained.
void accumulate_gradients(ParameterStore& store, const AdaptedLinear& linear, const at::Tensor& grad_y,
                          const at::Tensor& x, const at::Tensor& u, const at::Tensor& grad_u,
                          const LoraDropout& dropout) {
  if (store.trained(linear.weight)) accumulate(store.grad(linear.weight), grad_y.t(), x, 1);
  if (linear.bias >= 0 && store.trained(linear.bias)) accumulate_bias_gradient(grad_y, store.grad(linear.bias));
  if (trains_adapter(store, linear))
    accumulate_adapter(store, linear, grad_y, dropped(x, dropout_of(linear, dropout), dropout), u, grad_u);
}

// Gradient of x [T, I], added to grad_x where that is defined.
at::Tensor input_gradient(const ParameterStore& store, const AdaptedLinear& linear, const at::Tensor& grad_y,
                          const at::Tensor& grad_u, const LoraDropout& dropout, at::Tensor grad_x) {
  const Dropout mask = dropout_of(linear, dropout);
  const bool merged = merges(linear, store.compute_dtype(), mask.active());
  const auto add_product = [&](const at::Tensor& gradient, const at::Tensor& matrix) {
    if (grad_x.defined())
      at::addmm_out(grad_x, grad_x, gradient, matrix);
    else
      grad_x = at::mm(gradient, matrix);
  };
  const at::Tensor weight = merged ? merged_weight(store, linear) : store.compute(linear.weight);
  if (has_adapter(linear) && !merged && joins_input_gradient(store, linear, mask.active())) {
    const at::Tensor gradients = at::cat({grad_y, grad_u}, 1);
    add_product(gradients, at::cat({weight, operand(store, linear.lora_a) * linear.scale}, 0));
    return grad_x;
  }
  add_product(grad_y, weight);
  if (!has_adapter(linear) || merged) return grad_x;
  if (mask.active())
    grad_x.add_(dropped(at::mm(grad_u, operand(store, linear.lora_a)), mask, dropout), linear.scale);
  else
    grad_x.addmm_(grad_u, operand(store, linear.lora_a), 1, linear.scale);
  return grad_x;
}

}  // namespace

const char* name_of(LoraModule module) {
  for (const auto& [known, name] : kModules)
    if (known == module) return name;
  VIXEN_CHECK(false, "module {}", static_cast<int>(module));
  return "";
}

std::vector<LoraModule> lora_modules(const LoraConfig& config) {
  std::array<bool, kModules.size()> wanted{};
  std::stringstream list(config.modules);
  for (std::string word; std::getline(list, word, ',');) {
    const size_t first = word.find_first_not_of(" \t"), last = word.find_last_not_of(" \t");
    word = first == std::string::npos ? "" : word.substr(first, last - first + 1);
    size_t number = 0;
    while (number < kModules.size() && word != kModules[number].second) ++number;
    if (number == kModules.size()) fail_user("lora.modules: '{}' found, expected a list of {}", word, kModuleWords);
    if (wanted[number]) fail_user("lora.modules: {} found twice, expected every module once", word);
    wanted[number] = true;
  }
  std::vector<LoraModule> modules;
  for (size_t i = 0; i < kModules.size(); ++i)
    if (wanted[i]) modules.push_back(kModules[i].first);
  if (modules.empty()) fail_user("lora.modules: nothing found, expected a list of {}", kModuleWords);
  return modules;
}

double lora_scale(const LoraConfig& config) {
  const double rank = static_cast<double>(config.rank);
  return config.alpha / (config.scale == LoraScale::kRankStabilised ? std::sqrt(rank) : rank);
}

void add_lora(const LoraConfig& config, const std::string& name, const std::vector<LoraSlot>& slots, int64_t inputs,
              uint32_t dropout_site, bool trainable, ParameterStore& store, AdaptedLinear& linear) {
  if (config.rank == 0) return;
  const auto modules = lora_modules(config);
  for (const LoraSlot& slot : slots) {
    if (std::find(modules.begin(), modules.end(), slot.module) == modules.end()) continue;
    linear.pieces.push_back(
        {.first_row = slot.first_row, .rows = slot.rows, .module = slot.module, .peft_name = slot.peft_name});
  }
  if (linear.pieces.empty()) return;
  const auto group = trainable ? ParameterGroup::kBackbone : ParameterGroup::kFrozen;
  const auto pieces = static_cast<int64_t>(linear.pieces.size());
  linear.lora_a = store.add(name + ".lora_A.weight", {pieces * config.rank, inputs}, group);
  for (Piece& piece : linear.pieces)
    piece.lora_b = store.add(piece.peft_name + ".lora_B.weight", {piece.rows, config.rank}, group);
  linear.scale = lora_scale(config);
  linear.dropout = config.dropout;
  linear.dropout_site = dropout_site;
}

void initialise_lora(const AdaptedLinear& linear, uint64_t seed, ParameterStore& store) {
  if (!has_adapter(linear)) return;
  const int64_t r = rank_of(store, linear), inputs = store.info(linear.lora_a).shape[1];
  const double bound = 1 / std::sqrt(static_cast<double>(inputs));
  at::Tensor a = at::empty({r * static_cast<int64_t>(linear.pieces.size()), inputs}, at::kFloat);
  float* out = a.mutable_data_ptr<float>();
  for (const Piece& piece : linear.pieces) {
    const uint64_t key = checksum(std::as_bytes(std::span(piece.peft_name)));
    for (int64_t i = 0; i < r * inputs; ++i)
      *out++ = static_cast<float>(bound *
                                  (2 * random_uniform(seed, RandomStream::kInit, key, static_cast<uint64_t>(i)) - 1));
    set_parameter(store, piece.lora_b, at::zeros({piece.rows, r}, at::kFloat), at::kFloat);
  }
  set_parameter(store, linear.lora_a, a, at::kFloat);
}

at::Tensor adapted_linear(const ParameterStore& store, const AdaptedLinear& linear, const at::Tensor& x,
                          const LoraDropout& dropout, at::Tensor* u) {
  const Dropout mask = dropout_of(linear, dropout);
  const bool merged = merges(linear, store.compute_dtype(), mask.active());
  const auto product = [&](const at::Tensor& weight) {
    return linear.bias >= 0 ? at::addmm(store.compute(linear.bias), x, weight.t()) : at::mm(x, weight.t());
  };
  if (merged) return product(merged_weight(store, linear));
  if (!has_adapter(linear)) return product(store.compute(linear.weight));
  const at::Tensor low = at::mm(dropped(x, mask, dropout), operand(store, linear.lora_a).t());
  if (u != nullptr) *u = low;
  if (joins_output(store, linear)) return joined_output(store, linear, x, low);
  at::Tensor y = product(store.compute(linear.weight));
  const int64_t r = rank_of(store, linear);
  for (size_t i = 0; i < linear.pieces.size(); ++i) {
    const Piece& piece = linear.pieces[i];
    y.narrow(1, piece.first_row, piece.rows)
        .addmm_(low.narrow(1, static_cast<int64_t>(i) * r, r), operand(store, piece.lora_b).t(), 1, linear.scale);
  }
  return y;
}

at::Tensor adapted_linear_backward(ParameterStore& store, const AdaptedLinear& linear, const at::Tensor& grad_y,
                                   const at::Tensor& x, const at::Tensor& u, const LoraDropout& dropout,
                                   at::Tensor grad_x, bool want_grad_x) {
  const at::Tensor grad_u = low_gradient(store, linear, grad_y, dropout, want_grad_x);
  accumulate_gradients(store, linear, grad_y, x, u, grad_u, dropout);
  return want_grad_x ? input_gradient(store, linear, grad_y, grad_u, dropout, std::move(grad_x)) : at::Tensor();
}

void adapted_linear_backward(ParameterStore& store, const AdaptedLinear& linear, const at::Tensor& grad_y,
                             const at::Tensor& u, const LoraDropout& dropout,
                             const std::function<at::Tensor(at::Tensor grad_x)>& input_of) {
  const at::Tensor grad_u = low_gradient(store, linear, grad_y, dropout, /*want_grad_x=*/true);
  const at::Tensor x = input_of(input_gradient(store, linear, grad_y, grad_u, dropout, {}));
  accumulate_gradients(store, linear, grad_y, x, u, grad_u, dropout);
}

int64_t lora_products(const ParameterStore& store, const AdaptedLinear& linear) {
  if (!has_adapter(linear)) return 0;
  int64_t products = store.info(linear.lora_a).elements();
  for (const Piece& piece : linear.pieces) products += store.info(piece.lora_b).elements();
  return products;
}

int64_t kept_columns(const ParameterStore& store, const AdaptedLinear& linear, at::ScalarType compute_dtype) {
  if (!has_adapter(linear) || merges(linear, compute_dtype, linear.dropout > 0)) return 0;
  return store.info(linear.lora_a).shape[0];
}

OperandBytes operand_bytes(const ParameterStore& store, const AdaptedLinear& linear, at::ScalarType compute_dtype,
                           int64_t positions) {
  if (!has_adapter(linear)) return {};
  const bool drops = linear.dropout > 0;
  const auto element = static_cast<int64_t>(at::elementSize(compute_dtype));
  if (merges(linear, compute_dtype, drops)) {
    const int64_t merged = element * store.info(linear.weight).elements();
    return {merged, merged};
  }
  OperandBytes bytes;
  if (joins_output(store, linear)) bytes.forward = joined_output_bytes(store, linear, positions, element);
  if (joins_input_gradient(store, linear, drops))
    bytes.backward = joined_gradient_bytes(store, linear, positions, element);
  return bytes;
}

LinearBytes linear_bytes(const ParameterStore& store, const AdaptedLinear& linear, at::ScalarType compute_dtype,
                         int64_t positions, const KernelMoments& moments) {
  const ParameterInfo& weight = store.info(linear.weight);
  const auto element = static_cast<int64_t>(at::elementSize(compute_dtype));
  const int64_t x = element * positions * weight.shape.at(1);
  LinearBytes bytes;
  bytes.backward = x;
  // Products in bfloat16 are rounded once, before they are added to the float32 gradient.
  if (store.trained(linear.weight) && compute_dtype != at::kFloat) {
    bytes.accumulating = element * weight.elements();
    bytes.backward = std::max(x, bytes.accumulating);
  }
  if (!has_adapter(linear)) return bytes;
  const int64_t u = element * positions * store.info(linear.lora_a).shape.at(0);
  bytes.low_gradient = u;
  bytes.kept_u = element * positions * kept_columns(store, linear, compute_dtype);
  const OperandBytes made = operand_bytes(store, linear, compute_dtype, positions);
  if (merges(linear, compute_dtype, linear.dropout > 0)) {
    bytes.forward = made.forward;
    bytes.backward = u + std::max(u, x + made.backward);
    bytes.accumulating = u;
  } else {
    // x, and then its gradient, once more under the mask.
    const bool drops = linear.dropout > 0;
    const int64_t dropped = drops ? x : 0, mask = drops ? moments.dropout(positions, weight.shape.at(1)) : 0;
    bytes.forward = std::max(u + std::max(dropped, made.forward), dropped + mask);
    bytes.backward = u + x + 2 * dropped + mask + made.backward;  // the product with A, and it under the mask
    bytes.accumulating = std::max(bytes.accumulating, dropped + mask);
  }
  return bytes;
}

LinearTraffic linear_traffic(const ParameterStore& store, const AdaptedLinear& linear, int64_t positions,
                             const KernelTraffic& traffic, bool training) {
  const ParameterInfo& weight = store.info(linear.weight);
  const int64_t outputs = weight.shape.at(0), inputs = weight.shape.at(1);
  LinearTraffic bytes;
  // A product of bfloat16, and the float32 gradient that it is added to.
  const auto accumulated = [&](int64_t elements) { return traffic.dtype() == at::kFloat ? 0 : (2 + 2 * 4) * elements; };
  if (store.trained(linear.weight)) bytes.backward += accumulated(weight.elements());
  if (linear.bias >= 0 && store.trained(linear.bias)) bytes.backward += traffic.column_sums(positions, outputs);
  if (!has_adapter(linear)) return bytes;
  if (trains_adapter(store, linear)) bytes.backward += accumulated(lora_products(store, linear));
  const bool drops = training && linear.dropout > 0;
  if (merges(linear, traffic.dtype(), drops)) {
    bytes.forward += traffic.passes(weight.elements(), 2);
    bytes.backward += traffic.passes(weight.elements(), 2);
    return bytes;
  }
  if (drops) {  // x, once more for A's gradient, and x's own, which is then added
    const int64_t dropped = traffic.dropout(positions, inputs);
    bytes.forward += dropped;
    bytes.backward += 2 * dropped + traffic.passes(positions * inputs, 3);
  }
  // Joined operands are read where they are and written where they are joined.
  const int64_t r = rank_of(store, linear);
  if (joins_output(store, linear)) {
    const auto pieces = static_cast<int64_t>(linear.pieces.size());
    int64_t rows = 0;
    for (const Piece& piece : linear.pieces) rows += piece.rows;
    const int64_t factors = positions * ((pieces + 1) / 2 * inputs + pieces * r), matrices = rows * (inputs + 2 * r);
    bytes.forward += traffic.passes(factors + matrices, 2);
  }
  if (joins_input_gradient(store, linear, drops)) {
    const int64_t low = store.info(linear.lora_a).shape.at(0);
    bytes.backward += traffic.passes(positions * (outputs + low) + (outputs + 2 * low) * inputs, 2);
  }
  return bytes;
}

at::Tensor merged_weight(const ParameterStore& store, const AdaptedLinear& linear) {
  at::Tensor weight = store.value(linear.weight).to(at::kFloat);
  if (!has_adapter(linear)) return weight;
  const at::Tensor a = store.value(linear.lora_a).to(at::kFloat);
  const int64_t r = rank_of(store, linear);
  at::Tensor merged = at::empty(weight.sizes(), weight.options());
  for_each_block(linear, weight.size(0), [&](int64_t row, int64_t count, int64_t piece) {
    at::Tensor rows = merged.narrow(0, row, count);
    const at::Tensor w = weight.narrow(0, row, count);
    if (piece < 0)
      rows.copy_(w);
    else
      at::addmm_out(rows, w, store.value(linear.pieces[static_cast<size_t>(piece)].lora_b).to(at::kFloat),
                    a.narrow(0, piece * r, r), 1, linear.scale);
  });
  return merged;
}

}  // namespace vixen
