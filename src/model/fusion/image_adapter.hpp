// The learnable map from picture embeddings to the backbone's width: the paper's linear one, or linear-GELU-linear.
//   M pictures of width I -> [M, D]; hidden width E
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <vector>

#include "config/config.hpp"
#include "model/adapters/lora.hpp"
#include "model/parameters.hpp"

namespace vixen {

/// The adapter's weights in a folder.
inline constexpr const char* kImageAdapterFile = "image_projection.safetensors";
/// Width of the pictures that the folder's image adapter maps; 0: it has none. UserError when the file has no tensor of
/// an image adapter.
int64_t saved_image_width(const std::filesystem::path& folder);

class ImageAdapter {
 public:
  /// Registers "image_projection.weight" [D, I] and ".bias" (linear), or "image_projection.0.*" [E, I] and
  /// "image_projection.2.*" [D, E] (mlp: the names of torch.nn.Sequential), groups kImage and kImageNoDecay (kFrozen
  /// when not trainable).
  ImageAdapter(const ModelConfig& config, int64_t image_width, int64_t width, bool trainable, ParameterStore& store);

  /// From image_projection.safetensors of the first of `folders` that has one, else torch.nn.Linear's initialisation
  /// (uniform +-1/sqrt(inputs), keyed by seed). UserError naming file and tensor: another kind or width.
  void load(const std::vector<std::filesystem::path>& folders, uint64_t seed);
  /// Writes image_projection.safetensors (float32).
  void save(const std::filesystem::path& folder) const;

  struct Saved {
    at::Tensor hidden;  // [M, E] before the GELU; undefined for the linear one
  };
  /// images float32 [M, I] -> float32 [M, D], products in the store's compute dtype. M may be 0 (images then empty or
  /// undefined). saved may be null.
  at::Tensor forward(const at::Tensor& images, Saved* saved) const;
  /// grad [M, D] float32; adds into the store's gradients (nothing when frozen or M = 0).
  void backward(const at::Tensor& grad, const at::Tensor& images, const Saved& saved) const;

  ParameterRange parameters() const { return {first_, last_}; }
  /// What a forward pass over so many pictures keeps.
  int64_t kept_bytes(int64_t images, at::ScalarType compute_dtype) const;

 private:
  bool mlp() const { return out_.weight >= 0; }
  void load_from(const std::filesystem::path& path);

  ParameterStore* store_;
  int64_t image_width_, width_, hidden_ = 0;  // hidden_: E of the mlp
  int first_ = 0, last_ = 0;
  AdaptedLinear in_, out_;  // without adapters; the linear one has in_ only
};

}  // namespace vixen
