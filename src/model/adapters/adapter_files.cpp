// PEFT's folders: which configurations are the adapters we know, and the names of their tensors.
#include "model/adapters/adapter_files.hpp"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/json_file.hpp"
#include "base/text.hpp"
#include "model/initialise.hpp"
#include "model/weights/weight_files.hpp"

namespace vixen {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kPrefix = "base_model.model.";
constexpr double kLargestNumber = 1e30;  // of a setting
constexpr const char* kEndA = ".lora_A.weight";
constexpr const char* kEndB = ".lora_B.weight";

// The architectures' words for the modules; a module is known by the longest that its name ends with.
constexpr std::pair<const char*, LoraModule> kWords[] = {
    {"q_proj", LoraModule::kQuery},      {"k_proj", LoraModule::kKey},
    {"v_proj", LoraModule::kValue},      {"o_proj", LoraModule::kOut},
    {"gate_proj", LoraModule::kGate},    {"up_proj", LoraModule::kUp},
    {"down_proj", LoraModule::kDown},    {"attention.output.dense", LoraModule::kOut},
    {"query", LoraModule::kQuery},       {"key", LoraModule::kKey},
    {"value", LoraModule::kValue},       {"intermediate.dense", LoraModule::kUp},
    {"output.dense", LoraModule::kDown}, {"q_lin", LoraModule::kQuery},
    {"k_lin", LoraModule::kKey},         {"v_lin", LoraModule::kValue},
    {"out_lin", LoraModule::kOut},       {"lin1", LoraModule::kUp},
    {"lin2", LoraModule::kDown},
};

struct Word {
  std::string text;
  LoraModule module;
};
std::optional<Word> word_of(const std::string& name) {
  for (const auto& [word, module] : kWords)  // the longer of two that match comes first
    if (name.ends_with(std::string(".") + word)) return Word{word, module};
  return std::nullopt;
}

bool is_set(const Json& value) {
  return !(value.is_null() || value == false || ((value.is_object() || value.is_array()) && value.empty()) ||
           value == "none");
}

// Options of LoraConfig that change what is computed in ways that we do not have.
constexpr const char* kRefused[] = {"use_dora",
                                    "fan_in_fan_out",
                                    "modules_to_save",
                                    "lora_bias",
                                    "use_qalora",
                                    "layer_replication",
                                    "trainable_token_indices",
                                    "target_parameters",
                                    "use_bdlora",
                                    "arrow_config",
                                    "kasa_config",
                                    "monteclora_config",
                                    "velora_config",
                                    "alora_invocation_tokens"};
// Initial values for which PEFT also changes the base weights; the others leave a plain adapter.
constexpr const char* kBaseChanging[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};

class AdapterConfig {
 public:
  explicit AdapterConfig(const std::filesystem::path& folder) : file_((folder / kAdapterConfigFile).string()) {
    json_ = read_json_object(folder / kAdapterConfigFile, "the JSON object of a PEFT adapter");
  }

  /// Refuses what is no plain LoRA.
  void check() const {
    if (get("peft_type") != "LORA")
      fail_user("{}: peft_type is {}, expected \"LORA\"", file_, shown_json(get("peft_type")));
    if (is_set(get("bias"))) fail_user("{}: bias is {}, expected \"none\"", file_, shown_json(get("bias")));
    for (const char* key : kRefused)
      if (is_set(get(key)))
        fail_user("{}: {} is {}, expected a plain LoRA adapter without it", file_, key, shown_json(get(key)));
    const Json init = get("init_lora_weights");
    for (const char* kind : kBaseChanging)
      if (init.is_string() && init.get<std::string>().starts_with(kind))
        fail_user("{}: init_lora_weights is {}, whose base weights are changed too: expected a plain LoRA adapter",
                  file_, shown_json(init));
    check_pattern("rank_pattern", "r");
    check_pattern("alpha_pattern", "lora_alpha");
  }

  double number(const char* key) const {
    const Json value = get(key);
    if (!value.is_number() || !std::isfinite(value.get<double>()) || std::abs(value.get<double>()) > kLargestNumber)
      fail_user("{}: {} is {}, expected a number", file_, key, shown_json(value));
    return value.get<double>();
  }
  int64_t rank() const {
    const Json value = get("r");
    if (!value.is_number_integer() || value.get<int64_t>() < 1)
      fail_user("{}: r is {}, expected a positive integer", file_, shown_json(value));
    return value.get<int64_t>();
  }
  bool rank_stabilised() const {
    const Json value = get("use_rslora");
    if (!value.is_null() && !value.is_boolean())
      fail_user("{}: use_rslora is {}, expected true or false", file_, shown_json(value));
    return value == true;
  }
  double dropout() const {
    if (!is_set(get("lora_dropout"))) return 0;
    const double value = number("lora_dropout");
    if (value < 0 || value >= 1)
      fail_user("{}: lora_dropout is {}, expected a number in [0, 1)", file_, shown_json(get("lora_dropout")));
    return value;
  }

