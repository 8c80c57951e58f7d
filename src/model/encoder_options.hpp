// What decides which encoder is made of a model folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "config/config.hpp"

namespace vixen {

struct EncoderOptions {
  ModelConfig model;
  LoraConfig lora;          // rank 0: the whole backbone is trained
  int64_t image_width = 0;  // I; 0: no image adapter
  bool trainable = true;    // false: inference; everything is frozen, nothing has a gradient buffer

  /// Whether the backbone's own weights stay as they are.
  bool frozen_backbone() const { return lora.rank > 0 || !trainable; }
  /// Folders that may hold what is not the backbone's (image adapter, fusion block): the adapter's, then the base's.
  std::vector<std::filesystem::path> folders() const {
    std::vector<std::filesystem::path> all = {model.path};
    if (!lora.adapter.empty()) all.insert(all.begin(), lora.adapter);
    return all;
  }
};

}  // namespace vixen
