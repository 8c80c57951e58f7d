// The files of checkpoints: names, folders, the manifest's text, and the check that a file is what its manifest says.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/check.hpp"

namespace vixen::checkpoint {

inline constexpr int kVersion = 1;
inline constexpr const char* kManifest = "manifest.json";
inline constexpr const char* kDense = "dense.safetensors";
inline constexpr const char* kPartial = ".partial";

std::filesystem::path checkpoints_folder(const std::filesystem::path& run_dir);
/// RUN/checkpoints/step-00000120
std::filesystem::path step_folder(const std::filesystem::path& run_dir, uint64_t step);
/// shard-00001-of-00004.safetensors of rank 1.
std::string shard_name(int rank, int world_size);

/// Steps of the complete checkpoints (those with a manifest), ascending.
std::vector<uint64_t> complete_steps(const std::filesystem::path& run_dir);

/// The manifest with a last line that holds the checksum of everything before it.
std::string manifest_text(const nlohmann::json& manifest);
/// Reads and checks it: checksum, format, version, and that what every reader asks for is there (step, world_size,
/// scalars, tables whose shards follow one another over all rows, files with size and checksum). UserError naming file
/// and key.
nlohmann::json parse_manifest(const std::filesystem::path& path);

/// {"bytes", "checksum"} of a file.
nlohmann::json describe_file(const std::filesystem::path& path);
/// UserError naming the file when its size or checksum is not the one of the manifest, or it is not listed there.
void verify_file(const std::filesystem::path& folder, const std::string& name, const nlohmann::json& manifest);

/// Removes the files of a checkpoint's folder that this program writes there, whole or begun, and the folder with them.
/// False: something else is in it, which stays, and the folder too.
bool remove_own_files(const std::filesystem::path& folder);
/// Removes what stopped processes left: the folders of steps that are *.partial.
void remove_partial_folders(const std::filesystem::path& run_dir);
/// Renames `folder` to its final name (replacing a checkpoint of the same step) and fsyncs the parent.
void move_into_place(const std::filesystem::path& partial, const std::filesystem::path& folder);
/// Takes a complete checkpoint away: first its name, then its files, so that it is never seen half. False: what else
/// lay in its folder stays there, without the checkpoint.
bool remove_checkpoint(const std::filesystem::path& folder);

/// Calls work(); a filesystem_error becomes a UserError naming path and reason.
template <typename Work>
void naming_faults(Work work) {
  try {
    work();
  } catch (const std::filesystem::filesystem_error& error) {
    fail_user("cannot write {}: {}", error.path1().string(), error.code().message());
  }
}

}  // namespace vixen::checkpoint
