// Weights of a folder in one file or in shards: the same values, frozen ones without a copy, and every fault in one
// line.
#include "model/weights/weight_files.hpp"

#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/tiny_model.hpp"
#include "model/weights/backbone_weights.hpp"

namespace vixen {
namespace {

// A table, a fused projection of unequal rows, a bias and a norm.
std::vector<BackboneParameter> parameters(bool float32_table = false) {
  return {{.name = "table", .shape = {9, 6}, .in_products = false, .keep_float32 = float32_table, .tensors = {"table"}},
          {.name = "qkv.weight", .shape = {14, 6}, .tensors = {"q.weight", "k.weight", "v.weight"}, .rows = {6, 4, 4}},
          {.name = "o.weight", .shape = {6, 6}, .tensors = {"o.weight"}},
          {.name = "o.bias", .shape = {6}, .group = ParameterGroup::kBackboneNoDecay, .tensors = {"o.bias"}},
          {.name = "norm", .shape = {6}, .keep_float32 = true, .tensors = {"norm"}}};
}

at::Tensor value_of(size_t i) {
  const auto shape = parameters()[i].shape;
  return testing::wave(shape, static_cast<double>(i), 1.3);
}

void save(const std::filesystem::path& folder, int64_t max_shard_bytes, at::ScalarType dtype = at::kFloat) {
  save_backbone(parameters(), value_of, dtype, max_shard_bytes, folder);
}

void load(const std::filesystem::path& folder, bool frozen, ParameterStore& store, at::ScalarType compute = at::kFloat,
          bool float32_table = false) {
  BackboneWeights weights{.parameters = parameters(float32_table), .prefixes = {"", "model."}};
  weights.first = register_backbone(weights.parameters, frozen, store);
  store.allocate(at::kCPU, compute);
  load_backbone(weights, folder, store);
}

std::string fault(const std::filesystem::path& folder) {
  return test::fault_of([&] {
    ParameterStore store;
    load(folder, true, store);
  });
}

// Whether an address lies in a mapping of a file in the folder.
bool lies_in_file(const void* address, const std::filesystem::path& folder) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(folder.string()) == std::string::npos) continue;
    uintptr_t begin = 0, end = 0;
    EXPECT_EQ(std::sscanf(line.c_str(), "%lx-%lx", &begin, &end), 2);
    const auto at = reinterpret_cast<uintptr_t>(address);
    if (at >= begin && at < end) return true;
  }
  return false;
}

TEST(WeightFiles, ShardsAreTheSameAsOneFile) {
  const test::TempDir folder;
  const auto one = folder.path() / "one", many = folder.path() / "many";
  for (const auto& path : {one, many}) std::filesystem::create_directories(path);
  save(one, 1 << 20);
  save(many, 200);
  EXPECT_TRUE(std::filesystem::exists(many / "model.safetensors.index.json"));
  EXPECT_FALSE(std::filesystem::exists(many / "model.safetensors"));
  const WeightFiles files(many);
  EXPECT_NE(files.file_of("table"), files.file_of("norm"));
  const auto index = nlohmann::json::parse(read_text(many / "model.safetensors.index.json"));
  EXPECT_EQ(index["weight_map"].size(), 7u);
  EXPECT_EQ(index["metadata"]["total_size"], 4 * (54 + 84 + 36 + 6 + 6));
  for (const bool frozen : {false, true}) {
    ParameterStore a, b;
    load(one, frozen, a);
    load(many, frozen, b);
    for (int i = 0; i < a.count(); ++i) {
      EXPECT_TRUE(a.value(i).equal(value_of(static_cast<size_t>(i)))) << a.info(i).name;
      EXPECT_TRUE(a.value(i).equal(b.value(i))) << a.info(i).name;
    }
  }
  save(many, 1 << 20);  // the other form does not stay behind
  EXPECT_FALSE(std::filesystem::exists(many / "model.safetensors.index.json"));
}

// Frozen: single tensors in the right dtype are the mapped bytes, alive as long as the store; the rest is one copy.
TEST(WeightFiles, FrozenWeightsAreViewsOfTheFile) {
  const test::TempDir folder;
  save(folder.path(), 1 << 20, at::kBFloat16);
  ParameterStore store;
  load(folder.path(), true, store, at::kBFloat16);
  EXPECT_EQ(store.flat_values().numel(), 0);
  for (int i = 0; i < store.count(); ++i) {
    const std::string& name = store.info(i).name;
    const at::Tensor value = store.value(i);
    EXPECT_EQ(value.scalar_type(), name == "norm" ? at::kFloat : at::kBFloat16) << name;
    EXPECT_EQ(lies_in_file(value.const_data_ptr(), folder.path()), name != "qkv.weight" && name != "norm") << name;
    EXPECT_TRUE(value.to(at::kFloat).equal(value_of(static_cast<size_t>(i)).to(at::kBFloat16).to(at::kFloat))) << name;
  }
  ParameterStore exact;
  load(folder.path(), true, exact, at::kFloat);
  EXPECT_EQ(exact.value(0).scalar_type(), at::kBFloat16) << "tables stay as they are stored";
  EXPECT_EQ(exact.compute(2).scalar_type(), at::kFloat);
  ParameterStore tables;
  load(folder.path(), true, tables, at::kBFloat16, /*float32_table=*/true);
  EXPECT_EQ(tables.value(0).scalar_type(), at::kFloat);
}

