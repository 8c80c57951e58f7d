// The files that make an exported folder a model: description, loader, sentence-transformers' own.
#include "commands/export_folder.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/file.hpp"
#include "commands/vixen_encoder_text.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

using nlohmann::json;

class ExportFolderTest : public ::testing::Test {
 protected:
  json read(const char* name) const { return json::parse(read_text(folder_ / name)); }
  void write(const char* name, const json& content) const { std::ofstream(folder_ / name) << content; }

  const test::TempDir dir_;
  const std::filesystem::path& folder_ = dir_.path();
};

ModelDescription decoder() {
  ModelDescription d;
  d.decoder = true;
  d.layers = 6;
  d.image_width = 1152;
  d.max_length = 32;
  d.pack.image_slots = 3;
  d.pack.prompt = {.images_first = false, .text_prefix = {7, 8}, .image_prefix = {9}, .closing = {0}};
  d.pack.prompt.bos = 1;
  d.pack.prompt.text_slots = 32;
  return d;
}

ModelDescription text_encoder() {
  ModelDescription d;
  d.layers = 3;
  d.max_length = 16;
  return d;
}

TEST_F(ExportFolderTest, TheLoaderIsTheToolOfTheSourceTree) {
  EXPECT_EQ(kVixenEncoderPython, read_text(std::filesystem::path(VIXEN_SOURCE_DIR) / "tools/vixen_encoder.py"));
  write_loader(folder_, decoder());
  EXPECT_EQ(read_text(folder_ / "vixen_encoder.py"), kVixenEncoderPython);
}

TEST_F(ExportFolderTest, TheDescriptionSaysWhatTheWeightsDoNot) {
  ModelDescription d = decoder();
  d.prompt.closing = "\xff";  // no UTF-8: the tokens decide
  write_loader(folder_, d);
  json config = read("vixen_config.json");
  EXPECT_EQ(config["template"]["text_prefix"]["tokens"], json({7, 8}));
  EXPECT_EQ(config["template"]["text_prefix"]["text"], "This product text");
  EXPECT_EQ(config["template"]["closing"]["tokens"], json({0}));
  EXPECT_EQ(config["template"]["images_first"], false);
  EXPECT_EQ(config["bos_token"], 1);
  EXPECT_EQ(config["mask"], "causal");
  EXPECT_EQ(config["pooling"], "mean");
  EXPECT_EQ(config["max_length"], 32);
  EXPECT_EQ(config["layers"], 6);
  EXPECT_EQ(config["images"], json({{"width", 1152}, {"adapter", "linear"}, {"slots", 3}}));
  EXPECT_TRUE(config["fusion"].is_null());

  d.model.fusion = Fusion::kLate;
  d.model.fusion_heads = 4;
  d.model.mask = Mask::kBidirectional;
  d.model.pooling = Pooling::kLastToken;
  d.image_width = 0;
  d.pack.prompt.image_prefix.clear();
  write_loader(folder_, d);
  config = read("vixen_config.json");
  EXPECT_EQ(config["fusion"], json({{"heads", 4}}));
  EXPECT_EQ(config["mask"], "bidirectional");
  EXPECT_EQ(config["pooling"], "last");
  EXPECT_TRUE(config["images"].is_null());
  EXPECT_EQ(config["template"]["image_prefix"], json({{"text", ""}, {"tokens", json::array()}}));
}

TEST_F(ExportFolderTest, PlainIsAnEncoderOnTextAlone) {
  EXPECT_TRUE(is_plain(text_encoder()));
  EXPECT_FALSE(is_plain(decoder()));
  const auto with = [](const auto& change) {
    ModelDescription d = text_encoder();
    change(d);
    return is_plain(d);
  };
  EXPECT_FALSE(with([](auto& d) { d.decoder = true; }));
  EXPECT_FALSE(with([](auto& d) { d.image_width = 20; }));
  EXPECT_FALSE(with([](auto& d) { d.pack.prompt.closing = {3}; }));
  EXPECT_FALSE(with([](auto& d) { d.model.pooling = Pooling::kLastToken; }));
  EXPECT_FALSE(with([](auto& d) { d.model.fusion = Fusion::kLate; }));
  EXPECT_FALSE(with([](auto& d) { d.model.mask = Mask::kCausal; }));
  EXPECT_FALSE(with([](auto& d) { d.pack.padded_positions = true; }));
}

