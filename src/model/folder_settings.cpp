#include "model/folder_settings.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "base/json_file.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "model/decoder/decoder_variants.hpp"
#include "model/weights/model_json.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kModulesFile = "modules.json";
constexpr const char* kPromptsFile = "config_sentence_transformers.json";
constexpr const char* kTextFile = "sentence_bert_config.json";
constexpr const char* kVixenFile = "vixen_config.json";
constexpr const char* kOverride =
    "or give --model.pooling mean (or cls, last) to take the model's outputs all the same";

// What a folder says: a pooling, and the file that says so.
struct Word {
  Pooling pooling = Pooling::kMean;
  std::string file;
};

// sentence-transformers' older form: a flag for each pooling. The first of these is its name in the newer form.
constexpr std::array<std::pair<const char*, const char*>, 6> kFlags = {{
    {"cls", "pooling_mode_cls_token"},
    {"max", "pooling_mode_max_tokens"},
    {"mean", "pooling_mode_mean_tokens"},
    {"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"},
    {"weightedmean", "pooling_mode_weightedmean_tokens"},
    {"lasttoken", "pooling_mode_lasttoken"},
}};

bool lies_at(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// The words of a pooling module's config.json: one, or several whose embeddings stand side by side.
std::vector<std::string> pooling_modes(const Json& json, const std::string& file) {
  std::vector<std::string> modes;
  if (json.contains("pooling_mode")) {
    const Json& mode = json["pooling_mode"];
    if (mode.is_string()) return {mode.get<std::string>()};
    if (mode.is_array() && std::all_of(mode.begin(), mode.end(), [](const Json& part) { return part.is_string(); }))
      return mode.get<std::vector<std::string>>();
    fail_user("{}: pooling_mode is {}, expected the name of a pooling", file, shown_json(mode));
  }
  for (const auto& [name, key] : kFlags) {
    if (!json.contains(key)) continue;
    if (!json[key].is_boolean()) fail_user("{}: {} is {}, expected true or false", file, key, shown_json(json[key]));
    if (json[key].get<bool>()) modes.emplace_back(name);
  }
  if (modes.empty()) modes.emplace_back("mean");  // as sentence-transformers reads it
  return modes;
}

Pooling pooling_of(const fs::path& path) {
  const std::string file = shown(path.string());
  const auto modes = pooling_modes(read_json_object(path, "the settings of a pooling module"), file);
  if (modes.size() != 1)
    fail_user("{}: {} poolings side by side, expected one: choose another model, {}", file, modes.size(), kOverride);
  const std::string& mode = modes.front();
  if (mode == "cls") return Pooling::kCls;
  if (mode == "lasttoken") return Pooling::kLastToken;
  // By the root of the length instead of the length: another norm, the same direction.
  if (mode == "mean" || mode == "mean_sqrt_len_tokens") return Pooling::kMean;
  fail_user("{}: the pooling is {}, expected mean, cls or lasttoken: choose another model, {}", file, shown(mode),
            kOverride);
}

// The folder's own modules.json, or that of the folder around it where this one is its first module ("0_BERT").
std::optional<fs::path> modules_file(const fs::path& folder) {
  if (lies_at(folder / kModulesFile)) return folder / kModulesFile;
  const fs::path absolute = fs::absolute(folder / "").lexically_normal().parent_path();
  const fs::path outer = absolute.parent_path() / kModulesFile;
  const std::string name = absolute.filename().string();
  if (!name.starts_with("0_") || !lies_at(outer)) return std::nullopt;
  return outer;
}

std::string text_of(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_string() ? object[key].get<std::string>() : "";
}

// A prompt that sentence-transformers puts in front of every text unless told otherwise.
void check_prompts(const fs::path& folder) {
  const fs::path path = folder / kPromptsFile;
  if (!lies_at(path)) return;
  const Json json = read_json_object(path, "the settings of a sentence-transformers model");
  const std::string name = text_of(json, "default_prompt_name");
  const std::string prompt = json.contains("prompts") ? text_of(json["prompts"], name.c_str()) : "";
  if (!prompt.empty())
    fail_user(
        "{}: default_prompt_name is {}, which puts \"{}\" in front of every text: put it there in the raw files, "
        "and give --model.pooling mean (or cls, last) to say so",
        shown(path.string()), shown(name, 60), shown(prompt, 60));
}

// Whether the tokenizer makes the texts lower case by itself.
bool lower_cases(const fs::path& folder) {
  const fs::path path = folder / "tokenizer.json";
  if (!lies_at(path)) return false;
  const Json json = read_json_object(path, "a tokenizer");
  const std::string normalizer = json.contains("normalizer") ? json["normalizer"].dump() : "";
  return normalizer.find("\"lowercase\":true") != normalizer.npos ||
         normalizer.find("\"Lowercase\"") != normalizer.npos;
}

void check_text_settings(const fs::path& folder) {
  const fs::path path = folder / kTextFile;
  if (!lies_at(path)) return;
  const Json json = read_json_object(path, "the settings of a sentence-transformers model");
  if (!json.contains("do_lower_case") || json["do_lower_case"] != true || lower_cases(folder)) return;
  fail_user(
      "{}: do_lower_case is true, the tokenizer.json beside it keeps capitals: make the raw texts lower case, and "
      "give --model.pooling mean (or cls, last) to say so",
      shown(path.string()));
}

Word vixen_word(const fs::path& path) {
  const Json json = read_json_object(path, "the settings of an exported model");
  const std::string mode = text_of(json, "pooling");
  for (const Pooling known : {Pooling::kMean, Pooling::kLastToken, Pooling::kCls})
    if (mode == name_of(known)) return {known, shown(path.string())};
  fail_user("{}: pooling is \"{}\", expected mean, last or cls", shown(path.string()), shown(mode, 60));
}

// The classes of a first module that is a Hugging Face model; the first releases had one for each architecture.
bool is_transformer(const std::string& kind) {
  return kind == "Transformer" || kind == "BERT" || kind == "DistilBERT";
}

// What modules.json and the files that it points to say.
Word modules_word(const fs::path& path, const fs::path& folder) {
  const std::string file = shown(path.string());
  const Json modules = read_json(path, "the list of modules of a sentence-transformers model");
  if (!modules.is_array()) fail_user("{}: found a JSON {}, expected a list of modules", file, modules.type_name());
  std::optional<Word> word;
  size_t place = 0;
  for (const Json& module : modules) {
    const std::string type = text_of(module, "type"), kind = type.substr(type.rfind('.') + 1);
    if (type.empty()) fail_user("{}: module {} has no type, expected the name of a class", file, place);
    if (kind == "Pooling" && !word) {
      const fs::path config = path.parent_path() / text_of(module, "path") / "config.json";
      word = Word{pooling_of(config), shown(config.string())};
    } else if (kind == "VixenEncoder") {
      word = vixen_word(path.parent_path() / kVixenFile);
    } else if (!(place == 0 && is_transformer(kind)) && kind != "Normalize") {
      fail_user("{}: module {} is {}, expected a transformer, a pooling and Normalize: choose another model, {}", file,
                place, shown(type, 80), kOverride);
    }
    ++place;
  }
  if (!word) fail_user("{}: no pooling module, expected one: choose another model, {}", file, kOverride);
  check_prompts(path.parent_path());
  check_text_settings(folder);
  return *word;
}

// Nothing when the folder is silent.
std::optional<Word> word_of(const fs::path& folder) {
  if (lies_at(folder / kVixenFile)) return vixen_word(folder / kVixenFile);
  if (const auto modules = modules_file(folder)) return modules_word(*modules, folder);
  return std::nullopt;
}

fs::path folder_of(const std::string& model) {
  std::error_code ignored;
  return fs::is_regular_file(model, ignored) ? fs::path(model).parent_path() : fs::path(model);
}

// Of the adapter, where there is one, then of the model.
std::vector<fs::path> folders_of(const ModelConfig& model, const LoraConfig& lora) {
  std::vector<fs::path> folders = {folder_of(model.path)};
  if (!lora.adapter.empty()) folders.insert(folders.begin(), lora.adapter);
  return folders;
}

void settle_pooling(const LoraConfig& lora, ModelConfig& model) {
  std::optional<Word> word;
  try {
    for (const auto& folder : folders_of(model, lora))
      if (!word) word = word_of(folder);
  } catch (const UserError& error) {
    if (model.pooling == Pooling::kAuto) throw;
    spdlog::info("model.pooling = {} is taken whatever the folder asks for ({})", name_of(model.pooling), error.what());
    return;
  }
  if (model.pooling == Pooling::kAuto) {
    model.pooling = word ? word->pooling : Pooling::kMean;
    if (model.pooling != Pooling::kMean)
      spdlog::info("model.pooling = {}, as {} says", name_of(model.pooling), word->file);
  } else if (word && word->pooling != model.pooling) {
    spdlog::info("model.pooling = {} is taken, {} says {}", name_of(model.pooling), word->file, name_of(word->pooling));
  }
}

// Whether an export of vixen in one of the folders lets every position see all.
bool exported_bidirectional(const std::vector<fs::path>& folders, std::string& file) {
  for (const auto& folder : folders) {
    if (!lies_at(folder / kVixenFile)) continue;
    file = shown((folder / kVixenFile).string());
    return text_of(read_json_object(folder / kVixenFile, "the settings of an exported model"), "mask") ==
           "bidirectional";
  }
  return false;
}

void settle_mask(const LoraConfig& lora, ModelConfig& model) {
  if (model.mask != Mask::kAuto) return;
  const JsonObject json = JsonObject::of_model(model.path);
  if (json.has("auto_map") && json.object("auto_map").has("AutoModel"))
    fail_user(
        "{}: auto_map.AutoModel is {}, code of the folder that is not run here: give --model.mask causal or "
        "bidirectional to read its weights as those of a plain {}",
        json.file(), shown_json(json.object("auto_map").json()["AutoModel"]), shown(json.text("model_type", "model")));
  std::string file = json.file();
  if (find_variant(kDecoderVariants, json.text("model_type", "")) != nullptr &&
      (exported_bidirectional(folders_of(model, lora), file) || !json.flag("is_causal", true))) {
    model.mask = Mask::kBidirectional;
    spdlog::info("model.mask = bidirectional, as {} says", file);
  }
}

}  // namespace

ModelConfig with_folder_settings(const ModelConfig& model, const LoraConfig& lora) {
  ModelConfig settled = model;
  settle_mask(lora, settled);
  settle_pooling(lora, settled);
  return settled;
}

}  // namespace vixen
