// Loading and pruning of checkpoints.
#include "checkpoint/checkpoint.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "checkpoint/checkpoint_files.hpp"
#include "checkpoint/checkpoint_writer.hpp"
#include "comm/on_root.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<int64_t> row_shape(const at::Tensor& local) {
  return local.sizes().slice(1).vec();
}

/// Opens the files of one checkpoint, each verified before its first use and only then.
class VerifiedFiles {
 public:
  VerifiedFiles(fs::path folder, const json& manifest) : folder_(std::move(folder)), manifest_(manifest) {}

  const SafetensorsFile& open(const std::string& name) {
    auto found = files_.find(name);
    if (found == files_.end()) {
      checkpoint::verify_file(folder_, name, manifest_);
      found = files_.try_emplace(name, folder_ / name).first;
    }
    return found->second;
  }

 private:
  fs::path folder_;
  const json& manifest_;
  std::map<std::string, SafetensorsFile> files_;
};

/// This rank's rows of a table, gathered from the shards of whatever world size wrote it.
void load_table(const std::string& name, CheckpointState::Table& table, int rank, const fs::path& folder,
                const json& manifest, VerifiedFiles& files) {
  const std::string where = (folder / checkpoint::kManifest).string();
  if (!manifest.at("tables").contains(name)) fail_user("{}: has no table {}, expected one", where, name);
  const auto& saved = manifest.at("tables").at(name);
  const auto rows = saved.at("rows").get<int64_t>();
  const auto shape = saved.at("row_shape").get<std::vector<int64_t>>();
  if (rows != table.shards.n_rows() || shape != row_shape(table.local)) {
    fail_user("{}: table {} has {} rows of [{}], expected {} of [{}]", where, name, rows, fmt::join(shape, ", "),
              table.shards.n_rows(), fmt::join(row_shape(table.local), ", "));
  }
  const auto own = table.shards.range(rank);
  VIXEN_CHECK(table.local.size(0) == own.size(), "table {}: {} local rows, shard of {}", name, table.local.size(0),
              own.size());
  const int world_size = manifest.at("world_size").get<int>();
  for (int writer = 0; writer < world_size; ++writer) {
    const RowRange written = {saved.at("shards").at(writer).at(0).get<int64_t>(),
                              saved.at("shards").at(writer).at(1).get<int64_t>()};
    const RowRange common = {std::max(own.begin, written.begin), std::min(own.end, written.end)};
    if (common.size() <= 0) continue;
    const std::string shard = checkpoint::shard_name(writer, world_size);
    const auto stored = files.open(shard).tensor(name);
    auto expected = shape;
    expected.insert(expected.begin(), written.size());
    if (stored.sizes() != at::IntArrayRef(expected))
      fail_user("{}: tensor {} has shape [{}], expected [{}] as {} says", (folder / shard).string(), name,
                fmt::join(stored.sizes(), ", "), fmt::join(expected, ", "), checkpoint::kManifest);
    if (stored.scalar_type() != table.local.scalar_type()) {
      table.local = at::empty_like(table.local, table.local.options().dtype(stored.scalar_type()));
    }
    table.local.slice(0, common.begin - own.begin, common.end - own.begin)
        .copy_(stored.slice(0, common.begin - written.begin, common.end - written.begin));
  }
}

/// checkpoints/best -> step-XXXXXXXX, replaced at once.
void link_best(const fs::path& run_dir, uint64_t step) {
  const auto link = checkpoint::checkpoints_folder(run_dir) / "best";
  auto fresh = link;
  fresh += checkpoint::kPartial;
  fs::remove(fresh);
  fs::create_directory_symlink(checkpoint::step_folder(run_dir, step).filename(), fresh);
  fs::rename(fresh, link);
}

}  // namespace

fs::path save_checkpoint(const fs::path& run_dir, const CheckpointState& state, Communicator& comm) {
  CheckpointWriter writer(run_dir, comm);
  writer.begin(state, std::nullopt, /*snapshot=*/false);
  const auto end = writer.wait();
  if (!end.failure.empty()) throw UserError(end.failure);
  return checkpoint::step_folder(run_dir, state.step);
}

std::optional<fs::path> newest_checkpoint(const fs::path& run_dir) {
  const auto steps = checkpoint::complete_steps(run_dir);
  if (steps.empty()) return std::nullopt;
  return checkpoint::step_folder(run_dir, steps.back());
}

void load_checkpoint(const fs::path& folder, CheckpointState& state, Communicator& comm) {
  const Stage stage("read " + folder.string());
  on_every_rank(comm, [&] {
    const json manifest = read_manifest(folder, /*verify=*/false);
    VerifiedFiles files(folder, manifest);
    const auto& dense = files.open(checkpoint::kDense);
    state.dense.clear();
    for (const auto& name : dense.names()) state.dense[name] = dense.tensor(name);
    for (auto& [name, table] : state.tables) load_table(name, table, comm.rank(), folder, manifest, files);
    state.step = manifest.at("step").get<uint64_t>();
    state.scalars = manifest.at("scalars");
  });
}

json read_manifest(const fs::path& folder, bool verify) {
  json manifest = checkpoint::parse_manifest(folder / checkpoint::kManifest);
  if (verify) {
    for (const auto& [name, description] : manifest.at("files").items())
      checkpoint::verify_file(folder, name, manifest);
  }
  return manifest;
}

void prune_checkpoints(const fs::path& run_dir, const KeepRules& keep) {
  try {
    const auto steps = checkpoint::complete_steps(run_dir);
    const bool has_best = keep.best_step && std::binary_search(steps.begin(), steps.end(), *keep.best_step);
    if (has_best) link_best(run_dir, *keep.best_step);
    const auto every = static_cast<uint64_t>(keep.every_steps);
    const auto newest = static_cast<size_t>(std::max<int64_t>(1, keep.last));
    for (size_t i = 0; i + newest < steps.size(); ++i) {
      if ((has_best && steps[i] == *keep.best_step) || (every > 0 && steps[i] % every == 0)) continue;
      const auto folder = checkpoint::step_folder(run_dir, steps[i]);
      if (!checkpoint::remove_checkpoint(folder))
        spdlog::warn("{}: the checkpoint is removed, files beside it that vixen did not write are kept",
                     folder.string());
    }
    const auto link = checkpoint::checkpoints_folder(run_dir) / "best";
    if (fs::is_symlink(link) && !fs::exists(link)) fs::remove(link);
    checkpoint::remove_partial_folders(run_dir);
  } catch (const std::runtime_error& error) {  // of the file system, or a UserError about it
    // The new checkpoint is safe: room that could not be freed is no reason to stop.
    spdlog::warn("old checkpoints could not be removed: {}", error.what());
  }
}

}  // namespace vixen
