// An encoder from folders and to folders: weights, adapters, pictures, late fusion's block, tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>

#include "model/backbone.hpp"
#include "model/fusion/image_adapter.hpp"
#include "model/fusion/late_fusion.hpp"

namespace vixen {

/// Refers to the encoder that gave it.
class EncoderFiles {
 public:
  EncoderFiles(const EncoderOptions& options, Backbone& backbone, ImageAdapter* images, LateFusion* late,
               ParameterStore& store)
      : options_(&options), backbone_(&backbone), images_(images), late_(late), store_(&store) {}

  /// UserError naming file and tensor when the folder's weights are not those that its config.json describes. Reads
  /// headers only, before store.allocate(): a wrong size is no failed allocation.
  void check() const;
  /// Fills the parameters from the folder's weights, and from lora.adapter or a keyed initialisation what the folder
  /// does not have (adapters, image adapter, fusion block). After store.allocate(); refreshes the compute copies.
  /// UserError names file and tensor when something is missing or has another shape.
  void load(uint64_t seed) const;

  /// What a run keeps. The whole backbone trained: config.json, model.safetensors (HF names, float32) and the tokenizer
  /// files, a folder that transformers' AutoModel loads. Adapters: a PEFT folder (adapter_config.json,
  /// adapter_model.safetensors) with the tokenizer files. The image adapter goes to image_projection.safetensors beside
  /// it, late fusion's block to fusion.safetensors.
  void save(const std::filesystem::path& folder) const;
  /// The folder that AutoModel loads, adapters merged into the weights; shards and index beyond max_shard_bytes. dtype
  /// float32 or bfloat16. The rest as save().
  void save_merged(const std::filesystem::path& folder, at::ScalarType dtype, int64_t max_shard_bytes) const;

 private:
  void save_pictures(const std::filesystem::path& folder) const;

  const EncoderOptions* options_;
  Backbone* backbone_;
  ImageAdapter* images_;  // among the positions; null: none
  LateFusion* late_;      // null: early fusion
  ParameterStore* store_;
};

}  // namespace vixen
