#include "model/weights/weight_files.hpp"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/json_file.hpp"
#include "base/text.hpp"

namespace vixen {
namespace {

using Json = nlohmann::ordered_json;

// Tensor -> shard, as the index says it.
std::map<std::string, std::string> read_index(const std::filesystem::path& path) {
  const std::string file = shown(path.string());
  const Json json = read_json_object(path, "the JSON object of a sharded checkpoint");
  if (!json.contains("weight_map") || !json["weight_map"].is_object())
    fail_user("{}: key weight_map is missing, expected an object of tensors and the shards that hold them", file);
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, shard] : json["weight_map"].items()) {
    if (!shard.is_string() || std::filesystem::path(shard.get<std::string>()).filename() != shard.get<std::string>())
      fail_user("{}: weight_map.{} is {}, expected the name of a file beside the index", file, shown(tensor),
                shown_json(shard));
    shards[tensor] = shard.get<std::string>();
  }
  return shards;
}

}  // namespace

WeightFiles::WeightFiles(const std::filesystem::path& folder) : main_file_(folder / kWeightFile) {
  if (!std::filesystem::exists(main_file_) && std::filesystem::exists(folder / kWeightIndexFile))
    main_file_ = folder / kWeightIndexFile;
  if (!std::filesystem::exists(main_file_))
    fail_user("{}: missing, expected it or {} beside config.json", main_file_.string(), kWeightIndexFile);
  if (main_file_.filename() == kWeightFile) {
    const auto file = std::make_shared<const SafetensorsFile>(main_file_);
    for (const std::string& name : file->names()) {
      files_[name] = file;
      paths_[name] = main_file_;
    }
    return;
  }
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> opened;  // by shard
  for (const auto& [tensor, shard] : read_index(main_file_)) {
    const auto path = folder / shard;
    auto& file = opened[shard];
    if (!file) {
      if (!std::filesystem::exists(path))
        fail_user("{}: the shard is missing; {} places tensor {} in it", path.string(), main_file_.string(), tensor);
      file = std::make_shared<const SafetensorsFile>(path);
    }
    if (!file->contains(tensor))
      fail_user("{}: tensor {} is missing; {} places it here", path.string(), tensor, main_file_.string());
    files_[tensor] = file;
    paths_[tensor] = path;
  }
}

std::vector<std::string> WeightFiles::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : files_) names.push_back(name);
  return names;
}

at::Tensor WeightFiles::tensor(const std::string& name) const {
  return file_with(name).tensor(name);
}

const std::vector<int64_t>& WeightFiles::shape(const std::string& name) const {
  return file_with(name).shape(name);
}

const SafetensorsFile& WeightFiles::file_with(const std::string& name) const {
  const auto found = files_.find(name);
  if (found == files_.end()) fail_user("{}: tensor {} is missing", main_file_.string(), name);
  const std::string& dtype = found->second->dtype_name(name);
  if (dtype != "F32" && dtype != "F16" && dtype != "BF16" && dtype != "F64")
    fail_user("{}: tensor {} has dtype {}, expected float32, float16 or bfloat16", file_of(name).string(), name, dtype);
  return *found->second;
}

void WeightFiles::done_with(const std::string& name) const {
  files_.at(name)->done_with(name);
}

std::filesystem::path WeightFiles::file_of(const std::string& name) const {
  const auto found = paths_.find(name);
  return found == paths_.end() ? main_file_ : found->second;
}

}  // namespace vixen
