// Tensors of a folder into parameters and back: fused rows, old names, views of mapped files, shards.
#include "model/weights/backbone_weights.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.hpp"
#include "base/file.hpp"
#include "model/weights/weight_files.hpp"

namespace vixen {
namespace {

// Checkpoints converted from TensorFlow name a norm's weight gamma and its bias beta.
std::string old_norm_name(const std::string& name) {
  const auto renamed = [&](const std::string& ending, const std::string& old) {
    return name.substr(0, name.size() - ending.size()) + old;
  };
  if (name.ends_with("LayerNorm.weight")) return renamed("weight", "gamma");
  if (name.ends_with("LayerNorm.bias")) return renamed("bias", "beta");
  return name;
}

std::string find_name(const WeightFiles& files, const std::vector<std::string>& prefixes, const std::string& name,
                      const std::string& tied) {
  for (const std::string& prefix : prefixes)
    for (const std::string& candidate : {prefix + name, prefix + old_norm_name(name)})
      if (files.contains(candidate)) return candidate;
  if (!tied.empty() && files.contains(tied)) return tied;
  std::vector<std::string> tried = prefixes;
  std::erase(tried, "");
  fail_user("{}: tensor {} is missing (with or without the prefix {})", files.file_of(name).string(), name,
            fmt::join(tried, ", "));
}

int64_t rows_of(const BackboneParameter& parameter, size_t tensor) {
  if (!parameter.rows.empty()) return parameter.rows.at(tensor);
  return parameter.shape.at(0) / static_cast<int64_t>(parameter.tensors.size());
}

std::vector<int64_t> shape_of(const BackboneParameter& parameter, size_t tensor) {
  std::vector<int64_t> shape = parameter.shape;
  shape[0] = rows_of(parameter, tensor);
  return shape;
}

// Names in the files of a parameter's tensors, each of the shape that config.json gives it. Reads headers only.
std::vector<std::string> find_tensors(const WeightFiles& files, const std::vector<std::string>& prefixes,
                                      const BackboneParameter& parameter) {
  std::vector<std::string> all;
  for (size_t part = 0; part < parameter.tensors.size(); ++part) {
    const std::string name = find_name(files, prefixes, parameter.tensors[part], parameter.tied);
    const auto& shape = files.shape(name);
    const auto expected = shape_of(parameter, part);
    if (shape != expected)
      fail_user("{}: tensor {} has shape {}, expected {} as config.json says", files.file_of(name).string(), name,
                shape, expected);
    all.push_back(name);
  }
  return all;
}

FrozenKind kind_of(const BackboneParameter& parameter) {
  if (parameter.keep_float32) return FrozenKind::kFloat32;
  return parameter.in_products ? FrozenKind::kProduct : FrozenKind::kTable;
}

}  // namespace

int register_backbone(const std::vector<BackboneParameter>& parameters, bool frozen, ParameterStore& store) {
  const int first = store.count();
  for (const auto& p : parameters) {
    int64_t rows = 0;
    for (size_t i = 0; i < p.tensors.size(); ++i) rows += rows_of(p, i);
    VIXEN_CHECK(rows == p.shape.at(0), "{}: {} rows of tensors, {} of the parameter", p.name, rows, p.shape.at(0));
    const int index = store.add(p.name, p.shape, frozen ? ParameterGroup::kFrozen : p.group, p.in_products);
    store.set_kind(index, kind_of(p), p.tensors.size() > 1);
  }
  return first;
}

FrozenForm frozen_form(const ParameterInfo& info, at::ScalarType stored, at::ScalarType compute_dtype, bool cpu) {
  auto dtype = at::kFloat;
  if (info.kind == FrozenKind::kProduct) dtype = compute_dtype;
  if (info.kind == FrozenKind::kTable && stored != at::kDouble) dtype = stored;
  return {dtype, cpu && !info.is_fused && stored == dtype};
}

void check_backbone(const BackboneWeights& weights, const std::filesystem::path& folder) {
  const WeightFiles files(folder);
  for (const auto& parameter : weights.parameters) find_tensors(files, weights.prefixes, parameter);
}

void load_backbone(const BackboneWeights& weights, const std::filesystem::path& folder, ParameterStore& store) {
  const WeightFiles files(folder);
  const at::Device device = store.flat_values().device();
  for (size_t i = 0; i < weights.parameters.size(); ++i) {
    const BackboneParameter& parameter = weights.parameters[i];
    const int index = weights.first + static_cast<int>(i);
    VIXEN_CHECK(store.info(index).name == parameter.name, "parameter {} is registered as {}", parameter.name,
                store.info(index).name);
    std::vector<std::pair<std::string, at::Tensor>> parts;
    for (const std::string& name : find_tensors(files, weights.prefixes, parameter))
      parts.emplace_back(name, files.tensor(name));
    at::Tensor target;
    if (store.trained(index)) {
      target = store.value(index);
    } else {
      const auto form =
          frozen_form(store.info(index), parts[0].second.scalar_type(), store.compute_dtype(), device.is_cpu());
      if (form.is_mapped) {
        store.set_frozen(index, parts[0].second);
        continue;
      }
      target = at::empty(parameter.shape, at::TensorOptions().dtype(form.dtype).device(device));
      store.set_frozen(index, target);
    }
    int64_t row = 0;
    for (const auto& [name, tensor] : parts) {
      target.narrow(0, row, tensor.size(0)).copy_(tensor);
      row += tensor.size(0);
      files.done_with(name);
    }
  }
}

void save_backbone(const std::vector<BackboneParameter>& parameters, const std::function<at::Tensor(size_t)>& value_of,
                   at::ScalarType dtype, int64_t max_shard_bytes, const std::filesystem::path& folder) {
  struct Part {
    SafetensorsEntry entry;
    size_t parameter = 0;
    int64_t first_row = 0;
  };
  std::vector<std::vector<Part>> shards(1);
  int64_t shard_bytes = 0, total_bytes = 0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    int64_t row = 0;
    for (size_t part = 0; part < parameters[i].tensors.size(); ++part) {
      SafetensorsEntry entry{
          .name = parameters[i].tensors[part], .dtype = dtype, .shape = shape_of(parameters[i], part)};
      const int64_t bytes = entry.bytes(), rows = entry.shape[0];
      if (shard_bytes > 0 && shard_bytes + bytes > max_shard_bytes) {
        shards.emplace_back();
        shard_bytes = 0;
      }
      shard_bytes += bytes;
      total_bytes += bytes;
      shards.back().push_back({std::move(entry), i, row});
      row += rows;
    }
  }