TEST_F(ExportFolderTest, PlainModules) {
  write("config.json", {{"model_type", "distilbert"}, {"dim", 24}, {"pad_token_id", 2}});
  write("tokenizer.json", {{"model", {{"vocab", {{"a", 0}, {"[PAD]", 2}}}}}, {"added_tokens", json::array()}});
  write_sentence_transformers(folder_, text_encoder());
  const json modules = read("modules.json");
  ASSERT_EQ(modules.size(), 3U);
  EXPECT_EQ(modules[0]["type"], "sentence_transformers.models.Transformer");
  EXPECT_EQ(modules[1]["path"], "1_Pooling");
  EXPECT_EQ(modules[2]["type"], "sentence_transformers.models.Normalize");
  EXPECT_EQ(read("1_Pooling/config.json")["word_embedding_dimension"], 24);
  EXPECT_EQ(read("1_Pooling/config.json")["pooling_mode_mean_tokens"], true);
  EXPECT_EQ(read("1_Pooling/config.json")["pooling_mode_cls_token"], false);
  EXPECT_EQ(read("sentence_bert_config.json")["max_seq_length"], 16);
  EXPECT_EQ(read("tokenizer_config.json")["pad_token"], "[PAD]");
  EXPECT_EQ(read("tokenizer_config.json")["model_max_length"], 16);

  ModelDescription cls = text_encoder();
  cls.model.pooling = Pooling::kCls;
  EXPECT_TRUE(is_plain(cls));
  write_sentence_transformers(folder_, cls);
  EXPECT_EQ(read("1_Pooling/config.json")["pooling_mode_cls_token"], true);
  EXPECT_EQ(read("1_Pooling/config.json")["pooling_mode_mean_tokens"], false);
  write_loader(folder_, cls);
  EXPECT_EQ(read("vixen_config.json")["pooling"], "cls");

  write("tokenizer_config.json", {{"kept", true}});
  write_sentence_transformers(folder_, text_encoder());
  EXPECT_EQ(read("tokenizer_config.json"), json({{"kept", true}})) << "a folder's own is left alone";

  std::filesystem::remove(folder_ / "tokenizer_config.json");
  write("config.json", {{"model_type", "bert"}, {"hidden_size", 24}, {"pad_token_id", 5}});
  EXPECT_THROW(write_sentence_transformers(folder_, text_encoder()), UserError) << "no token has that id";
}

TEST_F(ExportFolderTest, OwnModule) {
  write_sentence_transformers(folder_, decoder());
  const json modules = read("modules.json");
  ASSERT_EQ(modules.size(), 2U);
  EXPECT_EQ(modules[0]["type"], "vixen_encoder.VixenEncoder");
  EXPECT_EQ(modules[0]["path"], "");
  EXPECT_EQ(modules[1]["type"], "sentence_transformers.models.Normalize");
  EXPECT_EQ(read("config_sentence_transformers.json")["similarity_fn_name"], "cosine");
}

TEST_F(ExportFolderTest, ReadmeShowsHowToLoad) {
  const auto readme = [&](ExportFormat format, const ModelDescription& d) {
    write_readme(folder_, format, d);
    return read_text(folder_ / "README.md");
  };
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  EXPECT_TRUE(has(readme(ExportFormat::kPeft, decoder()), "PeftModel.from_pretrained"));
  EXPECT_TRUE(has(readme(ExportFormat::kMerged, decoder()), "images=[array_of_rows]"));
  EXPECT_TRUE(has(readme(ExportFormat::kSentenceTransformers, decoder()), "trust_remote_code=True"));
  EXPECT_FALSE(has(readme(ExportFormat::kSentenceTransformers, text_encoder()), "trust_remote_code"));
  EXPECT_FALSE(has(readme(ExportFormat::kMerged, text_encoder()), "pictures"));
}

}  // namespace
}  // namespace vixen
