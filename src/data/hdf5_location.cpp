// Shape, type, layout and file of an open dataset.
#include "data/hdf5_location.hpp"

#include <fmt/ranges.h>

#include <limits>
#include <system_error>

#include "base/check.hpp"
#include "data/hdf5_parts.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;

/// Dimensions whose product with the element size fits into 63 bits.
std::vector<int64_t> shape_of(hid_t space, size_t element_size, int64_t& size_bytes, const std::string& where) {
  const H5S_class_t kind = H5Sget_simple_extent_type(space);
  size_bytes = 0;
  if (kind == H5S_NULL) return {};
  const int n_dims = H5Sget_simple_extent_ndims(space);
  if (kind == H5S_NO_CLASS || n_dims < 0) fail_user("{}: cannot be read: {}", where, hdf5_reason());
  std::vector<hsize_t> dims(static_cast<size_t>(n_dims));
  if (n_dims > 0) H5Sget_simple_extent_dims(space, dims.data(), nullptr);
  bool fits = true, empty = false;
  auto bytes = static_cast<int64_t>(element_size);
  for (const hsize_t n : dims) {
    fits = fits && n <= static_cast<hsize_t>(std::numeric_limits<int64_t>::max());
    empty = empty || n == 0;
    fits = fits && (n == 0 || !__builtin_mul_overflow(bytes, static_cast<int64_t>(n), &bytes));
  }
  if (!fits)
    fail_user("{}: has the shape [{}], more than any file can hold: is it damaged?", where, fmt::join(dims, ", "));
  size_bytes = empty ? 0 : bytes;
  return {dims.begin(), dims.end()};
}

/// The file in which an object lies: `opened`, or another one when an external link led there.
fs::path file_of(hid_t dataset, const fs::path& opened, const std::string& where) {
  const Hdf5Handle file(H5Iget_file_id(dataset), H5Fclose);
  const ssize_t length = file.valid() ? H5Fget_name(file.get(), nullptr, 0) : -1;
  if (length < 0) fail_user("{}: cannot be read: {}", where, hdf5_reason());
  std::string name(static_cast<size_t>(length) + 1, '\0');
  H5Fget_name(file.get(), name.data(), name.size());
  name.resize(static_cast<size_t>(length));
  std::error_code error;
  return fs::equivalent(name, opened, error) ? opened : fs::path(name);
}

/// HDF5 reads as much as the shape asks for, whatever was stored.
void check_storage(hid_t dataset, const DatasetLocation& location, const std::string& where) {
  const hsize_t stored = H5Dget_storage_size(dataset);
  if (stored < static_cast<hsize_t>(location.size_bytes))
    fail_user("{}: damaged: its shape needs {} bytes, {} are given to it", where, location.size_bytes, stored);
}

void locate_contiguous(hid_t dataset, DatasetLocation& location, const std::string& where) {
  const haddr_t offset = H5Dget_offset(dataset);
  if (offset == HADDR_UNDEF)
    fail_user("{}: was never written, only its shape is there: write it again (whatever made the file did not finish)",
              where);
  int64_t end = 0;
  std::error_code error;
  const auto file_bytes = static_cast<int64_t>(fs::file_size(location.file, error));
  if (offset > static_cast<haddr_t>(std::numeric_limits<int64_t>::max()) ||
      __builtin_add_overflow(static_cast<int64_t>(offset), location.size_bytes, &end) || error || end > file_bytes)
    fail_user("{}: the file is truncated: the dataset begins at byte {} and has {} bytes, the file ends at byte {}",
              where, offset, location.size_bytes, file_bytes);
  location.offset_bytes = static_cast<int64_t>(offset);
}

}  // namespace

const char* layout_name(DatasetLayout layout) {
  switch (layout) {
    case DatasetLayout::kContiguous:
      return "contiguous";
    case DatasetLayout::kCompact:
      return "compact";
    case DatasetLayout::kChunked:
      return "chunked";
    case DatasetLayout::kVirtual:
      return "virtual";
    case DatasetLayout::kExternal:
      return "in other files";
  }
  return "?";
}

int64_t DatasetLocation::elements() const {
  int64_t product = is_null ? 0 : 1;
  for (const int64_t n : shape) product *= n;
  return product;
}

DatasetLocation describe_dataset(hid_t dataset, const fs::path& opened, const std::string& where) {
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose);
  const Hdf5Handle type(H5Dget_type(dataset), H5Tclose);
  const Hdf5Handle creation(H5Dget_create_plist(dataset), H5Pclose);
  if (!space.valid() || !type.valid() || !creation.valid()) fail_user("{}: cannot be read: {}", where, hdf5_reason());

  DatasetLocation location;
  location.shape = shape_of(space.get(), H5Tget_size(type.get()), location.size_bytes, where);
  location.is_null = H5Sget_simple_extent_type(space.get()) == H5S_NULL;
  const FoundType found = found_type(type.get());
  location.type = found.type;
  location.type_name = found.name;
  location.file = file_of(dataset, opened, where);
  const H5D_layout_t layout = H5Pget_layout(creation.get());
  location.layout = H5Pget_external_count(creation.get()) > 0 ? DatasetLayout::kExternal
                    : layout == H5D_COMPACT                   ? DatasetLayout::kCompact
                    : layout == H5D_CHUNKED                   ? DatasetLayout::kChunked
                    : layout == H5D_VIRTUAL                   ? DatasetLayout::kVirtual
                                                              : DatasetLayout::kContiguous;
  location.is_mappable = location.size_bytes > 0 && location.layout == DatasetLayout::kContiguous &&
                         location.type != ElementType::kOther && !found.is_swapped;
  return location;
}

DatasetLocation locate_dataset(hid_t dataset, const fs::path& opened, const std::string& where) {
  DatasetLocation location = describe_dataset(dataset, opened, where);
  if (location.size_bytes == 0) return location;
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose), creation(H5Dget_create_plist(dataset), H5Pclose);
  switch (location.layout) {
    case DatasetLayout::kContiguous:
      locate_contiguous(dataset, location, where);
      check_storage(dataset, location, where);
      break;
    case DatasetLayout::kCompact:
      check_storage(dataset, location, where);
      break;
    case DatasetLayout::kChunked:
      check_filters(creation.get(), where);
      check_chunks(dataset, creation.get(), location.shape, where);
      break;
    case DatasetLayout::kExternal:
      check_external_storage(creation.get(), location.size_bytes, location.file, where);
      break;
    case DatasetLayout::kVirtual:
      check_virtual(creation.get(), space.get(), location.file, where);
      break;
  }
  return location;
}

}  // namespace vixen
