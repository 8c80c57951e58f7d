// vixen inspect: reports name what is there, tables are aligned, damage is a UserError.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <fstream>
#include <limits>
#include <sstream>

#include "base/check.hpp"
#include "base/text.hpp"
#include "checkpoint/checkpoint_files.hpp"
#include "commands/inspect.hpp"
#include "commands/text_table.hpp"
#include "data/hdf5_matrix.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/hdf5_builder.hpp"
#include "fixtures/toy_dataset.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen {
namespace {

using test::expect_mentions;

std::string error_of(const std::filesystem::path& path) {
  return test::error_of([&] { inspect_path(path); });
}

struct Inspect : testing::Test {
  test::TempDir dir;
};

TEST(TextTables, ColumnsAlign) {
  TextTable table({"name", "rows"});
  table.add({"é", "1"});
  table.add({"longer", "12,345"});
  EXPECT_EQ(table.text(), "  name      rows\n  é            1\n  longer  12,345\n");
  EXPECT_EQ(with_commas(-1234567), "-1,234,567");
  EXPECT_EQ(with_commas(123), "123");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(59045632), "56.3 MiB");
  EXPECT_EQ(shortened("a\nb", 10), "a b");
  EXPECT_EQ(shortened("éééééé", 5), "éé...");
  EXPECT_EQ(bar(0.001, 10), "#");
  EXPECT_EQ(bar(0, 10), "");
  EXPECT_EQ(bar(1, 4), "####");
}

TEST_F(Inspect, DataSet) {
  test::ToyOptions options;
  options.image_width = 6;
  const auto path = test::write_toy_dataset(dir.path() / "toy.h5", options);
  const Dataset dataset(path);
  const std::string text = inspect_path(path);
  expect_mentions(text,
                  {"data set 'toy'", "vocabulary 120", fmt::format("pictures {} x 6 float16", dataset.images().n_rows),
                   "labels a train query", std::to_string(dataset.train_labels().values.size()), "A 0.55, B 1.5",
                   std::string(dataset.labels().text(dataset.train_labels()[16][0]))});
  expect_mentions(text, {"prompt \"This product text\": tokens ", "prompt \"<|endoftext|>\": token 0\n"});
  EXPECT_EQ(text.find("every text begins"), std::string::npos);
  const auto without = inspect_path(test::write_toy_dataset(dir.path() / "plain.h5", {.prompts = false}));
  expect_mentions(without, {"no pictures", "no prompts", "tools/add_prompts.py"});
  const auto decoder =
      inspect_path(test::write_toy_dataset(dir.path() / "decoder.h5", {.decoder = true, .bos_token = 2}));
  expect_mentions(decoder, {"every text begins with token 2"});
}

TEST_F(Inspect, DataSetWithANonFinitePicture) {
  test::ToyOptions options;
  options.image_width = 6;
  auto content = test::toy_content(options);
  content.image_rows[6 * 11 + 2] = 0x7E00;
  write_dataset(dir.path() / "bad.h5", content);
  expect_mentions(error_of(dir.path() / "bad.h5"), {"bad.h5:/images/embeddings: row 11", "NaN"});
}

TEST_F(Inspect, EmptyTablesDoNotDivideByZero) {
  DatasetContent content;
  content.info = {"empty", "", 10, 4, 0, 0.55, 1.5};
  write_dataset(dir.path() / "empty.h5", content);
  expect_mentions(inspect_path(dir.path() / "empty.h5"), {"data set 'empty'"});
}

TEST_F(Inspect, Matrices) {
  const auto path = dir.path() / "m.h5";
  {
    MatrixWriter writer(path);
    writer.add("/indices", 3, 2, at::kLong);
    writer.write("/indices", 0, at::arange(6).view({3, 2}));
    writer.add("/scores", 3, 2, at::kFloat);
    writer.write("/scores", 0, at::tensor({3.f, 4.f, 3.f, 4.f, 3.f, 4.f}).view({3, 2}));
    writer.close();
  }
  expect_mentions(inspect_path(path), {"/indices", "int64", "3 x 2", "/scores", "float32", "5.0000", "contiguous"});
  {
    const float values[] = {1, 2, 3, std::numeric_limits<float>::infinity()};
    test::Hdf5Builder(path).add("/embeddings", {{2, 2}, H5T_IEEE_F32LE, [](hid_t) {}, values});
  }
  expect_mentions(error_of(path), {"/embeddings: row 1", "NaN or infinity"});
  {
    MatrixWriter writer(path);  // where there are fewer labels than asked for
    writer.add("/scores", 1, 3, at::kFloat, Floats::kFiniteOrMinusInfinity);
    writer.write("/scores", 0, at::tensor({2.f, 1.f, -std::numeric_limits<float>::infinity()}).view({1, 3}));
    writer.close();
  }
  expect_mentions(inspect_path(path), {"/scores", "1 x 3"});
}

