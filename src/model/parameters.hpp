// Trained parameters in one flat float32 buffer, their gradients in a second, their bf16 copies in a third; frozen ones
// beside them, as they came from disk.
//
// One buffer makes the all-reduce one call (or a few ranges, as the backward pass finishes them), the norm one
// reduction and the optimiser one fused kernel.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/accumulate.h>

#include <cstdint>
#include <string>
#include <vector>

#include "shard/row_shards.hpp"

namespace vixen {

/// What decides learning rate and weight decay.
enum class ParameterGroup {
  kBackbone,          // train.lr, decays
  kBackboneNoDecay,   // biases and norms
  kPrototype,         // train.prototype_lr, decays ([official]: norm weights do too)
  kPrototypeNoDecay,  // its biases
  kImage,             // train.image_lr, decays
  kImageNoDecay,
  kFrozen,  // not trained: no place in the flat buffers, no gradient, no optimiser state
};

/// How a frozen parameter is kept (model/weights/backbone_weights.hpp).
enum class FrozenKind {
  kProduct,  // read by matrix products, with their biases
  kFloat32,  // in float32 always: norms, BERT's embedding tables
  kTable,    // embedding tables, as stored
};

struct ParameterInfo {
  std::string name;  // Hugging Face's name for the backbone; "prototype.*", "image_projection.*" for ours
  std::vector<int64_t> shape;
  ParameterGroup group = ParameterGroup::kBackbone;
  int64_t offset = 0;  // elements into the flat buffers; frozen: where the next trained one begins
  int64_t size = 0;    // elements in the flat buffers; frozen: 0
  FrozenKind kind = FrozenKind::kProduct;
  bool is_fused = false;  // its rows are those of several tensors of the weight files

  /// Of the shape.
  int64_t elements() const { return c10::multiply_integers(shape); }
};

/// [first, last) of a ParameterStore.
struct ParameterRange {
  int first = 0, last = 0;
};

class ParameterStore {
 public:
  /// Registers a parameter; returns its index. Order of registration is order in the buffers (each begins on a cache
  /// line; the gaps stay zero). Before allocate(). in_products false: no matrix product reads it (embedding tables), so
  /// that no bf16 copy is kept when it precedes those that are read. kFrozen: set_frozen() gives it its value later.
  int add(std::string name, std::vector<int64_t> shape, ParameterGroup group, bool in_products = true);
  /// What add() does not say of a parameter of the backbone.
  void set_kind(int index, FrozenKind kind, bool is_fused);
  /// Allocates the buffers (zeros). compute_dtype bfloat16 adds the bf16 copies.
  void allocate(at::Device device, at::ScalarType compute_dtype);

  /// The value of a frozen parameter, of the registered shape: float32 or the compute dtype where a matrix product
  /// reads it, any float dtype for embedding tables. It may be a view of a mapped file; the store keeps it, never
  /// copies or writes it.
  void set_frozen(int index, at::Tensor value);

  int count() const { return static_cast<int>(infos_.size()); }
  const ParameterInfo& info(int index) const { return infos_.at(static_cast<size_t>(index)); }
  int find(const std::string& name) const;  // -1 when there is none
  bool trained(int index) const { return info(index).group != ParameterGroup::kFrozen; }
  /// Views into the buffers, float32, of the parameter's shape; of a frozen one what set_frozen() got. grad() is for
  /// trained ones only.
  at::Tensor value(int index) const;
  at::Tensor grad(int index) const;
  /// grad(), or zeros of the shape that nobody reads where the parameter is frozen: for kernels that add to both
  /// gradients of a norm whatever is trained.
  at::Tensor grad_or_scratch(int index) const;
  /// What matrix products use: the float32 value, or its bf16 copy; of a frozen one what set_frozen() got.
  at::Tensor compute(int index) const;

  /// Of the flat buffers: from the first of these parameters to the last, with the gaps between them; size 0 where all
  /// are frozen or there are none.
  RowRange elements_of(const ParameterRange& range) const;
  /// Elements of each flat buffer, and of the bf16 copies that a bf16 store keeps. Known before allocate().
  int64_t elements() const { return total_; }
  int64_t copied_elements() const { return compute_begin_ < 0 ? 0 : total_ - compute_begin_; }
  at::Tensor& flat_values() { return values_; }
  at::Tensor& flat_grads() { return grads_; }
  at::ScalarType compute_dtype() const { return compute_dtype_; }
  void zero_grads();
  /// bf16 copies from the float32 values; after loading and after every optimiser step.
  void refresh_compute();

 private:
  at::Tensor view(const at::Tensor& flat, int index, int64_t first) const;  // flat begins at element `first`
  std::vector<ParameterInfo> infos_;
  int64_t total_ = 0;
  int64_t compute_begin_ = -1;  // first element that has a bf16 copy
  at::ScalarType compute_dtype_ = at::kFloat;
  at::Tensor values_, grads_, compute_;
  std::vector<at::Tensor> frozen_;  // by index; undefined for trained ones
};

}  // namespace vixen
