// The image adapter, linear and mlp: values, gradients, no pictures, bf16, frozen, files and their faults.
#include "model/fusion/image_adapter.hpp"

#include <cmath>
#include <map>

#include "fixtures/distances.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/gradient_check.hpp"
#include "fixtures/tiny_model.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen {
namespace {

using test::fault_of;
using testing::relative_norm;
using testing::wave;
using testing::weighed_sum;

constexpr int64_t kImageWidth = 21, kWidth = 12, kHidden = 17;

ModelConfig config_of(ImageAdapterKind kind) {
  ModelConfig config;
  config.image_adapter = kind;
  config.image_adapter_width = kHidden;
  return config;
}

struct Adapter {
  ParameterStore store;
  ImageAdapter adapter;

  explicit Adapter(ImageAdapterKind kind, at::ScalarType compute = at::kFloat, bool trainable = true)
      : adapter(config_of(kind), kImageWidth, kWidth, trainable, store) {
    store.allocate(at::kCPU, compute);
  }
  at::Tensor value(const std::string& name) { return store.value(store.find("image_projection." + name)); }
};

class ImageAdapterTest : public ::testing::TestWithParam<ImageAdapterKind> {
 protected:
  bool mlp() const { return GetParam() == ImageAdapterKind::kMlp; }

