#include "model/fusion/image_adapter.hpp"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <cmath>
#include <map>

#include "base/check.hpp"
#include "kernels/activation.hpp"
#include "model/initialise.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen {
namespace {

constexpr const char* kPrefix = "image_projection.";

bool is_empty(const at::Tensor& images) {
  return !images.defined() || images.size(0) == 0;
}

}  // namespace

int64_t saved_image_width(const std::filesystem::path& folder) {
  const auto path = folder / kImageAdapterFile;
  if (!std::filesystem::exists(path)) return 0;
  const SafetensorsFile file(path);
  for (const char* layer : {"", "0."})
    if (const std::string name = fmt::format("{}{}weight", kPrefix, layer); file.contains(name)) {
      const auto& shape = file.shape(name);
      if (shape.size() != 2)
        fail_user("{}: tensor {} has {} dimensions, expected 2", path.string(), name, shape.size());
      return shape[1];
    }
  fail_user("{}: found neither {}weight nor {}0.weight, expected one", path.string(), kPrefix, kPrefix);
}

ImageAdapter::ImageAdapter(const ModelConfig& config, int64_t image_width, int64_t width, bool trainable,
                           ParameterStore& store)
    : store_(&store), image_width_(image_width), width_(width), first_(store.count()) {
  VIXEN_CHECK(image_width > 0 && width > 0, "an image adapter from {} to {}", image_width, width);
  const auto add = [&](const std::string& layer, int64_t outputs, int64_t inputs) {
    AdaptedLinear linear;
    linear.weight = store.add(kPrefix + layer + "weight", {outputs, inputs},
                              trainable ? ParameterGroup::kImage : ParameterGroup::kFrozen);
    linear.bias = store.add(kPrefix + layer + "bias", {outputs},
                            trainable ? ParameterGroup::kImageNoDecay : ParameterGroup::kFrozen);
    return linear;
  };
  if (config.image_adapter == ImageAdapterKind::kLinear) {
    in_ = add("", width, image_width);
  } else {
    hidden_ = config.image_adapter_width > 0 ? config.image_adapter_width : width;
    in_ = add("0.", hidden_, image_width);
    out_ = add("2.", width, hidden_);
  }
  last_ = store.count();
}

void ImageAdapter::load_from(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  for (int i = first_; i < last_; ++i) {
    const ParameterInfo& info = store_->info(i);
    if (!file.contains(info.name))
      fail_user("{}: tensor {} is missing, found {}; model.image_adapter = {} expects it", path.string(), info.name,
                fmt::join(file.names(), ", "), mlp() ? "mlp" : "linear");
    const at::Tensor value = file.tensor(info.name);
    if (value.sizes() != at::IntArrayRef(info.shape))
      fail_user("{}: tensor {} has shape [{}], expected [{}] (pictures of width {}, backbone of width {}{})",
                path.string(), info.name, fmt::join(value.sizes().vec(), ", "), fmt::join(info.shape, ", "),
                image_width_, width_, mlp() ? fmt::format(", model.image_adapter_width {}", hidden_) : "");
    if (!value.is_floating_point())
      fail_user("{}: tensor {} has dtype {}, expected a float", path.string(), info.name,
                c10::toString(value.scalar_type()));
    set_parameter(*store_, i, value, store_->compute_dtype());
  }
}

void ImageAdapter::load(const std::vector<std::filesystem::path>& folders, uint64_t seed) {
  for (const auto& folder : folders)
    if (std::filesystem::exists(folder / kImageAdapterFile)) return load_from(folder / kImageAdapterFile);
  for (const AdaptedLinear* linear : {&in_, &out_}) {
    if (linear->weight < 0) continue;
    const double bound = 1 / std::sqrt(static_cast<double>(store_->info(linear->weight).shape.at(1)));
    fill_uniform(*store_, linear->weight, bound, seed);
    fill_uniform(*store_, linear->bias, bound, seed);
  }
}

void ImageAdapter::save(const std::filesystem::path& folder) const {
  std::map<std::string, at::Tensor> tensors;
  for (int i = first_; i < last_; ++i) tensors[store_->info(i).name] = store_->value(i).to(at::kFloat);
  write_safetensors(folder / kImageAdapterFile, tensors, {{"format", "pt"}});
}

at::Tensor ImageAdapter::forward(const at::Tensor& images, Saved* saved) const {
  const auto options = store_->flat_values().options();
  if (is_empty(images)) return at::empty({0, width_}, options);
  VIXEN_CHECK(images.dim() == 2 && images.size(1) == image_width_, "pictures [{}], expected a width of {}",
              fmt::join(images.sizes().vec(), ", "), image_width_);
  at::Tensor y = adapted_linear(*store_, in_, images.to(store_->compute_dtype()), {}, nullptr);
  if (mlp()) {
    if (saved != nullptr) saved->hidden = y;
    y = adapted_linear(*store_, out_, vixen::gelu(y), {}, nullptr);
  }
  return y.to(at::kFloat);
}

void ImageAdapter::backward(const at::Tensor& grad, const at::Tensor& images, const Saved& saved) const {
  if (is_empty(images) || !store_->trained(in_.weight)) return;
  at::Tensor grad_in = grad.to(store_->compute_dtype());
  if (mlp()) {
    VIXEN_CHECK(saved.hidden.defined() && saved.hidden.size(0) == grad.size(0), "the activations are of another pass");
    // The activation again, rather than kept: one cheap pass over [M, E].
    const at::Tensor grad_act = adapted_linear_backward(*store_, out_, grad_in, vixen::gelu(saved.hidden), {}, {}, {});
    grad_in = vixen::gelu_backward(grad_act, saved.hidden);
  }
  adapted_linear_backward(*store_, in_, grad_in, images.to(store_->compute_dtype()), {}, {}, {},
                          /*want_grad_x=*/false);
}

int64_t ImageAdapter::kept_bytes(int64_t images, at::ScalarType compute_dtype) const {
  return static_cast<int64_t>(at::elementSize(compute_dtype)) * images * hidden_;
}

}  // namespace vixen
