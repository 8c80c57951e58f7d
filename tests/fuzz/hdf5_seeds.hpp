// HDF5 files for seeds: rewritten in the newer file format, and matrices in every layout.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace vixen::fuzz {

/// A copy of the file (its root's attributes, groups and datasets) in the newest format this library writes: other
/// superblock, object headers and links, with checksums.
std::string in_newest_format(const std::filesystem::path& path);

/// Files with a 2-D dataset /embeddings, [6, 5] float32 unless said: contiguous, compact, chunked, compressed, with
/// checksums, float64, int64, behind a soft link, in the newest format.
std::vector<std::string> matrix_files();

}  // namespace vixen::fuzz