  const test::TempDir dir_;
  const std::filesystem::path& folder_ = dir_.path();
};

TEST_P(ImageAdapterTest, NamesShapesAndGroups) {
  Adapter a(GetParam());
  const std::map<std::string, std::vector<int64_t>> expected =
      mlp() ? std::map<std::string, std::vector<int64_t>>{{"image_projection.0.weight", {kHidden, kImageWidth}},
                                                          {"image_projection.0.bias", {kHidden}},
                                                          {"image_projection.2.weight", {kWidth, kHidden}},
                                                          {"image_projection.2.bias", {kWidth}}}
            : std::map<std::string, std::vector<int64_t>>{{"image_projection.weight", {kWidth, kImageWidth}},
                                                          {"image_projection.bias", {kWidth}}};
  EXPECT_EQ(a.adapter.parameters().first, 0);
  EXPECT_EQ(a.adapter.parameters().last, static_cast<int>(expected.size()));
  ASSERT_EQ(a.store.count(), static_cast<int>(expected.size()));
  for (int i = 0; i < a.store.count(); ++i) {
    const auto& info = a.store.info(i);
    EXPECT_EQ(info.shape, expected.at(info.name)) << info.name;
    EXPECT_EQ(info.group, info.name.ends_with("bias") ? ParameterGroup::kImageNoDecay : ParameterGroup::kImage);
  }
  ModelConfig config = config_of(GetParam());
  config.image_adapter_width = 0;
  ParameterStore store;
  const ImageAdapter adapter(config, kImageWidth, kWidth, true, store);
  EXPECT_EQ(store.info(0).shape[0], kWidth) << "0 hidden units of the mlp: the backbone's width";
}

TEST_P(ImageAdapterTest, ValuesAreTorchs) {
  Adapter a(GetParam());
  testing::fill_parameters(a.store);
  const at::Tensor images = wave({9, kImageWidth}, 0.2);
  const at::Tensor expected = mlp() ? at::linear(at::gelu(at::linear(images, a.value("0.weight"), a.value("0.bias"))),
                                                 a.value("2.weight"), a.value("2.bias"))
                                    : at::linear(images, a.value("weight"), a.value("bias"));
  const at::Tensor found = a.adapter.forward(images, nullptr);
  EXPECT_EQ(found.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::allclose(found, expected, 1e-5, 1e-6));
  EXPECT_GT(expected.std().item<double>(), 0.1);
  ImageAdapter::Saved saved;
  EXPECT_TRUE(a.adapter.forward(images, &saved).equal(found)) << "keeping activations must not change the output";
}

TEST_P(ImageAdapterTest, GradientsByFiniteDifferences) {
  Adapter a(GetParam());
  testing::fill_parameters(a.store);
  const at::Tensor images = wave({9, kImageWidth}, 0.2), direction = wave({9, kWidth}, 1.4);
  ImageAdapter::Saved saved;
  a.adapter.forward(images, &saved);
  a.adapter.backward(direction, images, saved);
  const int checked = testing::expect_gradients(a.store, {.step = 5e-3, .relative = 2e-3}, [&] {
    return weighed_sum(a.adapter.forward(images, nullptr), direction);
  });
  EXPECT_EQ(checked, a.store.count());
  const at::Tensor once = a.store.flat_grads().clone();
  a.adapter.backward(direction, images, saved);
  EXPECT_TRUE(at::allclose(a.store.flat_grads(), 2 * once, 1e-5, 1e-6)) << "gradients add";
}

TEST_P(ImageAdapterTest, NoPictures) {
  Adapter a(GetParam());
  testing::fill_parameters(a.store);
  for (const at::Tensor& images : {at::Tensor(), at::empty({0, kImageWidth})}) {
    ImageAdapter::Saved saved;
    const at::Tensor rows = a.adapter.forward(images, &saved);
    EXPECT_EQ(rows.sizes(), at::IntArrayRef({0, kWidth}));
    EXPECT_EQ(rows.scalar_type(), at::kFloat);
    a.adapter.backward(rows, images, saved);
  }
  EXPECT_EQ(a.store.flat_grads().abs().max().item<float>(), 0);
}

TEST_P(ImageAdapterTest, Bfloat16FollowsFloat32) {
  Adapter exact(GetParam()), rounded(GetParam(), at::kBFloat16);
  const at::Tensor images = wave({30, kImageWidth}, 0.2), direction = wave({30, kWidth}, 1.4);
  const auto run = [&](Adapter& a) {
    testing::fill_parameters(a.store);
    ImageAdapter::Saved saved;
    const at::Tensor y = a.adapter.forward(images, &saved);
    EXPECT_EQ(y.scalar_type(), at::kFloat);
    a.adapter.backward(direction, images, saved);
    return std::pair(y, a.store.flat_grads().clone());
  };
  const auto [y, grad] = run(exact);
  const auto [y16, grad16] = run(rounded);
  EXPECT_FALSE(y.equal(y16));
  EXPECT_LE(relative_norm(y16, y), 2e-2);
  EXPECT_LE(relative_norm(grad16, grad), 2e-2);
}

TEST_P(ImageAdapterTest, FilesAndFrozenWeights) {
  Adapter a(GetParam());
  testing::fill_parameters(a.store);
  a.adapter.save(folder_);
  const at::Tensor images = wave({5, kImageWidth}, 0.7);
  const at::Tensor expected = a.adapter.forward(images, nullptr);

  Adapter again(GetParam());
  again.adapter.load({folder_ / "absent", folder_}, 3);
  EXPECT_TRUE(again.store.flat_values().equal(a.store.flat_values()));

  Adapter frozen(GetParam(), at::kFloat, /*trainable=*/false);
  frozen.adapter.load({folder_}, 3);
  EXPECT_EQ(frozen.store.flat_values().numel(), 0) << "frozen: nothing in the flat buffers";
  EXPECT_EQ(frozen.store.info(0).group, ParameterGroup::kFrozen);
  ImageAdapter::Saved saved;
  EXPECT_TRUE(frozen.adapter.forward(images, &saved).equal(expected));
  frozen.adapter.backward(expected, images, saved);  // nothing to do, and no fault

  Adapter half(GetParam(), at::kBFloat16, /*trainable=*/false);
  half.adapter.load({folder_}, 3);
  EXPECT_EQ(half.store.value(0).scalar_type(), at::kBFloat16);
  EXPECT_LE(relative_norm(half.adapter.forward(images, nullptr), expected), 2e-2);

  // The first folder that has a file wins: the run's adapter folder before the base model's.
  const auto other = folder_ / "other";
  std::filesystem::create_directories(other);
  a.store.flat_values().mul_(2);
  a.adapter.save(other);
  again.adapter.load({other, folder_}, 3);
  EXPECT_TRUE(again.store.flat_values().equal(a.store.flat_values()));
}

TEST_P(ImageAdapterTest, InitialisationIsKeyedBySeed) {
  Adapter a(GetParam()), frozen(GetParam(), at::kFloat, /*trainable=*/false);
  a.adapter.load({folder_}, 7);
  const auto check = [&](const std::string& layer, int64_t inputs) {
    const double bound = 1 / std::sqrt(static_cast<double>(inputs));
    const double largest = a.value(layer + "weight").abs().max().item<double>();
    EXPECT_LE(largest, bound);
    EXPECT_GT(largest, 0.9 * bound);
    EXPECT_LE(a.value(layer + "bias").abs().max().item<double>(), bound);
    EXPECT_GT(a.value(layer + "bias").abs().max().item<double>(), 0.5 * bound);
  };
  if (mlp()) {
    check("0.", kImageWidth);
    check("2.", kHidden);
  } else {
    check("", kImageWidth);
  }
  const at::Tensor first = a.store.flat_values().clone();
  a.adapter.load({folder_}, 7);
  EXPECT_TRUE(a.store.flat_values().equal(first));
  a.adapter.load({folder_}, 8);
  EXPECT_FALSE(a.store.flat_values().equal(first));
  a.adapter.load({folder_}, 7);
  frozen.adapter.load({folder_}, 7);
  for (int i = 0; i < a.store.count(); ++i)
    EXPECT_TRUE(frozen.store.value(i).equal(a.store.value(i))) << "inference sees the same initial values";
}

TEST_P(ImageAdapterTest, FaultsOfTheFile) {
  const auto other = mlp() ? ImageAdapterKind::kLinear : ImageAdapterKind::kMlp;
  const auto path = (folder_ / "image_projection.safetensors").string();
  {
    Adapter a(other);
    a.adapter.save(folder_);
  }
  Adapter a(GetParam());
  const auto loading = [&] { return fault_of([&] { a.adapter.load({folder_}, 1); }); };
  EXPECT_FAULT(loading(), path);
  EXPECT_FAULT(loading(), mlp() ? "model.image_adapter = mlp expects it" : "model.image_adapter = linear expects it");
  {
    ParameterStore store;
    const ImageAdapter wide(config_of(GetParam()), kImageWidth + 1, kWidth, true, store);
    store.allocate(at::kCPU, at::kFloat);
    wide.save(folder_);
  }
  EXPECT_FAULT(loading(), path);
  EXPECT_FAULT(loading(), mlp() ? "image_projection.0.weight has shape [17, 22], expected [17, 21]"
                                : "image_projection.weight has shape [12, 22], expected [12, 21]");
  std::filesystem::resize_file(path, 20);
  EXPECT_FAULT(loading(), path);
}

INSTANTIATE_TEST_SUITE_P(Unit, ImageAdapterTest, ::testing::Values(ImageAdapterKind::kLinear, ImageAdapterKind::kMlp),
                         [](const auto& test) {
                           return std::string(test.param == ImageAdapterKind::kMlp ? "mlp" : "linear");
                         });

}  // namespace
}  // namespace vixen
