// Decoders as encoders: packing, pooling, masks, adapters, recomputation, memory accounting, folders read and written.
#include "model/decoder/decoder_backbone.hpp"

#include <ATen/Parallel.h>

#include <cmath>

#include "device/tracked_memory.hpp"
#include "fixtures/encoder_checks.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/tiny_decoder.hpp"
#include "model/weights/weight_files.hpp"

namespace vixen {
namespace {

using namespace testing;
using test::fault_of;
using test::TempDir;
using test::TinyDecoderOptions;

constexpr int64_t kVocabulary = 97;

// Tensors this small gain nothing from threads, and on a busy machine every meeting of threads costs a time slice.
struct OneThread : ::testing::Environment {
  void SetUp() override { at::set_num_threads(1); }
};
const ::testing::Environment* const kOneThread = ::testing::AddGlobalTestEnvironment(new OneThread);

// The folder of a decoder, removed with the object.
struct DecoderFolder : TempDir {
  explicit DecoderFolder(const TinyDecoderOptions& options) { test::write_tiny_decoder(path(), options); }
};

EncoderOptions options_of(const TempDir& folder, int64_t rank = 0) {
  EncoderOptions options;
  options.model.path = folder.path().string();
  options.image_width = kTinyImageWidth;
  options.lora.rank = rank;
  options.lora.alpha = 6;
  return options;
}

struct Loaded : LoadedEncoder {
  explicit Loaded(const EncoderOptions& settings) : LoadedEncoder(settings) {}
  // Gives every B values, so that adapters do something.
  void fill_adapters() {
    for (int i = 0; i < store.count(); ++i) {
      if (store.info(i).name.find("lora_B") == std::string::npos) continue;
      const at::Tensor b = store.value(i);
      b.copy_(wave(b.sizes(), i, 0.37) * 0.05);
    }
    store.refresh_compute();
  }
};

at::Tensor direction_of(int64_t rows, int64_t width) {
  return wave({rows, width}, 0.2, 0.9);
}

// Gradients of sum(h * direction), which the store holds, of trained parameters (one in `every`).
int expect_gradients_of(Loaded& loaded, const PackedBatch& batch, const at::Tensor& direction, double step,
                        int every = 1) {
  // The bias of the keys shifts all scores of a query alike, but for the rotation: its slope may be tiny.
  return expect_gradients(
      loaded.store, {.step = step, .relative = 4e-3, .absolute = 2e-4},
      [&] { return weighed_sum(loaded.embed(batch), direction); }, every);
}

class DecoderEncoderTest : public ::testing::TestWithParam<TinyDecoderOptions> {};

const std::vector<TinySequence> kSequences = {{1, 5, 0}, {2, 1, 2}, {3, 17, 1}, {4, 9, 0}, {5, 5, 1}, {6, 3, 0}};

TEST_P(DecoderEncoderTest, NeighboursDoNotMatter) {
  const DecoderFolder folder(GetParam());
  Loaded loaded(options_of(folder));
  const PackedBatch batch = tiny_batch(kSequences, kVocabulary);
  EXPECT_LE(packing_difference(loaded, batch), 1e-6 * largest(loaded.embed(batch)));
}

TEST_P(DecoderEncoderTest, GradientsByCentralDifferences) {
  const DecoderFolder folder(GetParam());
  for (const bool last : {false, true}) {
    EncoderOptions options = options_of(folder);
    options.model.layers = 2;
    if (last) options.model.pooling = Pooling::kLastToken;
    Loaded loaded(options);
    const PackedBatch batch = tiny_batch({{1, 6, 1}, {2, 4, 0}, {3, 1, 2}, {4, 8, 0}}, kVocabulary);
    const at::Tensor direction = direction_of(4, loaded.encoder->width());
    loaded.backward(batch, direction);
    // The last token: what differs is behind the layers.
    EXPECT_GE(expect_gradients_of(loaded, batch, direction, 2e-3, /*every=*/last ? 5 : 1), 4);
  }
}

// dB = s dW A^T and dA = s B^T dW, dW being the gradient of the same weights trained whole; pictures and norms alike.
TEST_P(DecoderEncoderTest, AdapterGradientsAreProjectionsOfTheWeights) {
  const DecoderFolder folder(GetParam());
  const TempDir merged;
  constexpr int64_t kRank = 3;
  EncoderOptions options = options_of(folder, kRank);
  Loaded adapted(options);
  adapted.fill_adapters();
  adapted.encoder->files().save_merged(merged.path(), at::kFloat, 1'000'000'000);
  Loaded whole(options_of(merged));
  const PackedBatch batch = tiny_batch(kSequences, kVocabulary);
  const at::Tensor direction = direction_of(6, whole.encoder->width());
  const at::Tensor h = adapted.backward(batch, direction);
  EXPECT_LE(max_difference(whole.backward(batch, direction), h), 1e-6 * largest(h));

  const double scale = 6 / std::sqrt(static_cast<double>(kRank));
  const auto expect_projected = [&](const std::string& name, const std::vector<std::string>& modules,
                                    const std::vector<int64_t>& rows) {
    const at::Tensor grad_a = adapted.grad(name + ".lora_A.weight");
    const at::Tensor a = adapted.value(name + ".lora_A.weight");
    const at::Tensor grad_w = whole.grad(name + ".weight");
    int64_t row = 0;
    for (size_t i = 0; i < modules.size(); ++i) {
      const std::string b_name = modules[i] + ".lora_B.weight";
      const at::Tensor b = adapted.value(b_name);
      const at::Tensor rows_of_w = grad_w.narrow(0, row, rows[i]);
      const at::Tensor expected_b = scale * rows_of_w.mm(a.narrow(0, static_cast<int64_t>(i) * kRank, kRank).t());
      const at::Tensor expected_a = scale * b.t().mm(rows_of_w);
      EXPECT_LE(max_difference(adapted.grad(b_name), expected_b), 2e-5 * largest(expected_b)) << b_name;
      EXPECT_LE(max_difference(grad_a.narrow(0, static_cast<int64_t>(i) * kRank, kRank), expected_a),
                2e-5 * largest(expected_a))
          << modules[i];
      row += rows[i];
    }
  };
  const TinyDecoderOptions& o = GetParam();
  for (int64_t layer = 0; layer < o.layers; ++layer) {
    const std::string attention = fmt::format("layers.{}.self_attn.", layer),
                      mlp = fmt::format("layers.{}.mlp.", layer);
    const int64_t q = o.heads * o.head_dim, kv = o.kv_heads * o.head_dim;
    expect_projected(attention + "qkv_proj", {attention + "q_proj", attention + "k_proj", attention + "v_proj"},
                     {q, kv, kv});
    expect_projected(attention + "o_proj", {attention + "o_proj"}, {o.width});
    expect_projected(mlp + "gate_up_proj", {mlp + "gate_proj", mlp + "up_proj"}, {o.feed_forward, o.feed_forward});
    expect_projected(mlp + "down_proj", {mlp + "down_proj"}, {o.width});
  }
  const at::Tensor images = whole.grad("image_projection.weight");
  EXPECT_LE(max_difference(adapted.grad("image_projection.weight"), images), 2e-5 * largest(images));
}

TEST_P(DecoderEncoderTest, FreshAdaptersAreTheBase) {
  const DecoderFolder folder(GetParam());
  Loaded base(options_of(folder)), adapted(options_of(folder, 4));
  const PackedBatch batch = tiny_batch({{1, 5, 0}, {2, 12, 0}, {3, 1, 0}}, kVocabulary);
  const at::Tensor h = base.embed(batch), with = adapted.embed(batch);
  EXPECT_LE(max_difference(with, h), 1e-6 * largest(h));
  adapted.fill_adapters();
  EXPECT_GT(max_difference(adapted.embed(batch), h), 1e-3 * largest(h));
}

TEST_P(DecoderEncoderTest, RecomputesToTheBit) {
  const DecoderFolder folder(GetParam());
  const PackedBatch batch = tiny_batch(kSequences, kVocabulary);
  const PassContext context{.training = true, .seed = 3, .step = 8};
  for (const int64_t rank : {0, 3}) {
    for (const Compute compute : {Compute::kFloat32, Compute::kBfloat16}) {
      EncoderOptions options = options_of(folder, rank);
      options.model.compute = compute;
      options.lora.dropout = rank > 0 ? 0.2 : 0;
      Loaded loaded(options);
      loaded.fill_adapters();
      const at::Tensor direction = direction_of(6, loaded.encoder->width());
      const at::Tensor h = loaded.backward(batch, direction, context);
      const at::Tensor grads = loaded.store.flat_grads().clone();
      EXPECT_GT(largest(grads), 0);
      for (const int64_t layers : {1, 2, 3}) {
        loaded.encoder->set_recompute_layers(layers);
        EXPECT_TRUE(loaded.backward(batch, direction, context).equal(h));
        EXPECT_TRUE(loaded.store.flat_grads().equal(grads)) << layers;
      }
    }
  }
}

// Under the causal mask the state of a position is that of the last one of the sequence cut behind it.
TEST_P(DecoderEncoderTest, TheMeanIsOverLastPositionsOfPrefixes) {
  const DecoderFolder folder(GetParam());
  EncoderOptions options = options_of(folder);
  Loaded mean(options);
  options.model.pooling = Pooling::kLastToken;
  Loaded last(options);
  std::vector<TinySequence> prefixes;
  for (int64_t length = 1; length <= 9; ++length) prefixes.push_back({4, length, 0});
  const at::Tensor expected = last.embed(tiny_batch(prefixes, kVocabulary)).mean(0);
  EXPECT_LE(max_difference(mean.embed(tiny_batch({{4, 9, 0}}, kVocabulary))[0], expected), 2e-6 * largest(expected));

  options.model.pooling = Pooling::kMean;
  options.model.mask = Mask::kBidirectional;
  Loaded both(options);
  EXPECT_GT(max_difference(both.embed(tiny_batch({{4, 9, 0}}, kVocabulary))[0], expected), 1e-2 * largest(expected));
}

TEST_P(DecoderEncoderTest, Bfloat16FollowsFloat32) {
  TinyDecoderOptions rounded = GetParam();
  rounded.dtype = at::kBFloat16;
  const DecoderFolder folder(rounded);
  EncoderOptions options = options_of(folder, 3);
  Loaded exact(options);
  options.model.compute = Compute::kBfloat16;
  Loaded loaded(options);
  exact.fill_adapters();
  loaded.fill_adapters();
  // The base comes as it lies in the file: no second copy.
  EXPECT_EQ(loaded.value("embed_tokens.weight").scalar_type(), at::kBFloat16);
  const PackedBatch batch = tiny_batch(kSequences, kVocabulary);
  const at::Tensor direction = direction_of(6, loaded.encoder->width());
  const at::Tensor h = exact.backward(batch, direction), h_rounded = loaded.backward(batch, direction);
  EXPECT_EQ(h_rounded.scalar_type(), at::kFloat);
  EXPECT_LE(relative_norm(h_rounded, h), 2e-2);
  EXPECT_LE(relative_norm(loaded.store.flat_grads(), exact.store.flat_grads()), 4e-2);
}

TEST_P(DecoderEncoderTest, FoldersTravel) {
  const DecoderFolder folder(GetParam());
  const TempDir peft, whole, merged;
  const PackedBatch batch = tiny_batch(kSequences, kVocabulary);
  EncoderOptions options = options_of(folder, 3);
  options.model.layers = 2;
  at::Tensor h;
  {
    Loaded loaded(options);
    loaded.fill_adapters();
    h = loaded.embed(batch);
    loaded.encoder->files().save(peft.path());
    loaded.encoder->files().save_merged(merged.path(), at::kFloat, 20'000);  // several shards
  }
  for (const char* file :
       {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "image_projection.safetensors"})
    EXPECT_TRUE(std::filesystem::exists(peft.path() / file)) << file;
  EncoderOptions again = options_of(folder);
  again.model.layers = 2;
  again.lora.adapter = peft.path().string();
  again.trainable = false;
  Loaded inference(again);
  EXPECT_TRUE(inference.embed(batch).equal(h));
  EXPECT_EQ(inference.store.elements(), 0) << "nothing has buffers in inference";

  EXPECT_TRUE(std::filesystem::exists(merged.path() / "model.safetensors.index.json"));
  Loaded from_merged(options_of(merged));
  EXPECT_EQ(from_merged.encoder->n_layers(), 2) << "the folder holds the layers in use";
  EXPECT_LE(max_difference(from_merged.embed(batch), h), 1e-6 * largest(h));
  from_merged.encoder->files().save(whole.path());
  EXPECT_TRUE(Loaded(options_of(whole)).embed(batch).equal(from_merged.embed(batch)));
  EXPECT_TRUE(WeightFiles(whole.path()).contains("layers.1.self_attn.k_proj.weight"));
}

INSTANTIATE_TEST_SUITE_P(Architectures, DecoderEncoderTest,
                         ::testing::Values(TinyDecoderOptions{.model_type = "qwen2"},
                                           TinyDecoderOptions{.model_type = "qwen3", .head_dim = 16, .biases = true},
                                           TinyDecoderOptions{.model_type = "llama", .kv_heads = 4, .biases = true},
                                           TinyDecoderOptions{.model_type = "mistral", .kv_heads = 1, .prefix = ""}),
                         [](const auto& test) { return test.param.model_type; });

TEST(DecoderEncoder, AdaptersOfSomeModules) {
  const DecoderFolder folder{TinyDecoderOptions{}};
  EncoderOptions options = options_of(folder, 3);
  options.image_width = 0;
  options.lora.modules = "q,v,down";
  Loaded loaded(options);
  loaded.fill_adapters();
  std::vector<std::string> names;
  for (int i = 0; i < loaded.store.count(); ++i)
    if (loaded.store.trained(i) && loaded.store.info(i).name.starts_with("layers.0."))
      names.push_back(loaded.store.info(i).name.substr(9));
  EXPECT_EQ(names, (std::vector<std::string>{"self_attn.qkv_proj.lora_A.weight", "self_attn.q_proj.lora_B.weight",
                                             "self_attn.v_proj.lora_B.weight", "mlp.down_proj.lora_A.weight",
                                             "mlp.down_proj.lora_B.weight"}));
  const PackedBatch batch = tiny_batch({{1, 6, 0}, {2, 4, 0}}, kVocabulary);
  const at::Tensor direction = direction_of(2, loaded.encoder->width());
  loaded.backward(batch, direction);
  EXPECT_GT(expect_gradients_of(loaded, batch, direction, 5e-3), 0);
}

TEST(DecoderEncoder, SequencesLongerThanPositionsOrWindow) {
  TinyDecoderOptions tiny{.model_type = "mistral"};
  const DecoderFolder folder(tiny);
  const auto fault = [&](int64_t length) {
    Loaded loaded(options_of(folder));
    return fault_of([&] { loaded.embed(tiny_batch({{1, length, 0}}, kVocabulary)); });
  };
  EXPECT_EQ(fault(64), "(no fault)");
  EXPECT_FAULT(fault(65), "config.json: max_position_embeddings is 64, expected at least the 65 positions");
  auto json = test::tiny_decoder_config(tiny);
  json["sliding_window"] = 12;
  write_text_atomically(folder.path() / "config.json", json.dump());
  EXPECT_EQ(fault(12), "(no fault)");
  EXPECT_FAULT(fault(13), "config.json: sliding_window is 12, expected at least the 13 positions");
  EXPECT_EQ(Loaded(options_of(folder)).encoder->traits().max_positions, 12);
}

TEST(DecoderEncoder, CountsItsProducts) {
  const DecoderFolder folder{TinyDecoderOptions{.layers = 2}};
  EncoderOptions options = options_of(folder);
  options.image_width = 0;
  const Loaded whole(options);
  // A layer: q|k|v 32 x 64, o 32 x 32, gate|up 32 x 96, down 48 x 32; causal pairs of lengths 10 and 5: 55 + 15.
  const double weights = 2 * (32 * 64 + 32 * 32 + 32 * 96 + 48 * 32), attention = 2 * 4 * 32.0 * (55 + 15);
  EXPECT_DOUBLE_EQ(whole.encoder->costs().forward_flops(15, 125), 2 * 15 * weights + attention);
  EXPECT_DOUBLE_EQ(whole.encoder->costs().backward_flops(15, 125), 2 * 2 * 15 * weights + 2 * attention);
  options.lora.rank = 4;
  const Loaded adapted(options);
  const double adapters = 2 * 4 * ((3 * 32 + 64) + (32 + 32) + (2 * 32 + 96) + (48 + 32));
  EXPECT_DOUBLE_EQ(adapted.encoder->costs().forward_flops(15, 125), 2 * 15 * (weights + adapters) + attention);
  // No gradient of frozen weights, nor of the first layer's input.
  EXPECT_DOUBLE_EQ(adapted.encoder->costs().backward_flops(15, 125),
                   2 * 15 * (weights - 32 * 64 + 2 * adapters) + 2 * attention);
  options.model.mask = Mask::kBidirectional;
  EXPECT_DOUBLE_EQ(Loaded(options).encoder->costs().forward_flops(15, 125),
                   2 * 15 * (weights + adapters) + 2 * 4 * 32.0 * 125);
}

// What activation_bytes() says against the bytes that tensors took.
TEST(DecoderEncoder, ActivationBytesAreThoseTaken) {
  track_tensor_memory();
  std::vector<TinySequence> sequences(30);
  for (int64_t i = 0; i < std::ssize(sequences); ++i) sequences[static_cast<size_t>(i)] = {i, 20 + i, 0};
  const PackedBatch batch = tiny_batch(sequences, kVocabulary);
  BatchShape shape{.positions = batch.n_positions(), .sequences = batch.n_sequences()};
  const PassContext context{.training = true, .seed = 3, .step = 8};
  for (const char* type : {"llama", "qwen3"}) {
    const DecoderFolder folder{TinyDecoderOptions{
        .model_type = type, .width = 64, .layers = 4, .heads = 4, .head_dim = 16, .feed_forward = 160}};
    for (const auto& [rank, dropout] : {std::pair{0, 0.0}, {8, 0.0}, {8, 0.1}}) {
      for (const Compute compute : {Compute::kFloat32, Compute::kBfloat16}) {
        SCOPED_TRACE(fmt::format("{}, rank {}, dropout {}, {}", type, rank, dropout,
                                 compute == Compute::kFloat32 ? "fp32" : "bf16"));
        EncoderOptions options = options_of(folder, rank);
        options.image_width = 0;
        options.model.compute = compute;
        options.lora.dropout = dropout;
        Loaded loaded(options);
        const at::Tensor direction = direction_of(batch.n_sequences(), loaded.encoder->width());
        loaded.backward(batch, direction, context);  // what a first pass allocates for good
        const auto bytes = loaded.encoder->costs().activation_bytes(shape);
        const auto expect_near = [](int64_t found, int64_t expected) {
          EXPECT_NEAR(static_cast<double>(found) / static_cast<double>(expected), 1, 0.03)
              << found << " found, " << expected << " expected";
        };
        const int64_t before = tensor_bytes();
        std::unique_ptr<Encoder::Saved> saved;
        at::Tensor h = loaded.encoder->forward(batch, context, &saved);
        const int64_t kept = 4 * bytes.kept_a_layer + bytes.ends;
        expect_near(tensor_bytes() - before, kept);
        reset_peak_tensor_bytes();
        loaded.encoder->backward(direction, batch, context, *saved, {});
        expect_near(peak_tensor_bytes() - before, kept + bytes.transient_backward);

        saved.reset();
        loaded.encoder->set_recompute_layers(3);
        h = loaded.encoder->forward(batch, context, &saved);
        expect_near(tensor_bytes() - before, bytes.kept_a_layer + 3 * bytes.recomputed_a_layer + bytes.ends);
        saved.reset();
        h.reset();
        if (dropout > 0) continue;  // an evaluation pass has none
        reset_peak_tensor_bytes();
        h = loaded.embed(batch);
        expect_near(peak_tensor_bytes() - before, bytes.transient_forward);
      }
    }
  }
}

TEST(DecoderEncoder, FaultsOfTheWeights) {
  const auto fault = [](const TempDir& folder, int64_t rank) {
    return fault_of([&] { Loaded loaded(options_of(folder, rank)); });
  };
  TinyDecoderOptions tiny{.model_type = "llama"};
  const DecoderFolder folder(tiny);
  const auto with = [&](const char* key, int64_t value) {
    auto json = test::tiny_decoder_config(tiny);
    json[key] = value;
    write_text_atomically(folder.path() / "config.json", json.dump());
  };
  for (const int64_t rank : {0, 3}) {
    with("num_hidden_layers", 4);
    EXPECT_FAULT(fault(folder, rank), "tensor layers.3.input_layernorm.weight is missing");
    with("num_key_value_heads", 4);
    EXPECT_FAULT(fault(folder, rank), "k_proj.weight has shape");
    with("vocab_size", 98);
    EXPECT_FAULT(fault(folder, rank), "embed_tokens.weight has shape");
  }
}

}  // namespace
}  // namespace vixen
