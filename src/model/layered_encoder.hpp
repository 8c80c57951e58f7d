// What BERT-like and decoder encoders share: adapters, pictures, loading, saving. What differs is their layers.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/weights/backbone_weights.hpp"
#include "model/encoder.hpp"
#include "model/fusion/image_adapter.hpp"
#include "model/adapters/lora.hpp"

namespace vixen {

class BackboneEncoder : public Encoder {
 public:
  void check_weights() const override;
  void load_weights(uint64_t seed) override;
  void set_recompute_layers(int64_t layers) override { recompute_layers_ = layers; }
  void save(const std::filesystem::path& folder) const override;
  void save_merged(const std::filesystem::path& folder, at::ScalarType dtype, int64_t max_shard_bytes) const override;

 protected:
  struct Range {  // of the store's parameters
    int first = 0, last = 0;
  };

  BackboneEncoder(const EncoderOptions& options, ParameterStore& store) : options_(options), store_(&store) {}

  /// In the order in which the constructor registered them, the first as parameter first_.
  virtual std::vector<BackboneParameter> backbone() const = 0;
  /// What the names of a folder's tensors may begin with ("" among them).
  virtual std::vector<std::string> prefixes() const = 0;
  /// The linear layers of all layers, in forward order.
  virtual std::vector<const AdaptedLinear*> linears() const = 0;
  /// config.json of a saved model whose weights are of this dtype ("float32", "bfloat16").
  virtual std::string config_text(const std::string& dtype) const = 0;

  /// Whether the backbone's own weights stay as they are.
  bool frozen() const { return options_.lora.rank > 0 || !options_.trainable; }
  /// Registers the image adapter where there are pictures.
  void add_image_adapter();
  void check_images(const PackedBatch& batch) const;
  /// Whether anything below the first layer learns from this batch; `word` is the token table.
  bool wants_embedding_gradient(const PackedBatch& batch, int word) const;

  EncoderOptions options_;
  ParameterStore* store_;
  int first_ = 0;                         // of the backbone's parameters
  std::unique_ptr<ImageAdapter> images_;  // null: no pictures
  int64_t recompute_layers_ = 0;
};

}  // namespace vixen