 private:
  Json get(const char* key) const { return json_.contains(key) ? json_[key] : Json(); }

  // A pattern may say of some modules what is said of all.
  void check_pattern(const char* pattern, const char* key) const {
    const Json values = get(pattern);
    if (!is_set(values)) return;
    if (!values.is_object()) fail_user("{}: {} is {}, expected an object", file_, pattern, shown_json(values));
    for (const auto& [module, value] : values.items())
      if (value != get(key))
        fail_user("{}: {}.{} is {}, expected the {} of {} for every module", file_, pattern, shown(module),
                  shown_json(value), key, shown_json(get(key)));
  }

  std::string file_;
  Json json_;
};

SafetensorsFile open_tensors(const std::filesystem::path& folder) {
  if (!std::filesystem::exists(folder / kAdapterWeightFile))
    fail_user("{}: missing, expected PEFT's weights as safetensors beside {}", (folder / kAdapterWeightFile).string(),
              kAdapterConfigFile);
  return SafetensorsFile(folder / kAdapterWeightFile);
}

// The words of lora.modules for the modules whose tensors are there, each of this rank.
std::string modules_of(const std::filesystem::path& folder, int64_t rank) {
  const SafetensorsFile file = open_tensors(folder);
  std::set<LoraModule> found;
  for (const std::string& name : file.names()) {
    if (!name.ends_with(kEndA)) continue;
    const std::string module = name.substr(0, name.size() - std::string(kEndA).size());
    const auto word = word_of(module);
    if (!word)
      fail_user("{}: tensor {} adapts a module that we do not know, expected attention and feed-forward projections",
                (folder / kAdapterWeightFile).string(), name);
    // Here, before matrices of the rank are allocated.
    if (const auto& shape = file.shape(name); shape.size() != 2 || shape[0] != rank)
      fail_user("{}: tensor {} has shape {}, expected [{}, {}] by the r of {}", (folder / kAdapterWeightFile).string(),
                name, shape, rank, shape.size() == 2 ? shape[1] : 0, (folder / kAdapterConfigFile).string());
    found.insert(word->module);
  }
  if (found.empty())
    fail_user("{}: no tensor ends in {}, expected the weights of a LoRA adapter",
              (folder / kAdapterWeightFile).string(), kEndA);
  std::vector<std::string> words;
  words.reserve(found.size());
  for (const LoraModule module : found) words.emplace_back(name_of(module));
  return fmt::format("{}", fmt::join(words, ","));
}

// PEFT's target_modules for these linears: the architecture's words, or whole names where a word would also match a
// module without adapter (BERT's output.dense ends attention.output.dense too).
std::vector<std::string> target_modules(const std::vector<const AdaptedLinear*>& linears) {
  std::set<std::string> words;
  std::vector<std::string> names;
  for (const AdaptedLinear* linear : linears)
    for (const auto& piece : linear->pieces) {
      names.push_back(piece.peft_name);
      const auto word = word_of(piece.peft_name);
      VIXEN_CHECK(word.has_value(), "no word for module {}", piece.peft_name);
      words.insert(word->text);
    }
  if (words.contains("output.dense") && !words.contains("attention.output.dense")) {
    words.erase("output.dense");
    for (const std::string& name : names)
      if (word_of(name)->text == "output.dense") words.insert(name);
  }
  return {words.begin(), words.end()};
}

int64_t rank_of(const AdaptedLinear& linear, const ParameterStore& store) {
  return store.info(linear.lora_a).shape[0] / static_cast<int64_t>(linear.pieces.size());
}

}  // namespace

LoraConfig with_adapter_settings(const LoraConfig& config) {
  if (config.adapter.empty()) return config;
  const std::filesystem::path folder = config.adapter;
  const AdapterConfig adapter(folder);
  adapter.check();
  LoraConfig result = config;
  result.rank = adapter.rank();
  result.alpha = adapter.number("lora_alpha");
  result.scale = adapter.rank_stabilised() ? LoraScale::kRankStabilised : LoraScale::kClassic;
  result.dropout = adapter.dropout();
  result.modules = modules_of(folder, result.rank);
  return result;
}

