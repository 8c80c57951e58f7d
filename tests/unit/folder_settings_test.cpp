// What model folders say about pooling and mask: read, overridden by the key, or refused in one line.
#include "model/folder_settings.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/tiny_model.hpp"

namespace vixen {
namespace {

using Json = nlohmann::ordered_json;
using test::fault_of;

Json module(int place, const std::string& path, const std::string& type) {
  return {{"idx", place},
          {"name", std::to_string(place)},
          {"path", path},
          {"type", "sentence_transformers.models." + type}};
}

class FolderSettings : public ::testing::Test {
 protected:
  std::filesystem::path path() const { return folder_.path(); }
  void write(const std::filesystem::path& name, const Json& json) const {
    make_folder((path() / name).parent_path());
    std::ofstream(path() / name) << json;
  }
  void write_modules(const Json& pooling) const {
    write("modules.json", Json::array({module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"),
                                       module(2, "2_Normalize", "Normalize")}));
    write("1_Pooling/config.json", pooling);
  }
  Pooling settled(Pooling asked = Pooling::kAuto) const {
    ModelConfig model;
    model.path = path().string();
    model.pooling = asked;
    return with_folder_settings(model, lora_).pooling;
  }
  std::string fault(Pooling asked = Pooling::kAuto) const {
    return fault_of([&] { settled(asked); });
  }

