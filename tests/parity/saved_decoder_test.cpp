// Decoders that travel: folders and PEFT adapters that we write, loaded by transformers and PEFT, and theirs loaded
// here.
#include <algorithm>
#include <map>

#include "parity/golden_decoder.hpp"

namespace vixen {
namespace {

using namespace testing;

constexpr const char* kModels[] = {"tiny_qwen2", "tiny_llama3", "tiny_qwen3", "tiny_mistral", "tiny_smollm"};

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
class SavedDecoder : public GoldenEmbeddings {
 protected:
  static void SetUpTestSuite() {
    scratch_ = std::make_unique<test::TempDir>();
    std::vector<SavedModel> models;
    std::vector<std::string> keys;
    const auto add = [&](const std::string& name, const char* what, const SavedModel& model) {
      models.push_back(model);
      keys.push_back(name + what);
    };
    for (const char* name : kModels) {
      const auto base = golden_path(name), embeddings = golden_embeddings(name);
      const auto adapted = load_encoder(golden_options(base, base / "adapter"));
      adapted->encoder->files().save(saved(name, "peft"));
      add(name, "peft", {saved(name, "peft"), embeddings, "adapter", {}});
      adapted->encoder->files().save_merged(saved(name, "merged"), at::kFloat, int64_t{1} << 30);
      add(name, "merged", {saved(name, "merged"), embeddings, "adapter", {}});
      adapted->encoder->files().save_merged(saved(name, "sharded"), at::kFloat, int64_t{16} << 10);
      add(name, "sharded", {saved(name, "sharded"), embeddings, "adapter", {}});
      load_encoder(golden_options(base))->encoder->files().save(saved(name, "trained"));
      add(name, "trained", {saved(name, "trained"), embeddings, "float64", {}});

      const SafetensorsFile golden(embeddings);
      const auto own = own_adapter(name);
      const auto batch = scratch_->path() / (std::string(name) + "_own.safetensors");
      write_batch(golden, own->embed(golden_batch(golden)), batch);
      own->encoder->files().save(saved(name, "own"));
      add(name, "own", {saved(name, "own"), batch, "ours", saved(name, "resaved")});
    }
    const auto differences = differences_in_python(models);
    for (size_t i = 0; i < keys.size(); ++i) differences_[keys[i]] = differences[i];
  }
  static void TearDownTestSuite() { scratch_.reset(); }

  static std::filesystem::path saved(const std::string& name, const char* what) {
    return scratch_->path() / name / what;
  }
  // A rank, scale and choice of modules that no golden has; the same values each time.
  static std::unique_ptr<LoadedEncoder> own_adapter(const char* name) {
    auto options = golden_options(golden_path(name));
    options.lora.rank = 5;
    options.lora.alpha = 10;
    options.lora.modules = "q,k,o,gate,down";
    auto loaded = load_encoder(options);
    randomise_adapters(loaded->store, 0.1);
    return loaded;
  }
  std::filesystem::path saved(const char* what) const { return saved(GetParam(), what); }
  double python_difference(const char* what) const { return differences_.at(std::string(GetParam()) + what); }

 private:
  static inline std::unique_ptr<test::TempDir> scratch_;
  static inline std::map<std::string, double> differences_;  // Python's, by model and folder
};

// Theirs -> ours -> theirs: the same tensors, the same embeddings.
TEST_P(SavedDecoder, PeftAdapterGoesRound) {
  expect_same_adapter(saved("peft"), folder() / "adapter");
  EXPECT_LE(python_difference("peft"), kTolerance);
}

// Ours -> theirs -> ours.
TEST_P(SavedDecoder, OwnAdapterGoesRound) {
  EXPECT_LE(python_difference("own"), kTolerance);
  expect_same_adapter(saved("resaved"), saved("own"));
  const auto own = own_adapter(GetParam());
  const auto again = load_encoder(golden_options(folder(), saved("resaved")));
  ASSERT_EQ(again->store.count(), own->store.count());
  for (int i = 0; i < again->store.count(); ++i) {
    EXPECT_EQ(again->store.info(i).name, own->store.info(i).name);
    EXPECT_TRUE(again->store.value(i).equal(own->store.value(i))) << again->store.info(i).name;
  }
  const at::Tensor h = own->embed(batch());
  EXPECT_TRUE(again->embed(batch()).equal(h));
  EXPECT_GT(max_difference(h, golden_.tensor("float64")), 1e-2) << "the adapter does something";
}

// A new adapter changes nothing, for B is zero.
TEST_P(SavedDecoder, NewAdapterIsSilent) {
  auto settings = options();
  settings.lora.rank = 3;
  EXPECT_LE(difference(settings, "float64"), kTolerance);
}

// The adapter merged into the weights: a folder for AutoModel, in one file and in shards.
TEST_P(SavedDecoder, MergedFolderLoadsInTransformers) {
  for (const char* what : {"merged", "sharded"}) {
    EXPECT_EQ(std::filesystem::exists(saved(what) / "model.safetensors.index.json"), what == std::string("sharded"));
    EXPECT_LE(python_difference(what), kTolerance) << what;
    EXPECT_LE(difference(golden_options(saved(what)), "adapter"), kTolerance) << what;
  }
}

// A wholly trained backbone.
TEST_P(SavedDecoder, TrainedFolderLoadsInTransformers) {
  EXPECT_LE(python_difference("trained"), kTolerance);
  EXPECT_TRUE(embed(golden_options(saved("trained"))).equal(embed(options())));
}

INSTANTIATE_TEST_SUITE_P(Parity, SavedDecoder, ::testing::ValuesIn(kModels),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace vixen
