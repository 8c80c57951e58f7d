// Reports of files and folders for `vixen inspect`: each reads and checks everything, and returns text.
#pragma once

#include <filesystem>
#include <string>

#include "data/hdf5_summary.hpp"

namespace vixen {

/// A data set, an HDF5 file of matrices, mined negatives, a checkpoint, a run, a model folder or a safetensors file:
/// told apart by content. UserError (one line that names the file) when it is damaged or none of these. Local.
std::string inspect_path(const std::filesystem::path& path);

std::string inspect_dataset(const std::filesystem::path& path);
std::string inspect_matrices(const std::filesystem::path& path);
/// Its datasets, every value of a matrix read.
std::string matrix_table(const std::filesystem::path& path, const Hdf5Summary& summary);
/// What `vixen mine` wrote: HDF5, or JSON lines, which are known by the record beside them.
std::string inspect_mined(const std::filesystem::path& path);
std::string inspect_mined_lines(const std::filesystem::path& path);
bool is_mined_lines(const std::filesystem::path& path);
std::string inspect_checkpoint(const std::filesystem::path& folder);
std::string inspect_run(const std::filesystem::path& folder);
std::string inspect_safetensors(const std::filesystem::path& path);

/// Of a model: its files, their headers checked; or every tensor, all values read.
enum class Detail { kFiles, kTensors };
/// A folder of weights (one file or shards), of adapters (with what is there of their base model), or what a run saved.
std::string inspect_model(const std::filesystem::path& folder, Detail detail);
/// Whether a folder holds files of weights that we know.
bool is_model(const std::filesystem::path& folder);

}  // namespace vixen
