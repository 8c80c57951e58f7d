// PEFT folders: round trips to identical tensors, settings read back, and every fault in one line.
#include "model/adapters/adapter_files.hpp"

#include <map>
#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/lora_encoder.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen {
namespace {

using testing::lora_options;
using testing::LoraEncoder;
using testing::tiny_batch;
using testing::tiny_model;
using Json = nlohmann::json;

constexpr int64_t kVocabulary = 89;

class AdapterFiles : public ::testing::Test {
 protected:
  Json config() const { return Json::parse(read_text(folder_ / "adapter_config.json")); }
  std::map<std::string, at::Tensor> tensors() const {
    std::map<std::string, at::Tensor> all;
    const SafetensorsFile file(folder_ / "adapter_model.safetensors");
    for (const auto& name : file.names()) all[name] = file.tensor(name).clone();
    return all;
  }
  void write(const std::map<std::string, at::Tensor>& all) const {
    write_safetensors(folder_ / "adapter_model.safetensors", all);
  }
  // The message of the UserError that reading a model with the folder ends in.
  std::string fault(int64_t layers = 0, const char* model = "tiny_bert") const {
    auto options = lora_options(tiny_model(model), 0);
    options.lora.adapter = folder_.string();
    options.model.layers = layers;
    return test::fault_of([&] { LoraEncoder encoder(options); });
  }

