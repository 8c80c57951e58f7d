#include "model/parameters.hpp"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "base/check.hpp"

namespace vixen {
namespace {

// Every parameter starts on a cache line in the float32 and in the bf16 buffer: vector loads of GEMMs stay aligned.
constexpr int64_t kAlignElements = 32;

}  // namespace

int ParameterStore::add(std::string name, std::vector<int64_t> shape, ParameterGroup group, bool in_products) {
  VIXEN_CHECK(!values_.defined(), "parameter {} registered after allocate()", name);
  VIXEN_CHECK(find(name) < 0, "parameter {} registered twice", name);
  ParameterInfo info;
  const bool frozen = group == ParameterGroup::kFrozen;
  info.name = std::move(name);
  info.shape = std::move(shape);
  info.size = frozen ? 0 : info.elements();
  info.group = group;
  info.offset = total_;
  if (in_products && !frozen && compute_begin_ < 0) compute_begin_ = total_;
  total_ += (info.size + kAlignElements - 1) / kAlignElements * kAlignElements;
  infos_.push_back(std::move(info));
  frozen_.emplace_back();
  return count() - 1;
}

void ParameterStore::set_kind(int index, FrozenKind kind, bool is_fused) {
  ParameterInfo& info = infos_.at(static_cast<size_t>(index));
  info.kind = kind;
  info.is_fused = is_fused;
}

void ParameterStore::set_frozen(int index, at::Tensor value) {
  VIXEN_CHECK(!trained(index), "parameter {} is trained", info(index).name);
  VIXEN_CHECK(value.sizes() == at::IntArrayRef(info(index).shape), "parameter {} has shape [{}], not [{}]",
              info(index).name, fmt::join(info(index).shape, ", "), fmt::join(value.sizes().vec(), ", "));
  frozen_.at(static_cast<size_t>(index)) = std::move(value);
}

void ParameterStore::allocate(at::Device device, at::ScalarType compute_dtype) {
  VIXEN_CHECK(!values_.defined(), "allocate() called twice");
  VIXEN_CHECK(compute_dtype == at::kFloat || compute_dtype == at::kBFloat16, "compute dtype {}",
              c10::toString(compute_dtype));
  compute_dtype_ = compute_dtype;
  values_ = at::zeros({total_}, at::TensorOptions().dtype(at::kFloat).device(device));
  grads_ = at::zeros_like(values_);
  if (compute_dtype_ != at::kFloat && compute_begin_ >= 0)
    compute_ = at::zeros({total_ - compute_begin_}, at::TensorOptions().dtype(compute_dtype_).device(device));
}

int ParameterStore::find(const std::string& name) const {
  for (size_t i = 0; i < infos_.size(); ++i)
    if (infos_[i].name == name) return static_cast<int>(i);
  return -1;
}

RowRange ParameterStore::elements_of(const ParameterRange& range) const {
  if (range.first >= range.last) return {};
  const ParameterInfo& last = info(range.last - 1);
  return {info(range.first).offset, last.offset + last.size};
}

at::Tensor ParameterStore::view(const at::Tensor& flat, int index, int64_t first) const {
  VIXEN_CHECK(flat.defined(), "parameter {} used before allocate()", index);
  const ParameterInfo& entry = info(index);
  return flat.narrow(0, entry.offset - first, entry.size).view(entry.shape);
}

at::Tensor ParameterStore::value(int index) const {
  if (!trained(index)) {
    const at::Tensor& frozen = frozen_.at(static_cast<size_t>(index));
    VIXEN_CHECK(frozen.defined(), "frozen parameter {} used before it was loaded", info(index).name);
    return frozen;
  }
  return view(values_, index, 0);
}

at::Tensor ParameterStore::grad(int index) const {
  VIXEN_CHECK(trained(index), "parameter {} is frozen: it has no gradient", info(index).name);
  return view(grads_, index, 0);
}

at::Tensor ParameterStore::grad_or_scratch(int index) const {
  return trained(index) ? grad(index) : at::zeros(info(index).shape, grads_.options());
}

at::Tensor ParameterStore::compute(int index) const {
  if (compute_dtype_ == at::kFloat || !trained(index)) return value(index);
  VIXEN_CHECK(info(index).offset >= compute_begin_, "parameter {} was registered without a {} copy", info(index).name,
              c10::toString(compute_dtype_));
  return view(compute_, index, compute_begin_);
}

void ParameterStore::zero_grads() {
  grads_.zero_();
}

void ParameterStore::refresh_compute() {
  if (compute_.defined()) compute_.copy_(values_.narrow(0, compute_begin_, total_ - compute_begin_));
}

}  // namespace vixen