TEST_F(Inspect, MatricesAmongOtherThings) {
  const auto path = dir.path() / "m.h5";
  const float values[] = {3, 4, 6, 8};
  {
    const test::Hdf5Builder file(path, 1024);
    file.add("/embeddings", {{2, 2}, H5T_IEEE_F32LE, [](hid_t) {}, values});
    file.add("/cube", {{1, 2, 2}});
    const hsize_t three[] = {3};
    const Hdf5Handle list(H5Screate_simple(1, three, nullptr), H5Sclose), null(H5Screate(H5S_NULL), H5Sclose);
    const Hdf5Handle text(H5Tcopy(H5T_C_S1), H5Tclose), short_text(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(text.get(), H5T_VARIABLE);
    H5Tset_size(short_text.get(), 4);
    const char* words[] = {"one", "t\nwo", nullptr};
    const int64_t numbers[] = {1, -2, 3};
    const auto attribute = [&](const char* name, hid_t type, hid_t space, const void* value) {
      const Hdf5Handle made(H5Acreate2(file.get(), name, type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
      ASSERT_TRUE(made.valid());
      if (value != nullptr) {
        ASSERT_GE(H5Awrite(made.get(), type, value), 0);
      }
    };
    attribute("numbers", H5T_NATIVE_INT64, list.get(), numbers);
    attribute("words", text.get(), list.get(), static_cast<const void*>(words));
    attribute("short", short_text.get(), list.get(), "abcdxy\0\0\0\0\0\0");
    attribute("nothing", short_text.get(), null.get(), nullptr);
    H5Lcreate_soft("/embeddings", file.get(), "/alias", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("gone.h5", "/x", file.get(), "/outside", H5P_DEFAULT, H5P_DEFAULT);
    const Hdf5Handle made(
        H5Dcreate2(file.get(), "/null", text.get(), null.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Dclose);
  }
  const std::string text = inspect_path(path);
  expect_mentions(
      text, {"numbers  [1, -2, 3]\n", "words    [one, t\\x0awo, ]\n", "short    [abcd, xy, ]\n", "nothing  (empty)\n",
             "/alias", "/outside", "a link that leads nowhere", "/cube", "1 x 2 x 2", "/null", "strings"});
  expect_mentions(text, {"/embeddings  float32  2 x 2      contiguous", "7.5000"});
  { test::Hdf5Builder(path).add("/embeddings", {{2, 2}}); }
  expect_mentions(error_of(path), {":/embeddings: was never written"});
}

TEST_F(Inspect, Safetensors) {
  const auto path = dir.path() / "model.safetensors";
  write_safetensors(path, {{"a.weight", at::ones({2, 3})}, {"b", at::ones({4}, at::kLong)}});
  for (const auto& what : {path, dir.path()})
    expect_mentions(inspect_path(what),
                    {"2 tensors, 10 values", "a.weight", "2 x 3", "F32", "I64", "every value is finite"});
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).write("\xff\xff\xff\xff", 4);
  expect_mentions(error_of(path), {path.string()});
}

TEST_F(Inspect, ModelInShards) {
  write_safetensors(dir.path() / "model-00001-of-00002.safetensors", {{"a.weight", at::ones({2, 3})}});
  write_safetensors(dir.path() / "model-00002-of-00002.safetensors", {{"b.weight", at::ones({5}, at::kHalf)}});
  const auto index = dir.path() / "model.safetensors.index.json";
  std::ofstream(index) << R"({"weight_map": {"a.weight": "model-00001-of-00002.safetensors",)"
                       << R"("b.weight": "model-00002-of-00002.safetensors"}})";
  std::ofstream(dir.path() / "config.json") << R"({"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 3})";
  const std::string text = inspect_path(dir.path());
  expect_mentions(text, {"model, bert, layers 2, width 3", "model-00001-of-00002.safetensors: 1 tensors, 6 values",
                         "a.weight", "model-00002-of-00002.safetensors: 1 tensors, 5 values", "F16"});
  std::filesystem::remove(dir.path() / "model-00002-of-00002.safetensors");
  expect_mentions(error_of(dir.path()), {"model-00002-of-00002.safetensors", "missing"});
}

TEST_F(Inspect, AdaptersAndTheirBase) {
  const auto base = dir.path() / "base", adapters = dir.path() / "adapters";
  std::filesystem::create_directories(base);
  std::filesystem::create_directories(adapters);
  write_safetensors(adapters / "adapter_model.safetensors", {{"x.lora_A.weight", at::ones({2, 3})}});
  std::ofstream(adapters / "adapter_config.json") << nlohmann::json{
      {"r", 2}, {"lora_alpha", 4}, {"target_modules", {"q_proj"}}, {"base_model_name_or_path", base.string()}};
  expect_mentions(inspect_path(adapters), {"LoRA of rank 2, alpha 4, on [\"q_proj\"]", "(not a folder on this machine)",
                                           "adapter_model.safetensors: 1 tensors, 6 values"});
  write_safetensors(base / "model.safetensors", {{"a", at::ones({4})}});
  std::ofstream(base / "config.json") << R"({"model_type": "qwen3"})";
  expect_mentions(inspect_path(adapters),
                  {"base model " + base.string() + ": qwen3", "  model.safetensors: 1 tensors, "});
}

TEST_F(Inspect, RunFolder) {
  std::ofstream(dir.path() / "config.ini") << "[train]\nepochs = 6\n";
  std::ofstream(dir.path() / "metrics.jsonl") << "{\"step\": 10, \"loss\": 0.5}\n{\"step\": 20, \"loss\": 0.25}\n";
  std::ofstream(dir.path() / "metrics.json") << "{\"P@1\": 51.64, \"R@100\": 83.24, \"queries\": 4324}";
  expect_mentions(inspect_path(dir.path()), {"epochs = 6", "2 lines", "0.25", "51.64", "83.24", "4,324"});
  std::ofstream(dir.path() / "metrics.jsonl") << "{\"step\": 10}\n{\"ste";
  expect_mentions(error_of(dir.path()), {"metrics.jsonl: line 2"});
}

TEST_F(Inspect, CheckpointFolder) {
  const auto folder = dir.path() / "step-00000120";
  std::filesystem::create_directories(folder);
  write_safetensors(folder / "dense.safetensors", {{"parameters", at::ones({100})}});
  const nlohmann::json manifest = {
      {"step", 120},
      {"world_size", 2},
      {"scalars", {{"epoch", 3}, {"best_metric", 57.5}}},
      {"tables", {{"free_vectors", {{"rows", 16384}, {"row_shape", {384}}, {"shards", {{0, 8192}, {8192, 16384}}}}}}},
      {"files", {{"dense.safetensors", checkpoint::describe_file(folder / "dense.safetensors")}}}};
  std::ofstream(folder / "manifest.json") << checkpoint::manifest_text(manifest);
  expect_mentions(inspect_path(folder),
                  {"checkpoint of step 120", "2 ranks", "57.5", "free_vectors", "16,384", "dense.safetensors"});
  std::fstream file(folder / "dense.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-3, std::ios::end);
  file.put('x');
  file.close();
  expect_mentions(error_of(folder), {"dense.safetensors"});
}

TEST_F(Inspect, WhatIsNothingOfOurs) {
  expect_mentions(error_of(dir.path() / "absent"), {"no such file or folder"});
  expect_mentions(error_of(dir.path()), {"neither a run"});
  std::ofstream(dir.path() / "text.h5") << "hello";
  expect_mentions(error_of(dir.path() / "text.h5"), {"not an HDF5 file"});
  std::filesystem::create_directories(dir.path() / "step-00000010");
  std::ofstream(dir.path() / "step-00000010" / "manifest.json") << "{}";
  expect_mentions(error_of(dir.path() / "step-00000010"), {"manifest.json"});
}

}  // namespace
}  // namespace vixen
