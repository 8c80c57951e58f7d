// An HDF5 file as we use it: attributes, where contiguous datasets lie, and new contiguous datasets.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/hdf5_handle.hpp"

namespace vixen {

/// Little-endian element types that the program reads and writes.
enum class ElementType { kUint8, kFloat16, kFloat32, kFloat64, kInt32, kInt64, kOther };
const char* element_name(ElementType type);
int64_t element_bytes(ElementType type);  // 0 for kOther

/// Where a dataset lies in its file.
struct DatasetLocation {
  std::vector<int64_t> shape;
  ElementType type = ElementType::kOther;
  bool contiguous = false;
  bool allocated = false;    // contiguous, and space was given to it (an empty dataset has none)
  int64_t offset_bytes = 0;  // from the start of the file, when allocated
  int64_t size_bytes = 0;    // elements x element size
  int64_t elements() const;
};

/// An open file. Every failure is a UserError naming the file, the dataset or attribute, what was found and expected.
/// Not thread-safe for one object; different objects may be used from different threads.
class Hdf5File {
 public:
  enum class Mode { kRead, kCreate, kModify };
  Hdf5File(std::filesystem::path path, Mode mode);
  ~Hdf5File();
  Hdf5File(const Hdf5File&) = delete;
  Hdf5File& operator=(const Hdf5File&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// "FILE:/dataset", as messages name it.
  std::string where(const std::string& dataset) const;

  bool has_attribute(const std::string& name) const;
  std::string string_attribute(const std::string& name) const;
  int64_t int_attribute(const std::string& name) const;
  double double_attribute(const std::string& name) const;

  /// Names of all attributes of `/`, sorted, each with its value as text ("?" when it is neither string nor number).
  std::vector<std::pair<std::string, std::string>> attributes() const;

  bool has_dataset(const std::string& dataset) const;
  /// Paths of all datasets below `/`, sorted by name.
  std::vector<std::string> dataset_paths() const;
  /// Checks that an allocated dataset ends within the file.
  DatasetLocation locate(const std::string& dataset) const;
  /// Reads rows [first, first + count) of a dataset of any layout and a known type into `out`, unconverted.
  void read_rows(const std::string& dataset, int64_t first, int64_t count, void* out) const;

  void set_attribute(const std::string& name, const std::string& value);
  void set_attribute(const std::string& name, int64_t value);
  void set_attribute(const std::string& name, double value);
  /// Creates a contiguous dataset (and its parent groups) with space allocated at a multiple of 64 bytes.
  /// Its values are not defined until written.
  void create(const std::string& dataset, std::span<const int64_t> shape, ElementType type);
  /// Writes the whole dataset.
  void write_all(const std::string& dataset, const void* values);
  /// Flushes and closes; a failure (a full disk) is a UserError.
  void close();

 private:
  Hdf5Handle open_dataset(const std::string& dataset) const;
  Hdf5Handle open_attribute(const std::string& name) const;
  void write_attribute(const std::string& name, hid_t type, const void* value);

  std::filesystem::path path_;
  Hdf5Handle file_;
};

}  // namespace vixen
