// The weights of a backbone: the list of its parameters and the tensors of a folder that they are, their registration,
// loading and saving.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "model/parameters.hpp"

namespace vixen {

/// One parameter of the backbone, in forward order. Its rows are those of `tensors`, one below the other: q, k and v of
/// a layer are one parameter, so that they are one matrix product.
struct BackboneParameter {
  std::string name;  // of the first tensor; for q|k|v "...qkv...", for gate|up "...gate_up..."
  std::vector<int64_t> shape = {};
  ParameterGroup group = ParameterGroup::kBackbone;  // when trained
  bool in_products = true;                           // false: embedding tables
  bool keep_float32 = false;                         // also when frozen: norms (not biases), BERT's embedding tables
  std::vector<std::string> tensors = {};             // Hugging Face's names, without prefix
  std::vector<int64_t> rows = {};                    // of each tensor; empty: all the same
  std::string tied = {};                             // whole name of a tensor with the same values; empty: none
};

/// All parameters of a backbone, the tensors that they come from, and their place in the store.
struct BackboneWeights {
  std::vector<BackboneParameter> parameters;
  std::vector<std::string> prefixes;  // what the names of a folder's tensors may begin with ("" among them)
  int first = 0;                      // parameters[i] is the store's first + i
};

/// Registers the parameters in this order (kFrozen when frozen); returns the index of the first.
int register_backbone(const std::vector<BackboneParameter>& parameters, bool frozen, ParameterStore& store);

/// What load_backbone keeps of a frozen parameter whose file holds `stored`.
struct FrozenForm {
  at::ScalarType dtype;  // the compute dtype where products read it, float32 for kFloat32, as stored for other tables
  bool is_mapped;        // a view of the file: one tensor in that dtype, on a CPU
};
FrozenForm frozen_form(const ParameterInfo& info, at::ScalarType stored, at::ScalarType compute_dtype, bool cpu);

/// UserError as load_backbone's, from config.json and the headers of the weights alone: before anything is allocated.
void check_backbone(const BackboneWeights& weights, const std::filesystem::path& folder);

/// Fills the parameters from the folder's weights. Trained: into the buffers, as float32. Frozen: as frozen_form says,
/// the mapped bytes themselves or one copy of them. UserError naming file, tensor, what was found and what config.json
/// says.
void load_backbone(const BackboneWeights& weights, const std::filesystem::path& folder, ParameterStore& store);

/// Writes model.safetensors, or shards and their index when the tensors are more than max_shard_bytes, from values
/// given one parameter at a time (value_of(i): parameters[i], any device), converted to dtype.
void save_backbone(const std::vector<BackboneParameter>& parameters, const std::function<at::Tensor(size_t)>& value_of,
                   at::ScalarType dtype, int64_t max_shard_bytes, const std::filesystem::path& folder);

/// tokenizer.json and what belongs to it, from one model folder to another.
void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace vixen
