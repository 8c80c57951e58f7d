// The manifest of a checkpoint, over files that are as a manifest says: most mutations get the checksum that belongs to
// them, so that what lies behind it is reached.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <span>

#include "base/file.hpp"
#include "checkpoint/checkpoint.hpp"
#include "checkpoint/checkpoint_files.hpp"
#include "fixtures/single_rank.hpp"
#include "fuzz/target.hpp"

namespace vixen::fuzz {
namespace {

constexpr int64_t kRows = 5;
constexpr const char* kChecksum = ",\n \"checksum\": \"";

CheckpointState make_state() {
  CheckpointState state;
  state.step = 7;
  state.scalars = {{"epoch", 3}, {"best", 0.5}};
  state.dense["parameters"] = at::arange(6, at::kFloat);
  state.tables["bank"] = {RowShards(kRows, 1, 2), at::ones({kRows, 2}, at::kHalf)};
  return state;
}

std::vector<std::string> seeds() {
  test::SingleRank comm;
  const auto folder = save_checkpoint(scratch(), make_state(), comm);
  return {read_text(folder / checkpoint::kManifest)};
}

void read(const std::string& input) {
  const auto folder = checkpoint::step_folder(scratch(), 7);
  put(std::filesystem::relative(folder / checkpoint::kManifest, scratch()), input);
  test::SingleRank comm;
  CheckpointState state = make_state();
  load_checkpoint(folder, state, comm);
  read_manifest(folder, /*verify=*/true);
}

std::string mutate(const std::string& input, Random& random) {
  static const Words words = {"bytes",
                              "checksum",
                              "files",
                              "format",
                              "version",
                              "step",
                              "scalars",
                              "tables",
                              "shards",
                              "row_shape",
                              "rows",
                              "world_size",
                              "bank",
                              "vixen checkpoint",
                              "dense.safetensors",
                              "shard-00000-of-00001.safetensors"};
  const size_t end = input.rfind(kChecksum);
  if (end == std::string::npos || random.one_in(10)) return mutate_text(input, random, words);
  std::string body = mutate_json(input.substr(0, end) + "\n}", random, words);
  if (const size_t brace = body.rfind('}'); brace != std::string::npos) body.resize(brace);
  while (!body.empty() && body.back() == '\n') body.pop_back();
  const uint64_t sum = checksum(std::as_bytes(std::span(body)));
  return fmt::format("{}{}{:016x}\"\n}}\n", body, kChecksum, sum);
}

}  // namespace

const Target kManifest = {"manifest", seeds, read, mutate};

}  // namespace vixen::fuzz
