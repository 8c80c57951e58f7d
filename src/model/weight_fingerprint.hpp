// What a model folder is, by its content, without reading all of it.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace vixen {

/// {"config": hash of config.json, "weights": {file: {"bytes", "content"}}} of a Hugging Face folder, or of an
/// adapter's (adapter_config.json). "content" is XXH3 over the header of the safetensors file and over three blocks of
/// every tensor (its beginning, middle and end; small tensors whole): a few MB of a file of many GB. Training, merging
/// an adapter and converting change all of a tensor, so that they are seen; one changed weight in the middle of nowhere
/// is not. UserError when the folder's files cannot be read.
nlohmann::json weight_fingerprint(const std::filesystem::path& folder);

/// What of two fingerprints differs first, in words ("config.json", "model.safetensors"); "" when nothing does. Parts
/// that an older program did not write count as equal.
std::string fingerprint_difference(const nlohmann::json& was, const nlohmann::json& is);

}  // namespace vixen
