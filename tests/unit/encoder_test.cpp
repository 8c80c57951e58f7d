// The encoder: packing invariance, picture slots, dropout, chunks, cut layers, and every fault of a model folder.
#include "model/encoder.hpp"

#include <cmath>
#include <map>

#include "fixtures/encoder_checks.hpp"
#include "fixtures/fault.hpp"
#include "model/bert/bert_variants.hpp"
#include "model/decoder/decoder_variants.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen {
namespace {

using namespace testing;
using test::fault_of;

constexpr int64_t kVocabulary = 89;  // of both tiny models at least

struct Loaded : LoadedEncoder {
  explicit Loaded(const std::filesystem::path& folder, int64_t layers = 0, double dropout = -1)
      : LoadedEncoder(options_of(folder, layers, dropout)) {}

 private:
  static EncoderOptions options_of(const std::filesystem::path& folder, int64_t layers, double dropout) {
    EncoderOptions options;
    options.model.path = folder.string();
    options.model.layers = layers;
    options.model.dropout = dropout;
    options.image_width = kTinyImageWidth;
    return options;
  }
};

// The message of the UserError that loading ends in.
std::string fault(const std::filesystem::path& folder, int64_t layers = 0) {
  return fault_of([&] { Loaded(folder, layers); });
}

class EncoderTest : public ::testing::TestWithParam<const char*> {};

TEST_P(EncoderTest, NeighboursDoNotMatter) {
  Loaded loaded(tiny_model(GetParam()));
  const PackedBatch batch =
      tiny_batch({{1, 5, 0}, {2, 1, 2}, {3, 17, 1}, {4, 9, 0}, {5, 5, 1}, {6, 3, 0}}, kVocabulary);
  for (const bool training : {false, true}) {
    const PassContext context{.training = training, .seed = 3, .step = 8};
    // Products of another height round otherwise.
    EXPECT_LE(packing_difference(loaded, batch, context), 1e-6 * largest(loaded.embed(batch, context)));
  }
}

TEST_P(EncoderTest, DropoutFollowsSeedStepAndKey) {
  Loaded loaded(tiny_model(GetParam()));
  const PackedBatch batch = tiny_batch({{1, 6, 1}, {2, 4, 0}}, kVocabulary);
  const PassContext context{.training = true, .seed = 3, .step = 8};
  const at::Tensor h = loaded.embed(batch, context);
  EXPECT_TRUE(h.equal(loaded.embed(batch, context)));
  EXPECT_GT(max_difference(h, loaded.embed(batch)), 1e-3);
  EXPECT_GT(max_difference(h, loaded.embed(batch, {.training = true, .seed = 4, .step = 8})), 1e-3);
  EXPECT_GT(max_difference(h, loaded.embed(batch, {.training = true, .seed = 3, .step = 9})), 1e-3);
  Loaded without(tiny_model(GetParam()), 0, /*dropout=*/0);
  EXPECT_TRUE(without.embed(batch, context).equal(loaded.embed(batch))) << "model.dropout = 0 switches all of it off";
}

TEST_P(EncoderTest, GradientsWithDropoutByFiniteDifferences) {
  Loaded loaded(tiny_model(GetParam()));
  const PackedBatch batch = tiny_batch({{1, 6, 1}, {2, 4, 0}, {3, 1, 2}, {4, 8, 0}}, kVocabulary);
  expect_encoder_gradients(loaded, batch, {.training = true, .seed = 3, .step = 8}, {.step = 4e-3, .relative = 5e-3});
}

TEST_P(EncoderTest, ChunksAddUp) {
  Loaded loaded(tiny_model(GetParam()));
  const PackedBatch batch = tiny_batch({{1, 6, 1}, {2, 4, 0}, {3, 1, 2}, {4, 8, 0}}, kVocabulary);
  EXPECT_LE(chunks_difference(loaded, batch, 3, {.training = true, .seed = 3, .step = 8}), 1e-5);
}

TEST_P(EncoderTest, NoSequences) {
  Loaded loaded(tiny_model(GetParam()));
  expect_nothing_of_no_sequences(loaded);
}

TEST_P(EncoderTest, CutLayersAreSavedAsAWholeModel) {
  Loaded cut(tiny_model(GetParam()), /*layers=*/1), all(tiny_model(GetParam()));
  EXPECT_LT(cut.store.count(), all.store.count());
  const PackedBatch batch = tiny_batch({{1, 6, 1}, {2, 4, 0}}, kVocabulary);
  EXPECT_GT(max_difference(cut.embed(batch), all.embed(batch)), 1e-2);
  const test::TempDir saved;
  cut.encoder->files().save(saved.path());
  EXPECT_TRUE(Loaded(saved.path()).embed(batch).equal(cut.embed(batch)));
  EXPECT_FAULT(fault(saved.path(), 2), "at most the 1 layers");
}

TEST_P(EncoderTest, FlopsOfTheProducts) {
  Loaded loaded(tiny_model(GetParam()), 1);
  const double d = static_cast<double>(loaded.encoder->width());
  const auto& weight = loaded.store.info(loaded.store.find(std::string(GetParam()) == "tiny_bert"
                                                               ? "encoder.layer.0.output.dense.weight"
                                                               : "transformer.layer.0.ffn.lin2.weight"));
  const double f = static_cast<double>(weight.shape[1]);
  EXPECT_DOUBLE_EQ(loaded.encoder->costs().forward_flops(10, 0), 10 * (8 * d * d + 4 * d * f));
  EXPECT_DOUBLE_EQ(loaded.encoder->costs().forward_flops(0, 7), 7 * 4 * d);
}

INSTANTIATE_TEST_SUITE_P(Unit, EncoderTest, ::testing::Values("tiny_bert", "tiny_distilbert"),
                         [](const auto& test) { return std::string(test.param); });

TEST(EncoderGroups, DecayAndOrder) {
  Loaded loaded(tiny_model("tiny_bert"));
  const auto group = [&](const char* name) { return loaded.store.info(loaded.store.find(name)).group; };
  EXPECT_EQ(group("embeddings.word_embeddings.weight"), ParameterGroup::kBackbone);
  EXPECT_EQ(group("embeddings.LayerNorm.weight"), ParameterGroup::kBackboneNoDecay);
  EXPECT_EQ(group("encoder.layer.0.attention.self.qkv.weight"), ParameterGroup::kBackbone);
  EXPECT_EQ(group("encoder.layer.0.attention.self.qkv.bias"), ParameterGroup::kBackboneNoDecay);
  EXPECT_EQ(group("encoder.layer.2.output.LayerNorm.bias"), ParameterGroup::kBackboneNoDecay);
  EXPECT_EQ(group("image_projection.weight"), ParameterGroup::kImage);
  EXPECT_EQ(group("image_projection.bias"), ParameterGroup::kImageNoDecay);
  EXPECT_EQ(loaded.store.info(loaded.store.count() - 1).name, "image_projection.bias");
}

// compat.padded_positions: the text of a row without picture begins behind its empty picture slot.
TEST(EncoderPositions, PaddedPositionsMoveTheText) {
  Loaded loaded(tiny_model("tiny_bert"));
  SequenceTable table;
  const std::vector<int64_t> token_offsets = {0, 4, 9}, image_offsets = {0, 0, 1}, rows = {0, 1};
  const std::vector<int32_t> tokens = {2, 7, 9, 3, 2, 30, 31, 32, 3}, images = {0};
  const std::vector<uint16_t> embedding(kTinyImageWidth, 0x3C00);  // halves of 1.0
  table.tokens = {token_offsets, tokens};
  table.images = {image_offsets, images};
  ImageStore store;
  store.n_rows = 1;
  store.width = kTinyImageWidth;
  store.rows = embedding.data();
  const PackPiece piece{.table = &table, .rows = rows, .first_key = 0};
  const auto pack = [&](bool padded) {
    return pack_batch(std::span(&piece, 1), store, {.images = true, .padded_positions = padded, .image_slots = 1});
  };
  const PackedBatch plain = pack(false), padded = pack(true);
  PackedBatch moved = plain;
  moved.position_ids = plain.position_ids.clone();
  moved.position_ids.narrow(0, 0, 4).add_(1);
  const at::Tensor h = loaded.embed(padded);
  EXPECT_TRUE(h.equal(loaded.embed(moved)));
  EXPECT_TRUE(h[1].equal(loaded.embed(plain)[1])) << "a row with its picture is the same either way";
  EXPECT_GT(max_difference(h[0], loaded.embed(plain)[0]), 1e-3);
}

TEST(EncoderImages, ProjectionIsInitialisedBySeedWhenThereIsNoFile) {
  const ModelFolder folder("tiny_bert");
  std::filesystem::remove(folder.path() / "image_projection.safetensors");
  Loaded loaded(folder.path());
  const auto weight = [&] { return loaded.value("image_projection.weight").clone(); };
  const double bound = 1 / std::sqrt(static_cast<double>(kTinyImageWidth));
  const at::Tensor first = weight();
  EXPECT_LE(first.abs().max().item<double>(), bound);
  EXPECT_GT(first.abs().max().item<double>(), 0.9 * bound);
  loaded.encoder->files().load(1);
  EXPECT_TRUE(weight().equal(first));
  loaded.encoder->files().load(2);
  EXPECT_FALSE(weight().equal(first));
}

// Names with a task head's prefix, TensorFlow's names of norms, halves, and tensors that nobody asked for.
// [CLS] stands behind the pictures.
TEST(EncoderPooling, ClsIsTheFirstToken) {
  const auto options_with = [](Pooling pooling) {
    EncoderOptions options;
    options.model.path = tiny_model("tiny_bert").string();
    options.model.dropout = 0;
    options.model.pooling = pooling;
    options.image_width = kTinyImageWidth;
    return options;
  };
  LoadedEncoder cls(options_with(Pooling::kCls)), mean(options_with(Pooling::kMean)),
      folder(options_with(Pooling::kAuto));
  const PackedBatch one = tiny_batch({{5, 1, 0}}, kVocabulary);  // of a single token both are its state
  EXPECT_TRUE(at::equal(cls.embed(one), mean.embed(one)));
  const PackedBatch batch = tiny_batch({{1, 6, 0}, {2, 5, 2}, {3, 4, 0}, {4, 1, 3}}, kVocabulary);
  EXPECT_TRUE(at::equal(folder.embed(batch), mean.embed(batch))) << "a folder that says nothing";
  const at::Tensor h = cls.embed(batch);
  EXPECT_GT((h - mean.embed(batch)).abs().max().item<double>(), 1e-2);
  EXPECT_LE(packing_difference(cls, batch), 1e-5);
  expect_encoder_gradients(cls, batch, {.training = true, .seed = 3, .step = 8}, {.step = 4e-3, .relative = 5e-3});
  EXPECT_LE(chunks_difference(cls, batch, 2, {.training = true, .seed = 3, .step = 8}), 1e-5);
  cls.store.zero_grads();
  expect_nothing_of_no_sequences(cls);
}

TEST(EncoderFolder, OtherNamesAndDtypes) {
  const ModelFolder folder("tiny_bert");
  const auto path = folder.path() / "model.safetensors";
  const PackedBatch batch = tiny_batch({{1, 6, 1}, {2, 4, 0}}, kVocabulary);
  const at::Tensor h = Loaded(folder.path()).embed(batch);
  for (const auto dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
    std::map<std::string, at::Tensor> renamed;
    {
      const SafetensorsFile original(tiny_model("tiny_bert") / "model.safetensors");
      for (std::string name : original.names()) {
        const at::Tensor tensor = original.tensor(name).to(dtype, false, /*copy=*/true);
        if (name.ends_with("LayerNorm.weight")) name.replace(name.size() - 6, 6, "gamma");
        if (name.ends_with("LayerNorm.bias")) name.replace(name.size() - 4, 4, "beta");
        renamed["bert." + name] = tensor;
      }
    }
    renamed["cls.predictions.bias"] = at::zeros({3});
    renamed["bert.pooler.dense.weight"] = at::zeros({3, 3});
    write_safetensors(path, renamed);
    EXPECT_LE(max_difference(Loaded(folder.path()).embed(batch), h), dtype == at::kFloat  ? 0
                                                                     : dtype == at::kHalf ? 0.01
                                                                                          : 0.08);
  }
}

TEST(EncoderFolder, FaultsOfTheConfig) {
  const auto with = [](const std::string& from, const std::string& to) {
    const ModelFolder folder("tiny_bert");
    folder.edit_config(from, to);
    std::string message = fault(folder.path());
    EXPECT_FAULT(message, (folder.path() / "config.json").string());
    return message;
  };
  EXPECT_FAULT(with("\"model_type\": \"bert\"", "\"model_type\": \"roberta\""),
               "'roberta', expected one of: " + types_of(kBertVariants) + ", " + types_of(kDecoderVariants));
  EXPECT_FAULT(with("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"gelu_new\""),
               "hidden_act is \"gelu_new\", expected \"gelu\"");
  EXPECT_FAULT(with("\"hidden_size\": 30", "\"hidden_size\": 31"), "multiple of num_attention_heads (3)");
  EXPECT_FAULT(with("\"hidden_size\": 30", "\"hidden_size\": -3"), "hidden_size is -3, expected a positive integer");
  EXPECT_FAULT(with("\"vocab_size\": 101", "\"vocab_size\": \"many\""), "vocab_size is \"many\"");
  EXPECT_FAULT(with("\"vocab_size\"", "\"vocab_sise\""), "key vocab_size is missing");
  EXPECT_FAULT(with("{", "["), "expected the JSON object of a Hugging Face model");
  EXPECT_FAULT(with("\"hidden_size\": 30", "\"hidden_size\": 30000000000"),
               "hidden_size is 30000000000, expected a size of a model, at most 2^28");
  EXPECT_FAULT(with("\"hidden_size\": 30", "\"hidden_size\": 18446744073709551615"), "expected a positive integer");
  EXPECT_FAULT(with("\"hidden_size\": 30", "\"hidden_size\": 200000001"), "its sizes come to");
  EXPECT_FAULT(with("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 100000"),
               "100000 layers, expected at most 10000");
  EXPECT_FAULT(with("\"hidden_size\": 30", "\"hidden_size\": 3e1"), "hidden_size is 30.0, expected a positive integer");
  EXPECT_FAULT(with("\"is_decoder\": false", "\"is_decoder\": true"),
               "is_decoder is true, a model that reads from left to right");
  EXPECT_FAULT(with("\"add_cross_attention\": false", "\"add_cross_attention\": true"),
               "add_cross_attention is true, expected a plain encoder");
  EXPECT_FAULT(with("{", "{\"pruned_heads\": {\"0\": [1]}, "), "pruned_heads is {\"0\":[1]}");
  EXPECT_FAULT(with("{", "{\"quantization_config\": {}, "), "quantization_config found");
  EXPECT_FAULT(with("{", "{\"auto_map\": {\"AutoModel\": \"x.Y\"}, "), "auto_map.AutoModel is \"x.Y\"");
  EXPECT_FAULT(with("\"layer_norm_eps\": 1e-07", "\"layer_norm_eps\": -1e-12"), "layer_norm_eps is -1e-12");
  EXPECT_FAULT(fault("/nowhere/at/all"), "/nowhere/at/all/config.json");
  EXPECT_FAULT(fault(tiny_model("tiny_bert"), 4), "model.layers: 4 found");
}

// Settings of decoders, and modules that an encoder does not have.
TEST(EncoderFolder, SettingsOfDecodersAreRefused) {
  const auto refused = [](const std::function<void(EncoderOptions&)>& change) {
    EncoderOptions options;
    options.model.path = tiny_model("tiny_bert").string();
    change(options);
    ParameterStore store;
    return fault_of([&] { make_encoder(options, store); });
  };
  EXPECT_FAULT(refused([](auto& o) { o.model.pooling = Pooling::kLastToken; }),
               "model.pooling: last found, expected mean or cls");
  EXPECT_FAULT(refused([](auto& o) { o.model.mask = Mask::kCausal; }), "model.mask: causal found");
  EXPECT_EQ(refused([](auto& o) { o.model.mask = Mask::kBidirectional; }), "(no fault)");
  const std::string modules = refused([](auto& o) {
    o.lora.rank = 2;
    o.lora.modules = "gate";
  });
  EXPECT_FAULT(modules, "lora.modules: gate found, expected some of q, k, v, o, up, down");
}

TEST(EncoderFolder, FaultsOfTheWeights) {
  const ModelFolder folder("tiny_bert");
  const auto path = folder.path() / "model.safetensors";
  folder.edit_config("\"vocab_size\": 101", "\"vocab_size\": 102");
  EXPECT_FAULT(fault(folder.path()),
               "tensor embeddings.word_embeddings.weight has shape [101, 30], expected [102, 30]");
  EXPECT_FAULT(fault(folder.path()), path.string());
  folder.edit_config("\"vocab_size\": 102", "\"vocab_size\": 101");
  folder.edit_config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4");
  EXPECT_FAULT(fault(folder.path()), "tensor encoder.layer.3.attention.self.query.weight is missing");
  folder.edit_config("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3");
  EXPECT_EQ(fault(folder.path()), "(no fault)");
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 100);
  EXPECT_FAULT(fault(folder.path()), path.string());
  std::filesystem::remove(path);
  EXPECT_FAULT(fault(folder.path()), path.string());
}

