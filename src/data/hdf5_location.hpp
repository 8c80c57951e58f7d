// Where the values of an HDF5 dataset are, and whether all of them are there. Every reader passes here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/hdf5_types.hpp"

namespace vixen {

/// How a dataset keeps its values.
enum class DatasetLayout { kContiguous, kCompact, kChunked, kVirtual, kExternal };
const char* layout_name(DatasetLayout layout);

/// The file and offset of a dataset.
struct DatasetLocation {
  std::vector<int64_t> shape;
  bool is_null = false;  // no values and no shape at all (HDF5's null dataspace)
  ElementType type = ElementType::kOther;
  std::string type_name;  // as found: "big-endian float32", "strings"
  DatasetLayout layout = DatasetLayout::kContiguous;
  std::filesystem::path file;  // that holds the object: another one than was opened behind an external link
  /// The values are contiguous in `file` and little-endian: they may be mapped. False where there are none.
  bool is_mappable = false;
  int64_t offset_bytes = 0;  // from the start of `file`, when mappable
  int64_t size_bytes = 0;    // elements x element size
  int64_t elements() const;
};

/// Shape, type, layout and file of an open dataset of the file that was opened as `opened`. UserError, beginning with
/// `where` ("FILE:/dataset"), when its shape does not fit into 63 bits. Within hdf5_lock().
DatasetLocation describe_dataset(hid_t dataset, const std::filesystem::path& opened, const std::string& where);

/// The same, and makes sure that reading gives what was written: the file is long enough, every chunk allocated, every
/// filter there, every part of a virtual dataset and every file of external storage present and whole. What is not so
/// is a UserError.
DatasetLocation locate_dataset(hid_t dataset, const std::filesystem::path& opened, const std::string& where);

}  // namespace vixen
