// The contents of an HDF5 file: attributes and datasets, as text and numbers for reports.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace vixen {

struct Hdf5Summary {
  struct Item {
    std::string path;  // "/train/tokens/values"
    std::vector<int64_t> shape;
    std::string type;        // as found: "float16", "big-endian float32", "strings"
    bool is_matrix = false;  // two dimensions of a type that the program reads
    std::string layout;      // "contiguous", "chunked", "empty", "contiguous, in OTHER.h5", "a link that leads nowhere"
    int64_t bytes = 0;       // elements x element size
  };
  std::vector<std::pair<std::string, std::string>> attributes;  // of `/`
  std::vector<Item> datasets;                                   // sorted by path
  /// The attribute's value, "" when there is none.
  std::string attribute(const std::string& name) const;
};

/// UserError when the file is missing, no HDF5, damaged or truncated. Whether the values are all there is not looked
/// at.
Hdf5Summary summarise_hdf5(const std::filesystem::path& path);

/// Whether a file is there and has HDF5's signature (at its beginning, or behind a user block). Never throws.
bool is_hdf5(const std::filesystem::path& path);

}  // namespace vixen