  testing::ModelFolder folder_{"tiny_bert"};
  LoraConfig lora_;
};

TEST_F(FolderSettings, ASilentFolderIsPooledByTheMean) {
  EXPECT_EQ(settled(), Pooling::kMean);
  EXPECT_EQ(settled(Pooling::kLastToken), Pooling::kLastToken);
}

TEST_F(FolderSettings, BothFormsOfAPoolingModule) {
  write_modules(
      {{"word_embedding_dimension", 30}, {"pooling_mode_cls_token", true}, {"pooling_mode_mean_tokens", false}});
  EXPECT_EQ(settled(), Pooling::kCls);
  EXPECT_EQ(settled(Pooling::kMean), Pooling::kMean) << "the key stands";
  const auto says = [&](const Json& pooling) {
    write_modules(pooling);
    return settled();
  };
  EXPECT_EQ(says({{"pooling_mode_cls_token", false}, {"pooling_mode_mean_tokens", true}, {"include_prompt", true}}),
            Pooling::kMean);
  EXPECT_EQ(says({{"pooling_mode_lasttoken", true}, {"pooling_mode_mean_tokens", false}}), Pooling::kLastToken);
  EXPECT_EQ(says({{"pooling_mode_mean_sqrt_len_tokens", true}}), Pooling::kMean) << "the same direction";
  EXPECT_EQ(says({{"word_embedding_dimension", 30}}), Pooling::kMean) << "sentence-transformers' default";
  EXPECT_EQ(says({{"embedding_dimension", 30}, {"pooling_mode", "cls"}}), Pooling::kCls);
  EXPECT_EQ(says({{"pooling_mode", Json::array({"lasttoken"})}, {"pooling_mode_cls_token", true}}),
            Pooling::kLastToken);
  std::ofstream(path() / "1_Pooling/config.json") << "\xef\xbb\xbf{\"pooling_mode\": \"cls\"}";
  EXPECT_EQ(settled(), Pooling::kCls) << "a byte order mark";
}

TEST_F(FolderSettings, ModulesInOtherPlaces) {
  const Json pooling = {{"path", "pool"},
                        {"type", "sentence_transformers.sentence_transformer.modules.pooling.Pooling"}};
  write("modules.json", Json::array({module(0, "", "BERT"), pooling}));
  write("pool/config.json", {{"pooling_mode", "cls"}});
  EXPECT_EQ(settled(), Pooling::kCls) << "other names of the classes and folders";

  // The first releases put the transformer into a folder of its own.
  std::filesystem::create_directory(path() / "0_BERT");
  std::filesystem::copy(path() / "config.json", path() / "0_BERT/config.json");
  ModelConfig inner;
  for (const char* name : {"0_BERT", "0_BERT/"}) {
    inner.path = (path() / name).string();
    EXPECT_EQ(with_folder_settings(inner, {}).pooling, Pooling::kCls) << name;
  }
  inner.path = (path() / "config.json").string();
  EXPECT_EQ(with_folder_settings(inner, {}).pooling, Pooling::kCls) << "the file itself, as `plan` takes it";
}

TEST_F(FolderSettings, WhatIsNotDoneIsRefusedUnlessTheKeySaysHow) {
  const auto refused = [&](const std::string& file) {
    std::string message = fault();
    EXPECT_FAULT(message, (path() / file).string() + ": ");
    EXPECT_EQ(fault(Pooling::kMean), "(no fault)") << message;
    EXPECT_EQ(settled(Pooling::kMean), Pooling::kMean);
    return message;
  };
  write_modules({{"pooling_mode_max_tokens", true}, {"pooling_mode_mean_tokens", false}});
  EXPECT_FAULT(refused("1_Pooling/config.json"),
               "the pooling is max, expected mean, cls or lasttoken: choose another model, "
               "or give --model.pooling mean");
  write_modules({{"pooling_mode", "weightedmean"}});
  EXPECT_FAULT(refused("1_Pooling/config.json"), "the pooling is weightedmean");
  write_modules({{"pooling_mode_cls_token", true}, {"pooling_mode_mean_tokens", true}});
  EXPECT_FAULT(refused("1_Pooling/config.json"), "2 poolings side by side");
  write_modules({{"pooling_mode", 3}});
  EXPECT_FAULT(refused("1_Pooling/config.json"), "pooling_mode is 3");
  write_modules({{"pooling_mode_cls_token", "yes"}});
  EXPECT_FAULT(refused("1_Pooling/config.json"), "pooling_mode_cls_token is \"yes\", expected true or false");
  std::filesystem::remove(path() / "1_Pooling/config.json");
  EXPECT_FAULT(fault(), "1_Pooling/config.json");

  write_modules({{"pooling_mode", "mean"}});
  Json modules = Json::parse(read_text(path() / "modules.json"));
  modules[2] = module(2, "2_Dense", "Dense");
  write("modules.json", modules);
  EXPECT_FAULT(refused("modules.json"),
               "module 2 is sentence_transformers.models.Dense, expected a transformer, a pooling and Normalize");
  write("modules.json", Json::array({module(0, "", "Asym")}));
  EXPECT_FAULT(refused("modules.json"), "module 0 is sentence_transformers.models.Asym");
  write("modules.json", Json::array({module(0, "", "Transformer")}));
  EXPECT_FAULT(refused("modules.json"), "no pooling module");
  write("modules.json", {{"a", 1}});
  EXPECT_FAULT(refused("modules.json"), "found a JSON object, expected a list of modules");
}

TEST_F(FolderSettings, PromptsAndLowerCase) {
  write_modules({{"pooling_mode", "cls"}});
  write("config_sentence_transformers.json", {{"prompts", {{"query", "query: "}}}, {"default_prompt_name", nullptr}});
  EXPECT_EQ(settled(), Pooling::kCls) << "prompts that nobody asks for";
  write("config_sentence_transformers.json", {{"prompts", {{"query", "query: "}}}, {"default_prompt_name", "query"}});
  EXPECT_FAULT(
      fault(),
      "config_sentence_transformers.json: default_prompt_name is query, which puts \"query: \" in front of every text");
  EXPECT_EQ(settled(Pooling::kCls), Pooling::kCls);
  write("config_sentence_transformers.json", {{"prompts", {{"query", ""}}}, {"default_prompt_name", "query"}});
  EXPECT_EQ(settled(), Pooling::kCls) << "an empty prompt";

  write("sentence_bert_config.json", {{"max_seq_length", 16}, {"do_lower_case", true}});
  EXPECT_FAULT(fault(), "sentence_bert_config.json: do_lower_case is true");
  write("tokenizer.json", {{"normalizer", {{"type", "BertNormalizer"}, {"lowercase", true}}}});
  EXPECT_EQ(settled(), Pooling::kCls) << "the tokenizer does so anyway";
  write("sentence_bert_config.json", {{"max_seq_length", 16}, {"do_lower_case", false}});
  EXPECT_EQ(settled(), Pooling::kCls);
}

TEST_F(FolderSettings, ExportsOfVixen) {
  const Json loader = {{"path", ""}, {"type", "vixen_encoder.VixenEncoder"}};
  write("modules.json", Json::array({loader, module(1, "1_Normalize", "Normalize")}));
  write("vixen_config.json", {{"pooling", "cls"}, {"mask", "bidirectional"}});
  EXPECT_EQ(settled(), Pooling::kCls);
  write("vixen_config.json", {{"pooling", "sum"}});
  EXPECT_FAULT(fault(), "vixen_config.json: pooling is \"sum\", expected mean, last or cls");
  std::filesystem::remove(path() / "modules.json");
  std::filesystem::remove(path() / "vixen_config.json");

  // An adapter's folder speaks before the base's.
  write_modules({{"pooling_mode", "mean"}});
  const test::TempDir adapter;
  lora_.adapter = adapter.path().string();
  EXPECT_EQ(settled(), Pooling::kMean);
  std::ofstream(adapter.path() / "vixen_config.json") << R"({"pooling": "cls"})";
  EXPECT_EQ(settled(), Pooling::kCls);
}

TEST(FolderMask, CausalOrNotAndCodeOfTheFolder) {
  const testing::ModelFolder folder("tiny_smollm");
  const auto add = [&](const std::string& key, const Json& value) {
    Json json = Json::parse(read_text(folder.path() / "config.json"));
    json[key] = value;
    std::ofstream(folder.path() / "config.json") << json;
  };
  ModelConfig model;
  model.path = folder.path().string();
  const auto mask = [&](Mask asked) {
    ModelConfig with = model;
    with.mask = asked;
    return with_folder_settings(with, {}).mask;
  };
  EXPECT_EQ(mask(Mask::kAuto), Mask::kAuto);
  add("is_causal", true);
  EXPECT_EQ(mask(Mask::kAuto), Mask::kAuto);
  add("is_causal", false);
  EXPECT_EQ(mask(Mask::kAuto), Mask::kBidirectional) << "as transformers reads it";
  EXPECT_EQ(mask(Mask::kCausal), Mask::kCausal) << "the key stands";
  add("auto_map", {{"AutoModel", "modeling_x.XModel"}});
  EXPECT_FAULT(
      fault_of([&] { mask(Mask::kAuto); }),
      "config.json: auto_map.AutoModel is \"modeling_x.XModel\", code of the folder that is not run here: give "
      "--model.mask causal or bidirectional to read its weights as those of a plain llama");
  EXPECT_EQ(mask(Mask::kBidirectional), Mask::kBidirectional);
  add("auto_map", {{"AutoModelForCausalLM", "modeling_x.XModel"}});
  EXPECT_EQ(mask(Mask::kAuto), Mask::kBidirectional);
}

}  // namespace
}  // namespace vixen
