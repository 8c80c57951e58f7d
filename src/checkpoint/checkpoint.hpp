// Checkpoints: a folder of safetensors shards and a manifest with checksums, written aside and renamed; read onto any
// world size. A damaged or unfinished checkpoint is never read as good.
//
//   checkpoints/step-00000120/
//     manifest.json                      version, world size, settings, scalars, tables; size and XXH3 of every file
//     dense.safetensors                  replicated tensors (rank 0)
//     shard-00001-of-00004.safetensors   this rank's rows of the sharded tables
#pragma once

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "shard/row_shards.hpp"

namespace vixen {

/// Everything that makes a run go on as if it had not stopped.
struct CheckpointState {
  uint64_t step = 0;
  nlohmann::json scalars;                   // epoch position, seeds, schedule, best metric, resolved config text
  std::map<std::string, at::Tensor> dense;  // replicated: parameters, moments, leaves...
  struct Table {
    RowShards shards;
    at::Tensor local;  // [rows of this rank, width]
  };
  std::map<std::string, Table> tables;  // row-sharded: free vectors and moments, banks, centroids
};

/// Which checkpoints stay when a new one is in place.
struct KeepRules {
  int64_t last = 1;                        // the newest ones
  int64_t every_steps = 0;                 // those of multiples of so many steps; 0: none
  std::optional<uint64_t> best_step = {};  // that of this step, to which checkpoints/best links
};

/// Writes checkpoints/step-XXXXXXXX by a CheckpointWriter (checkpoint/checkpoint_writer.hpp), waits, and prunes
/// nothing. Collective. UserError (on every rank) when a rank cannot write: the partial folder is removed.
std::filesystem::path save_checkpoint(const std::filesystem::path& run_dir, const CheckpointState& state,
                                      Communicator& comm);

/// The newest complete checkpoint of a run, by step; partial folders (".partial") are ignored. Local.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& run_dir);

/// Fills `state`: dense tensors (views of the mapped file: to be read only) and this rank's rows of the tables (any
/// world size), in the dtypes stored. state.tables
/// must name the tables wanted with their shards and allocated locals; state.dense is replaced. Verifies size and
/// checksum of every file it reads: a mismatch is a UserError that names the file. Collective.
void load_checkpoint(const std::filesystem::path& folder, CheckpointState& state, Communicator& comm);

/// The manifest after its own checks (its checksum line, version). For inspect. With `verify`, every file's checksum.
nlohmann::json read_manifest(const std::filesystem::path& folder, bool verify);

/// Removes the checkpoints that `keep` does not keep, and nothing that this program did not write; a fault is a
/// warning. By one process, when a new one is in place.
void prune_checkpoints(const std::filesystem::path& run_dir, const KeepRules& keep);

}  // namespace vixen
