// Adapters as PEFT folders: adapter_config.json and adapter_model.safetensors, that PeftModel.from_pretrained loads.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "model/adapters/lora.hpp"
#include "model/parameters.hpp"

namespace vixen {

/// The files of such a folder. A folder holds adapters when it holds the first.
inline constexpr const char* kAdapterConfigFile = "adapter_config.json";
inline constexpr const char* kAdapterWeightFile = "adapter_model.safetensors";

/// What lora.adapter says about itself: rank, alpha, scale, dropout and modules from its adapter_config.json, written
/// over those of `config` (unchanged when lora.adapter is empty). UserError naming file and key: unreadable, no LoRA
/// (peft_type), bias other than none, DoRA, modules we do not know, rank or alpha patterns that differ from module to
/// module.
LoraConfig with_adapter_settings(const LoraConfig& config);

/// Fills A and B of all linears from the folder; `prefixes` are those of the base's tensors, any of which may be
/// between PEFT's prefix and a module's name, as "model." may (wrappers' name of a backbone). UserError naming file and
/// tensor: missing, of another shape (rank or base), or tensors left over that no module of this model takes (adapters
/// of another base, or of layers beyond model.layers).
void load_adapter(const std::filesystem::path& folder, const std::vector<std::string>& prefixes,
                  const std::vector<const AdaptedLinear*>& linears, ParameterStore& store);

/// Writes the folder: A and B float32 under PEFT's names, the configuration with use_rslora, r, lora_alpha,
/// target_modules (PEFT's words for this architecture), base_model_name_or_path = base, task_type FEATURE_EXTRACTION.
void save_adapter(const std::filesystem::path& folder, const LoraConfig& config, const std::string& base,
                  const std::vector<const AdaptedLinear*>& linears, const ParameterStore& store);

}  // namespace vixen