TEST(WeightFiles, AViewOutlivesTheFiles) {
  const test::TempDir folder;
  save(folder.path(), 1 << 20);
  at::Tensor table;
  {
    const WeightFiles files(folder.path());
    files.done_with("table");
    table = files.tensor("table");
  }
  EXPECT_TRUE(table.equal(value_of(0)));
  EXPECT_TRUE(lies_in_file(table.const_data_ptr(), folder.path()));
  table.reset();
  std::ifstream maps("/proc/self/maps");
  const std::string text((std::istreambuf_iterator<char>(maps)), {});
  EXPECT_EQ(text.find(folder.path().string()), std::string::npos) << "unmapped with the last view";
}

TEST(WeightFiles, PrefixesOfModelsWithAHead) {
  const test::TempDir folder;
  std::map<std::string, at::Tensor> tensors;
  save(folder.path(), 1 << 20);
  {
    const WeightFiles files(folder.path());
    for (const auto& name : files.names()) tensors["model." + name] = files.tensor(name).clone();
  }
  write_safetensors(folder.path() / "model.safetensors", tensors);
  ParameterStore store;
  load(folder.path(), false, store);
  EXPECT_TRUE(store.value(1).equal(value_of(1)));
}

TEST(WeightFiles, AWholeFileIsReadBesideAnIndex) {
  const test::TempDir folder;
  save(folder.path(), 1 << 20);
  write_text_atomically(folder.path() / "model.safetensors.index.json",
                        R"({"weight_map": {"table": "model-00001-of-00002.safetensors"}})");
  std::ofstream(folder.path() / "optimizer.safetensors") << "abc";  // not a weight of the model
  ParameterStore store;
  load(folder.path(), false, store);
  EXPECT_TRUE(store.value(1).equal(value_of(1)));
}

TEST(WeightFiles, OnlyShardsOfTheIndexAreOpened) {
  const test::TempDir folder;
  save(folder.path(), 200);
  std::ofstream(folder.path() / "model-00001-of-00009.safetensors") << "abc";
  EXPECT_EQ(fault(folder.path()), "(no fault)");
  const auto index = folder.path() / "model.safetensors.index.json";
  write_text_atomically(index, "\xef\xbb\xbf" + read_text(index));
  EXPECT_EQ(fault(folder.path()), "(no fault)") << "a byte order mark";
  write_text_atomically(index, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
  EXPECT_FAULT(fault(folder.path()), index.string() + ": found a Git LFS pointer");
}

TEST(WeightFiles, Faults) {
  const test::TempDir folder;
  EXPECT_FAULT(fault(folder.path()), (folder.path() / "model.safetensors").string() + ": missing");
  save(folder.path(), 200);
  const auto index = folder.path() / "model.safetensors.index.json";
  const std::string text = read_text(index);
  const auto json = nlohmann::json::parse(text);
  const auto norm_shard = folder.path() / json["weight_map"]["norm"].get<std::string>();

  std::filesystem::rename(norm_shard, folder.path() / "elsewhere");
  EXPECT_FAULT(fault(folder.path()), norm_shard.string() + ": the shard is missing");
  std::filesystem::rename(folder.path() / "elsewhere", norm_shard);
  EXPECT_EQ(fault(folder.path()), "(no fault)");

  auto other = json;
  other["weight_map"]["norm"] = json["weight_map"]["table"];
  write_text_atomically(index, other.dump());
  EXPECT_FAULT(fault(folder.path()), ": tensor norm is missing; " + index.string() + " places it here");
  other["weight_map"]["norm"] = "../norm.safetensors";
  write_text_atomically(index, other.dump());
  EXPECT_FAULT(fault(folder.path()), "weight_map.norm is \"../norm.safetensors\", expected the name of a file");
  other["weight_map"].erase("norm");
  write_text_atomically(index, other.dump());
  EXPECT_FAULT(fault(folder.path()), index.string() + ": tensor norm is missing (with or without the prefix model.)");
  write_text_atomically(index, "{}");
  EXPECT_FAULT(fault(folder.path()), "key weight_map is missing");
  write_text_atomically(index, "nonsense");
  EXPECT_FAULT(fault(folder.path()), index.string());
  std::filesystem::remove(index);

  save(folder.path(), 1 << 20);
  std::map<std::string, at::Tensor> tensors;
  {
    const WeightFiles files(folder.path());
    for (const auto& name : files.names()) tensors[name] = files.tensor(name).clone();
  }
  const auto with = [&](const std::string& name, const at::Tensor& value) {
    auto changed = tensors;
    changed[name] = value;
    write_safetensors(folder.path() / "model.safetensors", changed);
    return fault(folder.path());
  };
  EXPECT_FAULT(with("k.weight", at::ones({5, 6})), "tensor k.weight has shape [5, 6], expected [4, 6]");
  EXPECT_FAULT(with("norm", at::ones({6}, at::kInt)), "tensor norm has dtype I32, expected float32");
}

}  // namespace
}  // namespace vixen
