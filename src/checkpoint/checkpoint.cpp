// Saving, loading and pruning of checkpoints.
#include "checkpoint/checkpoint.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "checkpoint/checkpoint_files.hpp"
#include "comm/on_root.hpp"
#include "model/weights/safetensors.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;
using checkpoint::naming_faults;
using nlohmann::json;

std::vector<int64_t> row_shape(const at::Tensor& local) {
  return local.sizes().slice(1).vec();
}

/// This rank's files in `folder`, written and described: {name: {bytes, checksum}}.
json write_files(const fs::path& folder, const CheckpointState& state, int rank, int world_size) {
  json files = json::object();
  const auto write = [&](const std::string& name, const std::map<std::string, at::Tensor>& tensors) {
    write_safetensors(folder / name, tensors);
    files[name] = checkpoint::describe_file(folder / name);
  };
  std::map<std::string, at::Tensor> rows;
  for (const auto& [name, table] : state.tables) rows[name] = table.local;
  write(checkpoint::shard_name(rank, world_size), rows);
  if (rank == 0) write(checkpoint::kDense, state.dense);
  return files;
}

json describe_tables(const CheckpointState& state) {
  json tables = json::object();
  for (const auto& [name, table] : state.tables) {
    json shards = json::array();
    for (int rank = 0; rank < table.shards.world_size(); ++rank) {
      const auto range = table.shards.range(rank);
      shards.push_back({range.begin, range.end});
    }
    tables[name] = {{"rows", table.shards.n_rows()}, {"row_shape", row_shape(table.local)}, {"shards", shards}};
  }
  return tables;
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
  const Stage stage("write the checkpoint");
  auto folder = checkpoint::step_folder(run_dir, state.step);
  auto partial = folder;
  partial += checkpoint::kPartial;
  for (const auto& [name, table] : state.tables) {
    VIXEN_CHECK(
        table.shards.world_size() == comm.world_size() && table.local.size(0) == table.shards.range(comm.rank()).size(),
        "table {}: {} local rows, {} shards", name, table.local.size(0), table.shards.world_size());
  }
  try {
    on_root(comm, [&] {
      naming_faults([&] {
        checkpoint::remove_partial_folders(run_dir);
        fs::create_directories(partial);
      });
    });
    json files;
    on_every_rank(comm, [&] {
      naming_faults([&] {
        fs::create_directories(partial);  // a network file system may show rank 0's folder late
        files = write_files(partial, state, comm.rank(), comm.world_size());
      });
    });
    const auto all_files = comm.all_gather_host(files.dump());
    on_root(comm, [&] {
      naming_faults([&] {
        json manifest = {{"step", state.step},
                         {"world_size", comm.world_size()},
                         {"scalars", state.scalars},
                         {"tables", describe_tables(state)}};
        for (const auto& of_rank : all_files) manifest["files"].update(json::parse(of_rank));
        write_text_atomically(partial / checkpoint::kManifest, checkpoint::manifest_text(manifest));
        sync_path(partial);
        checkpoint::move_into_place(partial, folder);
      });
    });
  } catch (const UserError&) {
    std::error_code ignored;
    if (comm.rank() == 0) fs::remove_all(partial, ignored);
    throw;
  }
  return folder;
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

void prune_checkpoints(const fs::path& run_dir, int64_t keep_last, std::optional<uint64_t> best_step) {
  try {
    const auto steps = checkpoint::complete_steps(run_dir);
    const bool has_best = best_step && std::binary_search(steps.begin(), steps.end(), *best_step);
    if (has_best) link_best(run_dir, *best_step);
    const auto kept = static_cast<size_t>(std::max<int64_t>(1, keep_last));
    for (size_t i = 0; i + kept < steps.size(); ++i) {
      if (!(has_best && steps[i] == *best_step))
        checkpoint::remove_checkpoint(checkpoint::step_folder(run_dir, steps[i]));
    }
    const auto link = checkpoint::checkpoints_folder(run_dir) / "best";
    if (fs::is_symlink(link) && !fs::exists(link)) fs::remove(link);
    checkpoint::remove_partial_folders(run_dir);
  } catch (const fs::filesystem_error& error) {
    // The new checkpoint is safe: room that could not be freed is no reason to stop.
    spdlog::warn("old checkpoints could not be removed: {}", error.what());
  }
}

}  // namespace vixen
