// Manifests whose checksum is right and whose content is not what readers ask for: one line that names file and key.
#include <gtest/gtest.h>

#include <functional>

#include "base/file.hpp"
#include "checkpoint/checkpoint.hpp"
#include "checkpoint/checkpoint_files.hpp"
#include "fixtures/fault.hpp"
#include "fixtures/single_rank.hpp"
#include "fixtures/temp_dir.hpp"

namespace vixen {
namespace {

using nlohmann::json;

class CheckpointManifest : public testing::Test {
 protected:
  static CheckpointState state() {
    CheckpointState state;
    state.step = 7;
    state.scalars = {{"epoch", 3}};
    state.dense["parameters"] = at::arange(6, at::kFloat);
    state.tables["bank"] = {RowShards(5, 1, 2), at::ones({5, 2})};
    return state;
  }
  // The message that loading ends in when the manifest is changed so.
  std::string fault(const std::function<void(json&)>& change) {
    const auto folder = save_checkpoint(dir_.path(), state(), comm_);
    const auto path = folder / checkpoint::kManifest;
    json manifest = checkpoint::parse_manifest(path);
    manifest.erase("checksum");
    change(manifest);
    write_text_atomically(path, checkpoint::manifest_text(manifest));
    auto loaded = state();
    std::string message = test::fault_of([&] { load_checkpoint(folder, loaded, comm_); });
    const std::string inspected = test::fault_of([&] { read_manifest(folder, /*verify=*/true); });
    EXPECT_TRUE(inspected == message || inspected == "(no fault)") << inspected;
    EXPECT_TRUE(message == "(no fault)" || message.starts_with(folder.string())) << message;
    return message;
  }

  const test::TempDir dir_;
  test::SingleRank comm_;
};

TEST_F(CheckpointManifest, EveryKeyIsAskedFor) {
  EXPECT_EQ(fault([](json&) {}), "(no fault)");
  for (const char* key : {"step", "world_size", "scalars", "tables", "files"})
    EXPECT_FAULT(fault([&](json& m) { m.erase(key); }), std::string("key ") + key + " is missing");
  for (const char* key : {"rows", "row_shape", "shards"})
    EXPECT_FAULT(fault([&](json& m) { m["tables"]["bank"].erase(key); }), std::string("key ") + key + " is missing");
  for (const char* key : {"bytes", "checksum"})
    EXPECT_FAULT(fault([&](json& m) { m["files"][checkpoint::kDense].erase(key); }),
                 std::string("key ") + key + " is missing");
}

TEST_F(CheckpointManifest, OtherTypesAreRefused) {
  EXPECT_FAULT(fault([](json& m) { m["step"] = -1; }), "step is a JSON number, expected a whole number, at least 0");
  EXPECT_FAULT(fault([](json& m) { m["step"] = ~uint64_t{0}; }), "step is a JSON number");
  EXPECT_FAULT(fault([](json& m) { m["world_size"] = 0; }), "world_size is a JSON number, expected a number of ranks");
  EXPECT_FAULT(fault([](json& m) { m["world_size"] = 1e300; }), "world_size is a JSON number");
  EXPECT_FAULT(fault([](json& m) { m["scalars"] = "x"; }), "scalars is a JSON string, expected an object");
  EXPECT_FAULT(fault([](json& m) { m["files"] = json::array(); }), "files is a JSON array, expected an object");
  EXPECT_FAULT(fault([](json& m) { m["files"][checkpoint::kDense] = 1; }), "key bytes is missing");
  EXPECT_FAULT(fault([](json& m) { m["files"][checkpoint::kDense]["checksum"] = 5; }), "checksum is a JSON number");
  EXPECT_FAULT(fault([](json& m) { m["tables"]["bank"]["row_shape"] = {2.5}; }), "row_shape is a JSON number");
  EXPECT_FAULT(fault([](json& m) { m["tables"]["bank"]["shards"] = {1}; }), "shards is a JSON number");
}

// Rows that no shard holds would be whatever was in memory.
TEST_F(CheckpointManifest, ShardsHoldAllRowsAndFilesHoldTheirShards) {
  const auto shards = [&](const json& list, int world_size = 1) {
    return fault([&](json& m) {
      m["tables"]["bank"]["shards"] = list;
      m["world_size"] = world_size;
    });
  };
  const char* part = "table bank: the shards of 1 ranks do not hold its 5 rows one after another";
  EXPECT_FAULT(shards(json::array()), part);
  EXPECT_FAULT(shards({{0, 4}}), part);
  EXPECT_FAULT(shards({{1, 5}}), part);
  EXPECT_FAULT(shards({{0, 6}}), part);
  EXPECT_FAULT(shards({{0, 3}, {3, 5}}), part);
  EXPECT_FAULT(shards({{0, 3}, {2, 5}}, 2), "the shards of 2 ranks do not hold its 5 rows");
  EXPECT_FAULT(fault([](json& m) {
                 m["tables"]["bank"]["shards"] = {{0, 3}, {3, 5}};
                 m["world_size"] = 2;
                 m["files"]["shard-00000-of-00002.safetensors"] = m["files"]["shard-00000-of-00001.safetensors"];
               }),
               "shard-00000-of-00002.safetensors: No such file or directory");
  EXPECT_FAULT(fault([](json& m) {
                 m["tables"]["few"] = m["tables"]["bank"];
                 m["tables"]["bank"]["row_shape"] = {3};
               }),
               "table bank has 5 rows of [3], expected 5 of [2]");
}

TEST_F(CheckpointManifest, ATensorOfAnotherShapeThanTheManifestSays) {
  const auto folder = save_checkpoint(dir_.path(), state(), comm_);
  auto fewer = state();
  fewer.tables["bank"] = {RowShards(4, 1, 2), at::ones({4, 2})};
  const auto path = folder / checkpoint::kManifest;
  json manifest = checkpoint::parse_manifest(path);
  manifest.erase("checksum");
  manifest["tables"]["bank"]["rows"] = 4;
  manifest["tables"]["bank"]["shards"] = {{0, 4}};
  write_text_atomically(path, checkpoint::manifest_text(manifest));
  EXPECT_FAULT(test::fault_of([&] { load_checkpoint(folder, fewer, comm_); }),
               "tensor bank has shape [5, 2], expected [4, 2] as manifest.json says");
}

TEST_F(CheckpointManifest, NestedTooDeep) {
  EXPECT_FAULT(fault([](json& m) {
                 json deep;
                 for (int i = 0; i < 200; ++i) deep = json::array({std::move(deep)});
                 m["scalars"] = {{"x", std::move(deep)}};
               }),
               "nested deeper than 100 levels");
}

}  // namespace
}  // namespace vixen