TEST(EncoderFolder, WrongSizesAreFoundBeforeTheyAreAllocated) {
  const ModelFolder folder("tiny_bert");
  folder.edit_config("\"intermediate_size\": 52", "\"intermediate_size\": 20000000");  // 7 GB in three layers
  EncoderOptions options;
  options.model.path = folder.path().string();
  ParameterStore store;
  const auto encoder = make_encoder(options, store);
  EXPECT_FAULT(fault_of([&] { encoder->files().check(); }),
               "has shape [52, 30], expected [20000000, 30] as config.json says");
}

TEST(EncoderFolder, AByteOrderMarkInTheConfig) {
  const ModelFolder folder("tiny_bert");
  folder.edit_config("{", "\xef\xbb\xbf{");
  EXPECT_EQ(fault(folder.path()), "(no fault)");
}

TEST(EncoderFolder, SequencesLongerThanItsPositions) {
  Loaded loaded(tiny_model("tiny_bert"));
  EXPECT_FAULT(fault_of([&] {
                 loaded.embed(tiny_batch({{1, 41, 0}}, kVocabulary));
               }),
               "max_position_embeddings is 40, expected at least the 41 positions");
}

TEST(EncoderFolder, TokenizerIdentity) {
  const ModelFolder folder("tiny_bert");
  EXPECT_THROW(tokenizer_sha256(folder.path()), UserError);
  std::ofstream(folder.path() / "tokenizer.json") << "abc";
  EXPECT_EQ(tokenizer_sha256(folder.path()), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace vixen