  const test::TempDir dir_;
  const std::filesystem::path folder_ = dir_.path() / "adapter";
};

TEST_F(AdapterFiles, RoundTrip) {
  for (const char* model : {"tiny_bert", "tiny_distilbert"})
    for (const char* modules : {"q,k,v,o,up,down", "q,v", "k,down"})
      for (const auto scale : {LoraScale::kRankStabilised, LoraScale::kClassic}) {
        auto options = lora_options(tiny_model(model), 3, modules);
        options.lora.scale = scale;
        LoraEncoder first(options);
        first.stir();
        std::filesystem::remove_all(folder_);
        first.encoder->files().save(folder_);
        EXPECT_TRUE(std::filesystem::exists(folder_ / "image_projection.safetensors"));
        EXPECT_FALSE(std::filesystem::exists(folder_ / "model.safetensors"));

        auto again = lora_options(tiny_model(model), 0, "o");  // what the folder says wins
        again.lora.adapter = folder_.string();
        const LoraConfig settled = with_adapter_settings(again.lora);
        EXPECT_EQ(settled.rank, 3);
        EXPECT_EQ(settled.alpha, 5);
        EXPECT_EQ(settled.scale, scale);
        EXPECT_EQ(settled.modules, modules);
        LoraEncoder second(again);
        ASSERT_EQ(second.store.count(), first.store.count());
        for (int i = 0; i < first.store.count(); ++i)
          EXPECT_TRUE(second.store.value(i).equal(first.store.value(i))) << first.store.info(i).name;
        const PackedBatch batch = tiny_batch({{1, 6, 1}, {2, 4, 0}}, kVocabulary);
        EXPECT_TRUE(second.embed(batch).equal(first.embed(batch)));
        again.trainable = false;
        LoraEncoder frozen(again);
        EXPECT_TRUE(frozen.embed(batch).equal(first.embed(batch)));
        const auto written = tensors();
        frozen.encoder->files().save(folder_);
        const auto rewritten = tensors();
        ASSERT_EQ(written.size(), rewritten.size());
        for (const auto& [name, value] : written) EXPECT_TRUE(rewritten.at(name).equal(value)) << name;
      }
}

TEST_F(AdapterFiles, NamesAndSettingsArePefts) {
  auto options = lora_options(tiny_model("tiny_bert"), 3, "q,down");
  LoraEncoder lora(options);
  lora.encoder->files().save(folder_);
  const auto all = tensors();
  EXPECT_EQ(all.size(), 2u * 2u * static_cast<size_t>(lora.encoder->n_layers()));
  EXPECT_EQ(all.at("base_model.model.encoder.layer.1.attention.self.query.lora_A.weight").sizes(),
            at::IntArrayRef({3, 30}));
  EXPECT_EQ(all.at("base_model.model.encoder.layer.0.output.dense.lora_B.weight").sizes(), at::IntArrayRef({30, 3}));
  const Json json = config();
  EXPECT_EQ(json["peft_type"], "LORA");
  EXPECT_EQ(json["task_type"], "FEATURE_EXTRACTION");
  EXPECT_EQ(json["r"], 3);
  EXPECT_TRUE(json["lora_alpha"].is_number_integer());
  EXPECT_EQ(json["use_rslora"], true);
  EXPECT_EQ(json["base_model_name_or_path"], tiny_model("tiny_bert").lexically_normal().string());
  // "output.dense" alone would be a word for attention.output.dense too.
  EXPECT_EQ(json["target_modules"], Json::parse(R"(["encoder.layer.0.output.dense", "encoder.layer.1.output.dense",)"
                                                R"( "encoder.layer.2.output.dense", "query"])"));
  options.lora.modules = "o,down";
  LoraEncoder both(options);
  both.encoder->files().save(folder_);
  EXPECT_EQ(config()["target_modules"], Json::parse(R"(["attention.output.dense", "output.dense"])"));
}

// Adapters of models with a head have its name in front of the backbone's; target_modules may be a pattern.
TEST_F(AdapterFiles, AdaptersOfOthers) {
  LoraEncoder first(lora_options(tiny_model("tiny_bert"), 3, "q,v"));
  first.stir();
  first.encoder->files().save(folder_);
  std::map<std::string, at::Tensor> renamed;
  for (const auto& [name, value] : tensors())
    renamed[name.substr(0, 17) + "bert." + name.substr(17)] = value.to(at::kHalf);
  EXPECT_TRUE(renamed.contains("base_model.model.bert.encoder.layer.0.attention.self.value.lora_B.weight"));
  write(renamed);
  Json json = config();
  json["target_modules"] = R"(.*\.(query|value))";
  json["rank_pattern"] = {{"query", 3}};
  write_text_atomically(folder_ / "adapter_config.json", json.dump());
  EXPECT_EQ(fault(), "(no fault)");
  auto options = lora_options(tiny_model("tiny_bert"), 0);
  options.lora.adapter = folder_.string();
  LoraEncoder second(options);
  for (int i = 0; i < first.store.count(); ++i) {
    const at::Tensor expected = first.store.value(i), found = second.store.value(i);
    EXPECT_LE((found - expected).abs().max().item<double>(), 1e-3) << first.store.info(i).name;
  }
}

TEST_F(AdapterFiles, FaultsOfTheSettings) {
  LoraEncoder lora(lora_options(tiny_model("tiny_bert"), 3));
  lora.encoder->files().save(folder_);
  const Json good = config();
  const auto with = [&](const char* key, const Json& value) {
    Json json = good;
    json[key] = value;
    write_text_atomically(folder_ / "adapter_config.json", json.dump());
    std::string message = fault();
    EXPECT_FAULT(message, (folder_ / "adapter_config.json").string());
    return message;
  };
  EXPECT_FAULT(with("peft_type", "IA3"), "peft_type is \"IA3\", expected \"LORA\"");
  EXPECT_FAULT(with("bias", "all"), "bias is \"all\", expected \"none\"");
  EXPECT_FAULT(with("use_dora", true), "use_dora is true");
  EXPECT_FAULT(with("fan_in_fan_out", true), "fan_in_fan_out is true");
  EXPECT_FAULT(with("modules_to_save", {"classifier"}), "modules_to_save");
  EXPECT_FAULT(with("r", 0), "r is 0, expected a positive integer");
  EXPECT_FAULT(with("r", 1000000000), "lora_A.weight has shape [3, 30], expected [1000000000, 30] by the r of ");
  EXPECT_FAULT(with("r", 3.0), "r is 3.0, expected a positive integer");
  EXPECT_FAULT(with("lora_alpha", 1e300), "lora_alpha is 1e+300, expected a number");
  EXPECT_FAULT(with("lora_alpha", "8"), "lora_alpha is \"8\", expected a number");
  EXPECT_FAULT(with("lora_dropout", 1.5), "lora_dropout is 1.5, expected a number in [0, 1)");
  EXPECT_FAULT(with("use_rslora", "true"), "use_rslora is \"true\", expected true or false");
  EXPECT_FAULT(with("rank_pattern", 3), "rank_pattern is 3, expected an object");
  EXPECT_FAULT(with("init_lora_weights", "pissa_niter_4"), "init_lora_weights is \"pissa_niter_4\"");
  EXPECT_FAULT(with("rank_pattern", {{"query", 8}}), "rank_pattern.query is 8, expected the r of 3 for every module");
  EXPECT_FAULT(with("alpha_pattern", {{"key", 1}}), "alpha_pattern.key is 1, expected the lora_alpha of 5");
  EXPECT_FAULT(with("r", 0), "r is 0, expected a positive integer");
  EXPECT_FAULT(with("lora_alpha", "much"), "lora_alpha is \"much\", expected a number");

  write_text_atomically(folder_ / "adapter_config.json", "{");
  EXPECT_FAULT(fault(), "adapter_config.json");
  std::filesystem::remove(folder_ / "adapter_config.json");
  EXPECT_FAULT(fault(), "adapter_config.json");
}

TEST_F(AdapterFiles, FaultsOfTheTensors) {
  LoraEncoder lora(lora_options(tiny_model("tiny_bert"), 3));
  lora.encoder->files().save(folder_);
  const std::string file = (folder_ / "adapter_model.safetensors").string();
  const auto good = tensors();
  const std::string query = "base_model.model.encoder.layer.1.attention.self.query.lora_B.weight";
  EXPECT_EQ(fault(), "(no fault)");

  auto changed = good;
  changed.erase(query);
  write(changed);
  EXPECT_FAULT(fault(), file + ": tensor " + query + " is missing");
  changed[query] = at::zeros({30, 4});
  write(changed);
  EXPECT_FAULT(fault(), "tensor " + query + " has shape [30, 4], expected [30, 3]: an adapter of another rank");
  changed[query] = at::zeros({30, 3}, at::kInt);
  write(changed);
  EXPECT_FAULT(fault(), "has dtype Int");
  changed = good;
  changed["base_model.model.pooler.extra"] = at::zeros({2});
  write(changed);
  EXPECT_FAULT(fault(), "tensor base_model.model.pooler.extra belongs to no module of this model (1 such)");
  changed = good;
  changed["base_model.model.pooler.dense.lora_A.weight"] = at::zeros({3, 30});
  write(changed);
  EXPECT_FAULT(fault(), "pooler.dense.lora_A.weight adapts a module that we do not know");
  write(good);
  EXPECT_FAULT(fault(/*layers=*/2), "belongs to no module of this model (12 such)");
  EXPECT_FAULT(fault(0, "tiny_distilbert"), "is missing");
  write({});
  EXPECT_FAULT(fault(), "no tensor ends in .lora_A.weight");
  std::filesystem::remove(file);
  EXPECT_FAULT(fault(), file + ": missing");
}

}  // namespace
}  // namespace vixen