  // One parameter's value at a time; its tensors are neighbours.
  size_t held = parameters.size();
  at::Tensor value;
  const auto tensor_of = [&](const Part& part) {
    if (held != part.parameter) {
      value.reset();
      value = value_of(part.parameter).to(at::kCPU, dtype);
      held = part.parameter;
      VIXEN_CHECK(value.sizes() == at::IntArrayRef(parameters[held].shape), "{}: value of another shape",
                  parameters[held].name);
    }
    return value.narrow(0, part.first_row, part.entry.shape[0]);
  };
  nlohmann::ordered_json weight_map = nlohmann::ordered_json::object();
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string name =
        shards.size() == 1 ? kWeightFile : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
    std::vector<SafetensorsEntry> entries;
    for (const Part& part : shards[s]) {
      entries.push_back(part.entry);
      weight_map[part.entry.name] = name;
    }
    write_safetensors(folder / name, entries, [&](size_t i) { return tensor_of(shards[s][i]); }, {{"format", "pt"}});
  }
  // The other form, of an earlier save, would be read in its stead.
  if (shards.size() == 1) {
    std::filesystem::remove(folder / kWeightIndexFile);
    return;
  }
  write_text_atomically(
      folder / kWeightIndexFile,
      nlohmann::ordered_json{{"metadata", {{"total_size", total_bytes}}}, {"weight_map", weight_map}}.dump(2) + "\n");
  std::filesystem::remove(folder / kWeightFile);
}

void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& to) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                           "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja"})
    if (std::filesystem::exists(from / name)) write_text_atomically(to / name, read_text(from / name));
}

}  // namespace vixen
