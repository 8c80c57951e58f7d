// The weights of a Hugging Face folder: model.safetensors, or the shards that model.safetensors.index.json names.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/weights/safetensors.hpp"

namespace vixen {

/// The two forms of a folder's weights.
inline constexpr const char* kWeightFile = "model.safetensors";
inline constexpr const char* kWeightIndexFile = "model.safetensors.index.json";

class WeightFiles {
 public:
  /// Maps every file; reads headers only. UserError naming file and tensor: neither file there, a shard of the index
  /// missing, a tensor that the index places in a shard without it. If the folder holds both forms,
  /// model.safetensors is read, as transformers does; no file is looked at that holds none of the tensors.
  explicit WeightFiles(const std::filesystem::path& folder);

  bool contains(const std::string& name) const { return files_.contains(name); }
  std::vector<std::string> names() const;
  /// A view of the mapped bytes that keeps the mapping alive by itself: one copy in the page cache for all ranks of a
  /// node. UserError when missing or not a float (float32, float16, bfloat16 or float64).
  at::Tensor tensor(const std::string& name) const;
  /// From the header alone. UserError as of tensor().
  const std::vector<int64_t>& shape(const std::string& name) const;
  /// The tensor was copied: its pages may leave this process' memory.
  void done_with(const std::string& name) const;
  /// The file that holds a tensor, for messages; the folder's main file when there is none.
  std::filesystem::path file_of(const std::string& name) const;

 private:
  /// The file of a tensor of floats, or a UserError.
  const SafetensorsFile& file_with(const std::string& name) const;

  std::filesystem::path main_file_;
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> files_;  // by tensor
  std::map<std::string, std::filesystem::path> paths_;                   // by tensor
};

}  // namespace vixen