void load_adapter(const std::filesystem::path& folder, const std::vector<std::string>& prefixes,
                  const std::vector<const AdaptedLinear*>& linears, ParameterStore& store) {
  std::vector<std::string> between = {"", "model."};
  between.insert(between.end(), prefixes.begin(), prefixes.end());
  const std::string path = (folder / kAdapterWeightFile).string();
  const SafetensorsFile file = open_tensors(folder);
  std::set<std::string> left;
  for (const std::string& name : file.names()) left.insert(name);
  const auto take = [&](const std::string& module, const char* ending, std::vector<int64_t> shape) {
    for (const std::string& prefix : between) {
      const std::string name = kPrefix + prefix + module + ending;
      if (!file.contains(name)) continue;
      const at::Tensor tensor = file.tensor(name);
      if (tensor.sizes() != at::IntArrayRef(shape))
        fail_user("{}: tensor {} has shape {}, expected {}: an adapter of another rank or of another base", path, name,
                  tensor.sizes().vec(), shape);
      if (!at::isFloatingType(tensor.scalar_type()))
        fail_user("{}: tensor {} has dtype {}, expected float32, float16 or bfloat16", path, name,
                  c10::toString(tensor.scalar_type()));
      left.erase(name);
      return tensor.to(at::kFloat);
    }
    fail_user("{}: tensor {}{}{} is missing: the adapter leaves out a module or layer of this model", path, kPrefix,
              module, ending);
  };
  for (const AdaptedLinear* linear : linears) {
    if (linear->lora_a < 0) continue;
    const int64_t r = rank_of(*linear, store), inputs = store.info(linear->lora_a).shape[1];
    std::vector<at::Tensor> stacked;
    for (const auto& piece : linear->pieces) {
      stacked.push_back(take(piece.peft_name, kEndA, {r, inputs}));
      set_parameter(store, piece.lora_b, take(piece.peft_name, kEndB, {piece.rows, r}), at::kFloat);
    }
    set_parameter(store, linear->lora_a, at::cat(stacked), at::kFloat);
  }
  if (!left.empty())
    fail_user(
        "{}: tensor {} belongs to no module of this model ({} such): an adapter of another base, or of more layers "
        "than model.layers",
        path, *left.begin(), left.size());
}

void save_adapter(const std::filesystem::path& folder, const LoraConfig& config, const std::string& base,
                  const std::vector<const AdaptedLinear*>& linears, const ParameterStore& store) {
  std::map<std::string, at::Tensor> tensors;
  for (const AdaptedLinear* linear : linears) {
    if (linear->lora_a < 0) continue;
    const at::Tensor a = store.value(linear->lora_a).to(at::kFloat);
    const int64_t r = rank_of(*linear, store);
    for (size_t i = 0; i < linear->pieces.size(); ++i) {
      const auto& piece = linear->pieces[i];
      const std::string name = kPrefix + piece.peft_name;
      tensors[name + kEndA] = a.narrow(0, static_cast<int64_t>(i) * r, r);
      tensors[name + kEndB] = store.value(piece.lora_b).to(at::kFloat);
    }
  }
  write_safetensors(folder / kAdapterWeightFile, tensors, {{"format", "pt"}});

  Json json;
  json["peft_type"] = "LORA";
  json["task_type"] = "FEATURE_EXTRACTION";
  json["base_model_name_or_path"] = base;
  json["inference_mode"] = true;
  json["r"] = config.rank;
  // PEFT declares it an integer; it divides either kind.
  if (config.alpha == std::floor(config.alpha))
    json["lora_alpha"] = static_cast<int64_t>(config.alpha);
  else
    json["lora_alpha"] = config.alpha;
  json["use_rslora"] = config.scale == LoraScale::kRankStabilised;
  json["lora_dropout"] = config.dropout;
  json["bias"] = "none";
  json["target_modules"] = target_modules(linears);
  json["fan_in_fan_out"] = false;
  json["init_lora_weights"] = true;
  json["modules_to_save"] = nullptr;
  json["layers_to_transform"] = nullptr;
  json["layers_pattern"] = nullptr;
  json["rank_pattern"] = Json::object();
  json["alpha_pattern"] = Json::object();
  json["use_dora"] = false;
  json["lora_bias"] = false;
  // Last, so that a folder with a configuration is whole.
  write_text_atomically(folder / kAdapterConfigFile, json.dump(2) + "\n");
}

}  // namespace vixen
