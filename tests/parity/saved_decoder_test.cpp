// Decoders that travel: folders and PEFT adapters that we write, loaded by transformers and PEFT, and theirs loaded
// here.
#include <algorithm>
#include <map>

#include "parity/golden.hpp"

namespace vixen {
namespace {

using testing::golden_batch;
using testing::golden_path;
using testing::load_encoder;
using testing::max_difference;
using testing::randomise_adapters;
using testing::SavedModel;
using testing::ScratchFolder;
using testing::write_batch;

constexpr double kTolerance = 5e-6;
constexpr int64_t kImageWidth = 20;
constexpr const char* kModels[] = {"tiny_qwen2", "tiny_llama3", "tiny_qwen3", "tiny_mistral", "tiny_smollm"};

EncoderOptions options_of(const std::filesystem::path& folder, const std::filesystem::path& adapter = {}) {
  EncoderOptions options;
  options.model.path = folder.string();
  options.lora.adapter = adapter.string();
  options.image_width = kImageWidth;
  return options;
}

std::filesystem::path embeddings_of(const std::string& name) {
  return golden_path(name + "_embeddings.safetensors");
}

// The tensors of an adapter by module: PEFT writes one "model." more for adapters of a model with its head.
std::map<std::string, at::Tensor> adapter_tensors(const std::filesystem::path& folder) {
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  std::map<std::string, at::Tensor> tensors;
  for (const auto& name : file.names()) tensors[name.substr(name.find("layers."))] = file.tensor(name).clone();
  return tensors;
}

void expect_same_adapter(const std::filesystem::path& ours, const std::filesystem::path& theirs) {
  const auto a = adapter_tensors(ours), b = adapter_tensors(theirs);
  EXPECT_EQ(a.size(), b.size());
  for (const auto& [name, value] : a) {
    ASSERT_TRUE(b.contains(name)) << name;
    EXPECT_TRUE(value.equal(b.at(name))) << name;
  }
}

// Everything is written first, so that one Python checks it all.
class SavedDecoder : public ::testing::TestWithParam<const char*> {
 protected:
  static void SetUpTestSuite() {
    scratch_ = std::make_unique<ScratchFolder>("saved_decoders");
    std::vector<SavedModel> models;
    std::vector<std::string> keys;
    const auto add = [&](const std::string& name, const char* what, const SavedModel& model) {
      models.push_back(model);
      keys.push_back(name + what);
    };
    for (const char* name : kModels) {
      const auto base = golden_path(name), embeddings = embeddings_of(name);
      const auto adapted = load_encoder(options_of(base, base / "adapter"));
      adapted->encoder->save(folder(name, "peft"));
      add(name, "peft", {folder(name, "peft"), embeddings, "adapter", {}});
      adapted->encoder->save_merged(folder(name, "merged"), at::kFloat, int64_t{1} << 30);
      add(name, "merged", {folder(name, "merged"), embeddings, "adapter", {}});
      adapted->encoder->save_merged(folder(name, "sharded"), at::kFloat, int64_t{16} << 10);
      add(name, "sharded", {folder(name, "sharded"), embeddings, "adapter", {}});
      load_encoder(options_of(base))->encoder->save(folder(name, "trained"));
      add(name, "trained", {folder(name, "trained"), embeddings, "float64", {}});

      const SafetensorsFile golden(embeddings);
      const auto own = own_adapter(name);
      const auto batch = scratch_->path() / (std::string(name) + "_own.safetensors");
      write_batch(golden, own->embed(golden_batch(golden)), batch);
      own->encoder->save(folder(name, "own"));
      add(name, "own", {folder(name, "own"), batch, "ours", folder(name, "resaved")});
    }
    const auto differences = testing::differences_in_python(models);
    for (size_t i = 0; i < keys.size(); ++i) differences_[keys[i]] = differences[i];
  }
  static void TearDownTestSuite() { scratch_.reset(); }

