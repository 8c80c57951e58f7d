// The files by which sentence-transformers takes a Hugging Face folder for one of its models.
#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/json_file.hpp"
#include "commands/export_folder.hpp"

namespace vixen {
namespace {

using Json = nlohmann::ordered_json;

// Names that every release of sentence-transformers resolves.
constexpr const char* kTransformer = "sentence_transformers.models.Transformer";
constexpr const char* kPooling = "sentence_transformers.models.Pooling";
constexpr const char* kNormalize = "sentence_transformers.models.Normalize";
constexpr const char* kModel = "the JSON object of a Hugging Face model";
constexpr const char* kLoader = "vixen_encoder.VixenEncoder";

// AutoTokenizer shall read tokenizer.json as it is. Folders without tokenizer_config.json get one; its padding token is
// the one of config.json's pad_token_id.
void write_tokenizer_config(const std::filesystem::path& folder, int64_t max_length) {
  const auto path = folder / "tokenizer_config.json";
  if (std::filesystem::exists(path)) return;
  const Json config = read_json_object(folder / "config.json", kModel),
             tokenizer = read_json_object(folder / "tokenizer.json", "a tokenizer");
  const int64_t pad = config.contains("pad_token_id") && config["pad_token_id"].is_number_integer()
                          ? config["pad_token_id"].get<int64_t>()
                          : 0;
  std::string token;
  const auto take = [&](const Json& id, const std::string& text) {
    if (id.is_number_integer() && id.get<int64_t>() == pad) token = text;
  };
  if (const auto& model = tokenizer.value("model", Json::object()); model.contains("vocab")) {
    if (model["vocab"].is_object())
      for (const auto& [text, id] : model["vocab"].items()) take(id, text);
  }
  for (const auto& added : tokenizer.value("added_tokens", Json::array()))
    if (added.contains("id") && added.contains("content")) take(added["id"], added["content"].get<std::string>());
  if (token.empty())
    fail_user("{}: no token has the id {} that config.json names for padding", (folder / "tokenizer.json").string(),
              pad);
  write_json(path,
             {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"model_max_length", max_length}, {"pad_token", token}});
}

}  // namespace

void write_sentence_transformers(const std::filesystem::path& folder, const ModelDescription& description) {
  const auto module = [](int place, const char* path, const char* type) {
    return Json{{"idx", place}, {"name", std::to_string(place)}, {"path", path}, {"type", type}};
  };
  write_json(folder / "config_sentence_transformers.json", {{"__version__", Json::object()},
                                                            {"prompts", Json::object()},
                                                            {"default_prompt_name", nullptr},
                                                            {"similarity_fn_name", "cosine"}});
  Json modules = Json::array();
  if (is_plain(description)) {
    write_tokenizer_config(folder, description.max_length);
    write_json(folder / "sentence_bert_config.json",
               {{"max_seq_length", description.max_length}, {"do_lower_case", false}});
    make_folder(folder / "1_Pooling");
    const Json config = read_json_object(folder / "config.json", kModel);
    const bool cls = description.model.pooling == Pooling::kCls;
    const char* width = config.contains("hidden_size") ? "hidden_size" : "dim";  // DistilBERT's word
    write_json(folder / "1_Pooling" / "config.json", {{"word_embedding_dimension", config.at(width)},
                                                      {"pooling_mode_cls_token", cls},
                                                      {"pooling_mode_mean_tokens", !cls},
                                                      {"pooling_mode_max_tokens", false},
                                                      {"pooling_mode_mean_sqrt_len_tokens", false}});
    make_folder(folder / "2_Normalize");
    modules = {module(0, "", kTransformer), module(1, "1_Pooling", kPooling), module(2, "2_Normalize", kNormalize)};
  } else {
    make_folder(folder / "1_Normalize");
    modules = {module(0, "", kLoader), module(1, "1_Normalize", kNormalize)};
  }
  // Last: with it the folder is a model of sentence-transformers.
  write_json(folder / "modules.json", modules);
}

}  // namespace vixen
