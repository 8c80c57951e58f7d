// Decoders that travel: folders and PEFT adapters that we write, loaded by transformers and PEFT, and theirs loaded
// here.
#include <algorithm>
#include <map>

#include "parity/golden.hpp"

namespace vixen {
namespace {

using testing::difference_in_python;
using testing::golden_batch;
using testing::golden_path;
using testing::load_encoder;
using testing::max_difference;
using testing::randomise_adapters;
using testing::ScratchFolder;
using testing::write_batch;

constexpr double kTolerance = 5e-6;
constexpr int64_t kImageWidth = 20;

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

class SavedDecoder : public ::testing::TestWithParam<const char*> {};

// Theirs -> ours -> theirs: the same tensors, the same embeddings.
TEST_P(SavedDecoder, PeftAdapterGoesRound) {
  const auto base = golden_path(GetParam()), theirs = base / "adapter";
  const ScratchFolder scratch("peft_round");
  const auto loaded = load_encoder(options_of(base, theirs));
  loaded->encoder->save(scratch.path());
  expect_same_adapter(scratch.path(), theirs);
  EXPECT_LE(difference_in_python(scratch.path(), embeddings_of(GetParam()), "adapter"), kTolerance);
}

// Ours -> theirs -> ours: a rank, scale and choice of modules that no golden has.
TEST_P(SavedDecoder, OwnAdapterGoesRound) {
  const SafetensorsFile golden(embeddings_of(GetParam()));
  const PackedBatch batch = golden_batch(golden);
  const ScratchFolder ours("own_round"), theirs("own_round_peft"), files("own_round_batch");
  auto options = options_of(golden_path(GetParam()));
  options.lora.rank = 5;
  options.lora.alpha = 10;
  options.lora.modules = "q,k,o,gate,down";
  const auto loaded = load_encoder(options);
  EXPECT_LE(max_difference(loaded->embed(batch), golden.tensor("float64")), kTolerance) << "B begins at zero";
  randomise_adapters(loaded->store, 0.1);
  const at::Tensor h = loaded->embed(batch);
  EXPECT_GT(max_difference(h, golden.tensor("float64")), 1e-2);
  write_batch(golden, h, files.path() / "batch.safetensors");
  loaded->encoder->save(ours.path());
  EXPECT_LE(difference_in_python(ours.path(), files.path() / "batch.safetensors", "ours",
                                 "--resave " + theirs.path().string()),
            kTolerance);

  expect_same_adapter(theirs.path(), ours.path());
  const auto again = load_encoder(options_of(golden_path(GetParam()), theirs.path()));
  ASSERT_EQ(again->store.count(), loaded->store.count());
  for (int i = 0; i < again->store.count(); ++i) {
    EXPECT_EQ(again->store.info(i).name, loaded->store.info(i).name);
    EXPECT_TRUE(again->store.value(i).equal(loaded->store.value(i))) << again->store.info(i).name;
  }
  EXPECT_TRUE(again->embed(batch).equal(h));
}

// The adapter merged into the weights: a folder for AutoModel, in one file and in shards.
TEST_P(SavedDecoder, MergedFolderLoadsInTransformers) {
  const auto base = golden_path(GetParam());
  const auto loaded = load_encoder(options_of(base, base / "adapter"));
  const SafetensorsFile golden(embeddings_of(GetParam()));
  for (const int64_t shard_bytes : {int64_t{1} << 30, int64_t{16} << 10}) {
    const ScratchFolder scratch("merged");
    loaded->encoder->save_merged(scratch.path(), at::kFloat, shard_bytes);
    EXPECT_EQ(std::filesystem::exists(scratch.path() / "model.safetensors.index.json"), shard_bytes < (1 << 20));
    EXPECT_LE(difference_in_python(scratch.path(), embeddings_of(GetParam()), "adapter"), kTolerance);
    EXPECT_LE(
        max_difference(load_encoder(options_of(scratch.path()))->embed(golden_batch(golden)), golden.tensor("adapter")),
        kTolerance);
  }
}

// A wholly trained backbone.
TEST_P(SavedDecoder, TrainedFolderLoadsInTransformers) {
  const ScratchFolder scratch("trained");
  const auto loaded = load_encoder(options_of(golden_path(GetParam())));
  loaded->encoder->save(scratch.path());
  EXPECT_LE(difference_in_python(scratch.path(), embeddings_of(GetParam())), kTolerance);
  const PackedBatch batch = golden_batch(SafetensorsFile(embeddings_of(GetParam())));
  EXPECT_TRUE(load_encoder(options_of(scratch.path()))->embed(batch).equal(loaded->embed(batch)));
}

INSTANTIATE_TEST_SUITE_P(Parity, SavedDecoder,
                         ::testing::Values("tiny_qwen2", "tiny_llama3", "tiny_qwen3", "tiny_mistral", "tiny_smollm"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace vixen
