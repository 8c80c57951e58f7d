// An HDF5 file as we use it: attributes, offsets of contiguous datasets, and new contiguous datasets.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/hdf5_handle.hpp"
#include "data/hdf5_location.hpp"
#include "data/hdf5_types.hpp"

namespace vixen {

/// An open file. Every failure is a UserError naming the file, the dataset or attribute, what was found and expected.
/// Not thread-safe for one object; different objects may be used from different threads.
class Hdf5File {
 public:
  enum class Mode { kRead, kCreate, kModify };
  /// named: what messages call the file, when that is not `path` (which may be a temporary one).
  Hdf5File(std::filesystem::path path, Mode mode, std::filesystem::path named = {});
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

  /// Names of all attributes of `/`, sorted, each with its value as text: a list as "[1, 2, 3]", "?" when it is neither
  /// strings nor numbers.
  std::vector<std::pair<std::string, std::string>> attributes() const;

  bool has_dataset(const std::string& dataset) const;
  /// Paths of all datasets below `/`, sorted by name, those behind soft and external links (which may lead nowhere)
  /// included.
  std::vector<std::string> dataset_paths() const;
  /// describe_dataset() and locate_dataset() of one that is there.
  DatasetLocation describe(const std::string& dataset) const;
  DatasetLocation locate(const std::string& dataset) const;
  /// Reads rows [first, first + count) of a located dataset of any layout and a known type into `out`, little-endian.
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

  /// Where a link on the way to a dataset leads, when that is nowhere; "" when it is another fault.
  std::string dangling_link(const std::string& dataset) const;

  std::filesystem::path path_, named_;
  Hdf5Handle file_;
  Hdf5Handle access_;  // how datasets and links are opened
};

}  // namespace vixen