  static std::filesystem::path folder(const std::string& name, const char* what) {
    return scratch_->path() / name / what;
  }
  // A rank, scale and choice of modules that no golden has; the same values each time.
  static std::unique_ptr<testing::LoadedEncoder> own_adapter(const char* name) {
    auto options = options_of(golden_path(name));
    options.lora.rank = 5;
    options.lora.alpha = 10;
    options.lora.modules = "q,k,o,gate,down";
    auto loaded = load_encoder(options);
    randomise_adapters(loaded->store, 0.1);
    return loaded;
  }
  std::filesystem::path folder(const char* what) const { return folder(GetParam(), what); }
  double difference(const char* what) const { return differences_.at(std::string(GetParam()) + what); }

 private:
  static inline std::unique_ptr<ScratchFolder> scratch_;
  static inline std::map<std::string, double> differences_;  // Python's, by model and folder
};

// Theirs -> ours -> theirs: the same tensors, the same embeddings.
TEST_P(SavedDecoder, PeftAdapterGoesRound) {
  expect_same_adapter(folder("peft"), golden_path(GetParam()) / "adapter");
  EXPECT_LE(difference("peft"), kTolerance);
}

// Ours -> theirs -> ours.
TEST_P(SavedDecoder, OwnAdapterGoesRound) {
  EXPECT_LE(difference("own"), kTolerance);
  expect_same_adapter(folder("resaved"), folder("own"));
  const SafetensorsFile golden(embeddings_of(GetParam()));
  const PackedBatch batch = golden_batch(golden);
  const auto own = own_adapter(GetParam());
  const auto again = load_encoder(options_of(golden_path(GetParam()), folder("resaved")));
  ASSERT_EQ(again->store.count(), own->store.count());
  for (int i = 0; i < again->store.count(); ++i) {
    EXPECT_EQ(again->store.info(i).name, own->store.info(i).name);
    EXPECT_TRUE(again->store.value(i).equal(own->store.value(i))) << again->store.info(i).name;
  }
  EXPECT_TRUE(again->embed(batch).equal(own->embed(batch)));
  EXPECT_GT(max_difference(own->embed(batch), golden.tensor("float64")), 1e-2) << "the adapter does something";
}

// A new adapter changes nothing, for B is zero.
TEST_P(SavedDecoder, NewAdapterIsSilent) {
  auto options = options_of(golden_path(GetParam()));
  options.lora.rank = 3;
  const SafetensorsFile golden(embeddings_of(GetParam()));
  EXPECT_LE(max_difference(load_encoder(options)->embed(golden_batch(golden)), golden.tensor("float64")), kTolerance);
}

// The adapter merged into the weights: a folder for AutoModel, in one file and in shards.
TEST_P(SavedDecoder, MergedFolderLoadsInTransformers) {
  const SafetensorsFile golden(embeddings_of(GetParam()));
  for (const char* what : {"merged", "sharded"}) {
    EXPECT_EQ(std::filesystem::exists(folder(what) / "model.safetensors.index.json"), what == std::string("sharded"));
    EXPECT_LE(difference(what), kTolerance) << what;
    const auto loaded = load_encoder(options_of(folder(what)));
    EXPECT_LE(max_difference(loaded->embed(golden_batch(golden)), golden.tensor("adapter")), kTolerance) << what;
  }
}

// A wholly trained backbone.
TEST_P(SavedDecoder, TrainedFolderLoadsInTransformers) {
  EXPECT_LE(difference("trained"), kTolerance);
  const PackedBatch batch = golden_batch(SafetensorsFile(embeddings_of(GetParam())));
  const at::Tensor expected = load_encoder(options_of(golden_path(GetParam())))->embed(batch);
  EXPECT_TRUE(load_encoder(options_of(folder("trained")))->embed(batch).equal(expected));
}

INSTANTIATE_TEST_SUITE_P(Parity, SavedDecoder, ::testing::ValuesIn(kModels),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace vixen
