// Late fusion: what the text encoder sees, the block against torch's formula, gradients, packing, bf16, files, faults.
#include "model/late_fusion_encoder.hpp"

#include <cmath>

#include "base/check.hpp"
#include "fixtures/tiny_model.hpp"
#include "kernels/pooling.hpp"
#include "model/safetensors.hpp"

namespace vixen {
namespace {

using testing::kTinyImageWidth;
using testing::ModelFolder;
using testing::tiny_batch;
using testing::tiny_model;

constexpr int64_t kVocabulary = 89;

struct Loaded {
  EncoderOptions options;
  ParameterStore store;
  std::unique_ptr<Encoder> encoder;

  struct Choice {
    Fusion fusion = Fusion::kLate;
    double dropout = 0;
    bool trainable = true;
    at::ScalarType compute = at::kFloat;
    int64_t image_width = kTinyImageWidth;
    ImageAdapterKind adapter = ImageAdapterKind::kLinear;
    int64_t heads = 3;
  };
  explicit Loaded(const std::filesystem::path& folder, const Choice& choice) {
    options.model.path = folder.string();
    options.model.dropout = choice.dropout;
    options.model.fusion = choice.fusion;
    options.model.fusion_heads = choice.heads;
    options.model.image_adapter = choice.adapter;
    options.image_width = choice.image_width;
    options.trainable = choice.trainable;
    encoder = make_encoder(options, store);
    store.allocate(at::kCPU, choice.compute);
    encoder->load_weights(5);
  }
  at::Tensor embed(const PackedBatch& batch, const PassContext& context = {}) {
    return encoder->forward(batch, context, nullptr);
  }
  at::Tensor value(const std::string& name) { return store.value(store.find(name)); }
};

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

std::string fault(const std::function<void()>& call) {
  try {
    call();
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "(no fault)";
}
#define EXPECT_FAULT(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

const std::vector<testing::TinySequence> kAll = {{1, 5, 0}, {2, 1, 2}, {3, 17, 1}, {4, 9, 0}, {5, 5, 3}};

// The bags, one by one, through torch.nn.TransformerEncoderLayer's formula.
TEST(LateFusion, IsTheBlockOverTextAndPictures) {
  const auto folder = tiny_model("tiny_bert");
  Loaded late(folder, {}), text(folder, {.fusion = Fusion::kEarly, .image_width = 0});
  const PackedBatch batch = tiny_batch(kAll, kVocabulary);
  const at::Tensor found = late.embed(batch);

  std::vector<testing::TinySequence> texts = kAll;
  for (auto& s : texts) s.n_images = 0;
  std::vector<at::Tensor> pooled;
  {
    // tiny_batch's tokens depend on their place behind the pictures: take the real ones.
    PackedBatch bare = batch;
    bare.tokens = batch.tokens.index_select(0, batch.text_positions);
    std::vector<int32_t> ends = {0};
    std::vector<at::Tensor> places;
    for (const auto& s : kAll) {
      ends.push_back(ends.back() + static_cast<int32_t>(s.n_tokens));
      places.push_back(at::arange(s.n_tokens, at::kLong));
    }
    bare.position_ids = at::cat(places);
    bare.cu_seqlens = at::tensor(ends, at::kInt);
    bare.image_embeddings = at::Tensor();
    bare.image_positions = at::empty({0}, at::kLong);
    bare.text_positions = at::arange(bare.tokens.size(0), at::kLong);
    bare.max_seqlen = 17;
    pooled = text.embed(bare).unbind(0);
  }
  const auto linear = [&](const at::Tensor& x, const std::string& weight, const std::string& bias) {
    return at::linear(x, late.value("fusion." + weight), late.value("fusion." + bias));
  };
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    return at::layer_norm(x, {x.size(-1)}, late.value("fusion." + name + ".weight"),
                          late.value("fusion." + name + ".bias"), 1e-5);
  };
  const int64_t d = late.encoder->width(), heads = 3;
  int64_t first_image = 0;
  for (size_t i = 0; i < kAll.size(); ++i) {
    at::Tensor x = pooled[i].unsqueeze(0);
    if (kAll[i].n_images > 0) {
      const at::Tensor images = batch.image_embeddings.narrow(0, first_image, kAll[i].n_images);
      first_image += kAll[i].n_images;
      x = at::cat({x, at::linear(images, late.value("image_projection.weight"), late.value("image_projection.bias"))});
    }
    const auto qkv = linear(x, "self_attn.in_proj_weight", "self_attn.in_proj_bias").chunk(3, -1);
    const auto split = [&](const at::Tensor& rows) { return rows.view({-1, heads, d / heads}).transpose(0, 1); };
    const at::Tensor scores =
        at::softmax(at::matmul(split(qkv[0]), split(qkv[1]).transpose(1, 2)) / std::sqrt(double(d / heads)), -1);
    const at::Tensor context = at::matmul(scores, split(qkv[2])).transpose(0, 1).reshape({-1, d});
    const at::Tensor a = norm(x + linear(context, "self_attn.out_proj.weight", "self_attn.out_proj.bias"), "norm1");
    const at::Tensor y = norm(
        a + linear(at::gelu(linear(a, "linear1.weight", "linear1.bias")), "linear2.weight", "linear2.bias"), "norm2");
    EXPECT_LE(difference(found[static_cast<int64_t>(i)], y[0]), 5e-6) << i;
  }
  EXPECT_EQ(late.store.info(late.store.find("fusion.linear1.weight")).shape, std::vector<int64_t>({d, d}));
}

TEST(LateFusion, NeighboursDoNotMatter) {
  Loaded late(tiny_model("tiny_bert"), {.dropout = -1});
  for (const bool training : {false, true}) {
    const PassContext context{.training = training, .seed = 3, .step = 8};
    const at::Tensor h = late.embed(tiny_batch(kAll, kVocabulary), context);
    for (size_t i = 0; i < kAll.size(); ++i)
      EXPECT_LE(difference(late.embed(tiny_batch({kAll[i]}, kVocabulary), context)[0], h[static_cast<int64_t>(i)]),
                3e-6)
          << i;
    const at::Tensor reversed = late.embed(tiny_batch({kAll.rbegin(), kAll.rend()}, kVocabulary), context);
    EXPECT_LE(difference(reversed.flip(0), h), 3e-6);
  }
}

TEST(LateFusion, PicturesCount) {
  Loaded late(tiny_model("tiny_bert"), {});
  const PackedBatch with = tiny_batch({{1, 5, 0}, {3, 17, 2}}, kVocabulary);
  PackedBatch other = with;
  other.image_embeddings = with.image_embeddings.clone();
  other.image_embeddings[1].mul_(-1);
  const at::Tensor h = late.embed(with), moved = late.embed(other);
  EXPECT_TRUE(h[0].equal(moved[0]));
  EXPECT_GT(difference(h[1], moved[1]), 1e-2);
}

void check_gradients(ImageAdapterKind adapter) {
  const ModelFolder folder("tiny_bert");
  std::filesystem::remove(folder.path() / "image_projection.safetensors");  // a linear one's
  Loaded late(folder.path(), {.dropout = -1, .adapter = adapter});
  const PackedBatch batch = tiny_batch({{1, 6, 1}, {2, 4, 0}, {3, 1, 2}, {4, 8, 0}}, kVocabulary);
  const PassContext context{.training = true, .seed = 3, .step = 8};
  const at::Tensor direction =
      at::sin(at::arange(4 * late.encoder->width(), at::kFloat) * 0.9).view({4, late.encoder->width()});
  std::unique_ptr<Encoder::Saved> saved;
  const at::Tensor h = late.encoder->forward(batch, context, &saved);
  EXPECT_TRUE(h.equal(late.embed(batch, context))) << "keeping activations must not change the output";
  std::vector<int> ready(static_cast<size_t>(late.store.count()));
  late.encoder->backward(direction, batch, context, *saved, [&](int first, int last) {
    for (int i = first; i < last; ++i) ++ready[static_cast<size_t>(i)];
  });
  for (int i = 0; i < late.store.count(); ++i) {
    EXPECT_EQ(ready[static_cast<size_t>(i)], 1) << late.store.info(i).name << " announced";
    const auto [gradient, differences] = testing::derivative(late.store, i, 4e-3, [&] {
      return (late.embed(batch, context).to(at::kDouble) * direction).sum().item<double>();
    });
    EXPECT_NEAR(gradient / differences, 1, 5e-3) << late.store.info(i).name;
  }
}

TEST(LateFusion, GradientsByFiniteDifferences) {
  check_gradients(ImageAdapterKind::kLinear);
}

TEST(LateFusion, GradientsOfTheMlpByFiniteDifferences) {
  check_gradients(ImageAdapterKind::kMlp);
}

TEST(LateFusion, ChunksAddUp) {
  Loaded late(tiny_model("tiny_bert"), {.dropout = -1});
  const PassContext context{.training = true, .seed = 3, .step = 8};
  const int64_t n = static_cast<int64_t>(kAll.size()), d = late.encoder->width();
  const at::Tensor grad = at::cos(at::arange(n * d, at::kFloat)).view({n, d});
  const auto run = [&](const std::vector<testing::TinySequence>& part, const at::Tensor& grad_h) {
    const PackedBatch batch = tiny_batch(part, kVocabulary);
    std::unique_ptr<Encoder::Saved> saved;
    late.encoder->forward(batch, context, &saved);
    late.encoder->backward(grad_h, batch, context, *saved, {});
  };
  run(kAll, grad);
  const at::Tensor whole = late.store.flat_grads().clone();
  late.store.zero_grads();
  run({kAll.begin(), kAll.begin() + 2}, grad.narrow(0, 0, 2));
  run({kAll.begin() + 2, kAll.end()}, grad.narrow(0, 2, n - 2));
  EXPECT_LE(difference(late.store.flat_grads(), whole) / whole.abs().max().item<double>(), 1e-5);
}

TEST(LateFusion, NoSequences) {
  Loaded late(tiny_model("tiny_bert"), {});
  const PackedBatch batch = tiny_batch({}, kVocabulary);
  std::unique_ptr<Encoder::Saved> saved;
  const at::Tensor h = late.encoder->forward(batch, {}, &saved);
  EXPECT_EQ(h.sizes(), at::IntArrayRef({0, late.encoder->width()}));
  int ready = 0;
  late.encoder->backward(h, batch, {}, *saved, [&](int first, int last) { ready += last - first; });
  EXPECT_EQ(ready, late.store.count());
  EXPECT_EQ(late.store.flat_grads().abs().max().item<float>(), 0);
}

// A model that was made for pictures answers texts alone, whether the adapter is there or not.
TEST(LateFusion, WithoutPicturesTheBagIsTheText) {
  const ModelFolder folder("tiny_bert");
  Loaded late(tiny_model("tiny_bert"), {});
  late.encoder->save(folder.path());
  Loaded bare(folder.path(), {.image_width = 0}), again(folder.path(), {});
  const PackedBatch batch = tiny_batch({{1, 6, 0}, {2, 4, 0}}, kVocabulary);
  const at::Tensor h = late.embed(batch);
  EXPECT_TRUE(again.embed(batch).equal(h));
  EXPECT_TRUE(bare.embed(batch).equal(h));
  EXPECT_LT(bare.store.count(), late.store.count());
  Loaded text(tiny_model("tiny_bert"), {.fusion = Fusion::kEarly, .image_width = 0});
  EXPECT_GT(difference(text.embed(batch), h), 1e-2) << "the block stands in the way of every text";
}

TEST(LateFusion, Bfloat16FollowsFloat32) {
  Loaded exact(tiny_model("tiny_bert"), {}), rounded(tiny_model("tiny_bert"), {.compute = at::kBFloat16});
  const PackedBatch batch = tiny_batch(kAll, kVocabulary);
  const at::Tensor grad = at::cos(at::arange(5 * exact.encoder->width(), at::kFloat)).view({5, exact.encoder->width()});
  const auto run = [&](Loaded& loaded) {
    std::unique_ptr<Encoder::Saved> saved;
    const at::Tensor h = loaded.encoder->forward(batch, {.training = true}, &saved);
    EXPECT_EQ(h.scalar_type(), at::kFloat);
    loaded.encoder->backward(grad, batch, {.training = true}, *saved, {});
    return std::pair(h, loaded.store.flat_grads().clone());
  };
  const auto [h, g] = run(exact);
  const auto [h16, g16] = run(rounded);
  EXPECT_FALSE(h.equal(h16));
  EXPECT_LE(((h - h16).norm() / h.norm()).item<double>(), 2e-2);
  const double cosine = (g * g16).sum().item<double>() / (g.norm() * g16.norm()).item<double>();
  EXPECT_GT(cosine, 0.999);
}

TEST(LateFusion, FilesAndFrozenWeights) {
  const ModelFolder folder("tiny_bert");
  Loaded late(tiny_model("tiny_bert"), {});
  for (const char* name : {"fusion.norm2.weight", "fusion.linear1.weight", "fusion.self_attn.in_proj_bias"})
    late.value(name).add_(0.25);
  late.encoder->save(folder.path());
  const PackedBatch batch = tiny_batch(kAll, kVocabulary);
  const at::Tensor expected = late.embed(batch);
  EXPECT_TRUE(Loaded(folder.path(), {}).embed(batch).equal(expected));

  Loaded frozen(folder.path(), {.trainable = false});
  EXPECT_TRUE(frozen.embed(batch).equal(expected));
  EXPECT_EQ(frozen.store.flat_values().numel(), 0) << "inference holds no flat buffers";
  Loaded half(folder.path(), {.trainable = false, .compute = at::kBFloat16});
  EXPECT_EQ(half.value("fusion.linear1.weight").scalar_type(), at::kBFloat16);
  EXPECT_EQ(half.value("fusion.norm1.weight").scalar_type(), at::kFloat);
  EXPECT_LE(((half.embed(batch) - expected).norm() / expected.norm()).item<double>(), 2e-2);

  // Without a file: the seed's values, the same for inference.
  Loaded fresh(tiny_model("tiny_bert"), {}), fresh_frozen(tiny_model("tiny_bert"), {.trainable = false});
  EXPECT_TRUE(fresh_frozen.embed(batch).equal(fresh.embed(batch)));

  {
    const ParameterGroup image = ParameterGroup::kImage, no_decay = ParameterGroup::kImageNoDecay;
    const auto group = [&](const char* name) { return late.store.info(late.store.find(name)).group; };
    EXPECT_EQ(group("fusion.linear2.weight"), image);
    EXPECT_EQ(group("fusion.linear2.bias"), no_decay);
    EXPECT_EQ(group("fusion.norm1.weight"), no_decay);
  }
}

TEST(LateFusion, Faults) {
  EXPECT_FAULT(fault([] { Loaded(tiny_model("tiny_bert"), {.heads = 4}); }),
               "model.fusion_heads: 4 found, expected a divisor of the backbone's width 30");
  const ModelFolder folder("tiny_bert");
  const auto path = folder.path() / "fusion.safetensors";
  write_safetensors(path, {{"fusion.norm1.weight", at::ones({30})}});
  EXPECT_FAULT(fault([&] { Loaded(folder.path(), {}); }), path.string());
  Loaded late(tiny_model("tiny_bert"), {});
  late.encoder->save(folder.path());
  std::map<std::string, at::Tensor> tensors;
  {
    const SafetensorsFile file(path);
    for (const auto& name : file.names()) tensors[name] = file.tensor(name).clone();
  }
  tensors["fusion.linear1.weight"] = at::ones({60, 30});
  write_safetensors(path, tensors);
  EXPECT_FAULT(fault([&] { Loaded(folder.path(), {}); }),
               "tensor fusion.linear1.weight is Float [60, 30], expected floats [30, 30]");
}

TEST(LateFusion, ActivationsAreCounted) {
  Loaded late(tiny_model("tiny_bert"), {}), text(tiny_model("tiny_bert"), {.fusion = Fusion::kEarly, .image_width = 0});
  const Encoder::BatchShape shape{.positions = 400, .sequences = 20, .images = 30, .sum_squared_lengths = 9000};
  const auto with = late.encoder->activation_bytes(shape);
  const auto without =
      text.encoder->activation_bytes({.positions = 370, .sequences = 20, .images = 0, .sum_squared_lengths = 9000});
  EXPECT_EQ(with.kept_a_layer, without.kept_a_layer) << "pictures are no positions of the backbone";
  const int64_t rows = 50, d = late.encoder->width();
  EXPECT_GE(with.ends - without.ends, rows * 10 * d * 4);
  EXPECT_LE(with.ends - without.ends, 2 * rows * 10 * d * 4);
}

}  // namespace
}  // namespace vixen
