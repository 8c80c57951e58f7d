// HDF5 calls behind Hdf5File: each is checked, each failure names file and dataset.
#include "data/hdf5_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/check.hpp"

namespace vixen {
namespace {

/// IEEE half, little endian: the type that h5py calls float16 (HDF5 1.10 has no predefined one).
Hdf5Handle float16_type() {
  Hdf5Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  VIXEN_CHECK(type.valid() && H5Tset_fields(type.get(), 15, 10, 5, 0, 10) >= 0 && H5Tset_size(type.get(), 2) >= 0 &&
                  H5Tset_ebias(type.get(), 15) >= 0,
              "{}", hdf5_reason());
  return type;
}

Hdf5Handle hdf5_type(ElementType type) {
  switch (type) {
    case ElementType::kUint8:
      return {H5Tcopy(H5T_STD_U8LE), H5Tclose};
    case ElementType::kFloat16:
      return float16_type();
    case ElementType::kFloat32:
      return {H5Tcopy(H5T_IEEE_F32LE), H5Tclose};
    case ElementType::kFloat64:
      return {H5Tcopy(H5T_IEEE_F64LE), H5Tclose};
    case ElementType::kInt32:
      return {H5Tcopy(H5T_STD_I32LE), H5Tclose};
    case ElementType::kInt64:
      return {H5Tcopy(H5T_STD_I64LE), H5Tclose};
    case ElementType::kOther:
      break;
  }
  return {};
}

ElementType element_type(hid_t type) {
  for (const auto known : {ElementType::kUint8, ElementType::kFloat16, ElementType::kFloat32, ElementType::kFloat64,
                           ElementType::kInt32, ElementType::kInt64})
    if (H5Tequal(type, hdf5_type(known).get()) > 0) return known;
  return ElementType::kOther;
}

herr_t collect_dataset(hid_t, const char* name, const H5O_info_t* info, void* out) {
  if (info->type == H5O_TYPE_DATASET) static_cast<std::vector<std::string>*>(out)->push_back(std::string("/") + name);
  return 0;
}

herr_t collect_attribute(hid_t, const char* name, const H5A_info_t*, void* out) {
  static_cast<std::vector<std::string>*>(out)->emplace_back(name);
  return 0;
}

}  // namespace

const char* element_name(ElementType type) {
  switch (type) {
    case ElementType::kUint8:
      return "uint8";
    case ElementType::kFloat16:
      return "float16";
    case ElementType::kFloat32:
      return "float32";
    case ElementType::kFloat64:
      return "float64";
    case ElementType::kInt32:
      return "int32";
    case ElementType::kInt64:
      return "int64";
    case ElementType::kOther:
      break;
  }
  return "another type";
}

int64_t element_bytes(ElementType type) {
  switch (type) {
    case ElementType::kUint8:
      return 1;
    case ElementType::kFloat16:
      return 2;
    case ElementType::kFloat32:
    case ElementType::kInt32:
      return 4;
    case ElementType::kFloat64:
    case ElementType::kInt64:
      return 8;
    case ElementType::kOther:
      break;
  }
  return 0;
}

int64_t DatasetLocation::elements() const {
  int64_t product = 1;
  for (const int64_t n : shape) product *= n;
  return product;
}

Hdf5File::Hdf5File(std::filesystem::path path, Mode mode) : path_(std::move(path)) {
  const auto lock = hdf5_lock();
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // Reading needs no lock, and many shared file systems refuse one. Alignment: mapped values are aligned values.
  VIXEN_CHECK(access.valid() && H5Pset_file_locking(access.get(), false, true) >= 0 &&
                  H5Pset_alignment(access.get(), 1, 64) >= 0,
              "{}", hdf5_reason());
  if (mode == Mode::kCreate) {
    errno = 0;
    file_ = {H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), H5Fclose};
    if (!file_.valid())
      fail_user("{}: cannot create the file: {}", path_.string(), errno ? std::strerror(errno) : hdf5_reason());
    return;
  }
  std::error_code error;
  const auto status = std::filesystem::status(path_, error);
  if (!std::filesystem::exists(status)) fail_user("{}: no such file", path_.string());
  if (!std::filesystem::is_regular_file(status))
    fail_user("{}: expected an HDF5 file, found something else", path_.string());
  errno = 0;
  const htri_t is_hdf5 = H5Fis_hdf5(path_.c_str());
  if (is_hdf5 < 0) fail_user("{}: cannot open: {}", path_.string(), errno ? std::strerror(errno) : hdf5_reason());
  if (is_hdf5 == 0)
    fail_user("{}: not an HDF5 file ({} bytes, no HDF5 signature)", path_.string(),
              std::filesystem::file_size(path_, error));
  file_ = {H5Fopen(path_.c_str(), mode == Mode::kRead ? H5F_ACC_RDONLY : H5F_ACC_RDWR, access.get()), H5Fclose};
  if (!file_.valid()) fail_user("{}: damaged HDF5 file: {}", path_.string(), hdf5_reason());
}

Hdf5File::~Hdf5File() {
  const auto lock = hdf5_lock();
  file_.close();
}

void Hdf5File::close() {
  const auto lock = hdf5_lock();
  if (!file_.close()) fail_user("{}: cannot finish the file: {}", path_.string(), hdf5_reason());
}

std::string Hdf5File::where(const std::string& dataset) const {
  return path_.string() + ":" + dataset;
}

bool Hdf5File::has_attribute(const std::string& name) const {
  const auto lock = hdf5_lock();
  return H5Aexists(file_.get(), name.c_str()) > 0;
}

Hdf5Handle Hdf5File::open_attribute(const std::string& name) const {
  if (!has_attribute(name)) fail_user("{}: attribute '{}' is missing", path_.string(), name);
  Hdf5Handle attribute(H5Aopen(file_.get(), name.c_str(), H5P_DEFAULT), H5Aclose);
  if (!attribute.valid()) fail_user("{}: attribute '{}' cannot be read: {}", path_.string(), name, hdf5_reason());
  Hdf5Handle space(H5Aget_space(attribute.get()), H5Sclose);
  if (H5Sget_simple_extent_npoints(space.get()) != 1)
    fail_user("{}: attribute '{}' has {} values, expected one", path_.string(), name,
              H5Sget_simple_extent_npoints(space.get()));
  return attribute;
}

std::string Hdf5File::string_attribute(const std::string& name) const {
  const auto lock = hdf5_lock();
  const Hdf5Handle attribute = open_attribute(name);
  const Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
  if (H5Tget_class(type.get()) != H5T_STRING) fail_user("{}: attribute '{}' is not a string", path_.string(), name);
  if (H5Tis_variable_str(type.get()) > 0) {
    char* text = nullptr;
    if (H5Aread(attribute.get(), type.get(), &text) < 0)
      fail_user("{}: attribute '{}' cannot be read: {}", path_.string(), name, hdf5_reason());
    std::string value = text ? text : "";
    H5free_memory(text);
    return value;
  }
  std::string value(H5Tget_size(type.get()), '\0');
  if (H5Aread(attribute.get(), type.get(), value.data()) < 0)
    fail_user("{}: attribute '{}' cannot be read: {}", path_.string(), name, hdf5_reason());
  value.resize(std::min(value.size(), value.find('\0')));
  return value;
}

int64_t Hdf5File::int_attribute(const std::string& name) const {
  const auto lock = hdf5_lock();
  const Hdf5Handle attribute = open_attribute(name);
  const Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
  if (H5Tget_class(type.get()) != H5T_INTEGER) fail_user("{}: attribute '{}' is not an integer", path_.string(), name);
  int64_t value = 0;
  if (H5Aread(attribute.get(), H5T_NATIVE_INT64, &value) < 0)
    fail_user("{}: attribute '{}' cannot be read: {}", path_.string(), name, hdf5_reason());
  return value;
}

double Hdf5File::double_attribute(const std::string& name) const {
  const auto lock = hdf5_lock();
  const Hdf5Handle attribute = open_attribute(name);
  const Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
  const H5T_class_t kind = H5Tget_class(type.get());
  if (kind != H5T_FLOAT && kind != H5T_INTEGER) fail_user("{}: attribute '{}' is not a number", path_.string(), name);
  double value = 0;
  if (H5Aread(attribute.get(), H5T_NATIVE_DOUBLE, &value) < 0)
    fail_user("{}: attribute '{}' cannot be read: {}", path_.string(), name, hdf5_reason());
  return value;
}

std::vector<std::pair<std::string, std::string>> Hdf5File::attributes() const {
  const auto lock = hdf5_lock();
  std::vector<std::string> names;
  hsize_t next = 0;
  if (H5Aiterate2(file_.get(), H5_INDEX_NAME, H5_ITER_INC, &next, collect_attribute, &names) < 0)
    fail_user("{}: attributes cannot be read: {}", path_.string(), hdf5_reason());
  std::vector<std::pair<std::string, std::string>> values;
  for (const std::string& name : names) {
    const Hdf5Handle attribute = open_attribute(name);
    const Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
    switch (H5Tget_class(type.get())) {
      case H5T_STRING:
        values.emplace_back(name, string_attribute(name));
        break;
      case H5T_INTEGER:
        values.emplace_back(name, std::to_string(int_attribute(name)));
        break;
      case H5T_FLOAT:
        values.emplace_back(name, fmt::format("{:g}", double_attribute(name)));
        break;
      default:
        values.emplace_back(name, "?");
    }
  }
  return values;
}

bool Hdf5File::has_dataset(const std::string& dataset) const {
  const auto lock = hdf5_lock();
  // H5Lexists wants every parent to exist: ask step by step.
  for (size_t slash = dataset.find('/', 1);; slash = dataset.find('/', slash + 1)) {
    const std::string part = dataset.substr(0, slash);
    if (part.empty() || part == "/" || H5Lexists(file_.get(), part.c_str(), H5P_DEFAULT) <= 0) return false;
    if (slash == std::string::npos) break;
  }
  H5O_info_t info;
  return H5Oget_info_by_name2(file_.get(), dataset.c_str(), &info, H5O_INFO_BASIC, H5P_DEFAULT) >= 0 &&
         info.type == H5O_TYPE_DATASET;
}

std::vector<std::string> Hdf5File::dataset_paths() const {
  const auto lock = hdf5_lock();
  std::vector<std::string> paths;
  if (H5Ovisit2(file_.get(), H5_INDEX_NAME, H5_ITER_INC, collect_dataset, &paths, H5O_INFO_BASIC) < 0)
    fail_user("{}: damaged HDF5 file: {}", path_.string(), hdf5_reason());
  std::sort(paths.begin(), paths.end());
  return paths;
}

Hdf5Handle Hdf5File::open_dataset(const std::string& dataset) const {
  if (!has_dataset(dataset)) fail_user("{}: no such dataset", where(dataset));
  Hdf5Handle handle(H5Dopen2(file_.get(), dataset.c_str(), H5P_DEFAULT), H5Dclose);
  if (!handle.valid()) fail_user("{}: cannot be opened: {}", where(dataset), hdf5_reason());
  return handle;
}

DatasetLocation Hdf5File::locate(const std::string& dataset) const {
  const auto lock = hdf5_lock();
  const Hdf5Handle handle = open_dataset(dataset);
  const Hdf5Handle space(H5Dget_space(handle.get()), H5Sclose);
  const Hdf5Handle type(H5Dget_type(handle.get()), H5Tclose);
  const Hdf5Handle creation(H5Dget_create_plist(handle.get()), H5Pclose);
  const int n_dims = H5Sget_simple_extent_ndims(space.get());
  if (n_dims < 0 || !type.valid() || !creation.valid())
    fail_user("{}: cannot be read: {}", where(dataset), hdf5_reason());

  DatasetLocation location;
  std::vector<hsize_t> dims(static_cast<size_t>(n_dims));
  if (n_dims > 0) H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr);
  location.shape.assign(dims.begin(), dims.end());
  location.type = element_type(type.get());
  location.contiguous = H5Pget_layout(creation.get()) == H5D_CONTIGUOUS && H5Pget_external_count(creation.get()) == 0;
  location.size_bytes = location.elements() * static_cast<int64_t>(H5Tget_size(type.get()));
  const haddr_t offset = location.contiguous ? H5Dget_offset(handle.get()) : HADDR_UNDEF;
  location.allocated = offset != HADDR_UNDEF;
  if (location.allocated) {
    location.offset_bytes = static_cast<int64_t>(offset);
    std::error_code error;
    const auto file_bytes = static_cast<int64_t>(std::filesystem::file_size(path_, error));
    if (error || location.offset_bytes + location.size_bytes > file_bytes)
      fail_user("{}: the file is truncated: the dataset ends at byte {}, the file at byte {}", where(dataset),
                location.offset_bytes + location.size_bytes, file_bytes);
  }
  return location;
}

void Hdf5File::read_rows(const std::string& dataset, int64_t first, int64_t count, void* out) const {
  const auto lock = hdf5_lock();
  const Hdf5Handle handle = open_dataset(dataset);
  const Hdf5Handle space(H5Dget_space(handle.get()), H5Sclose);
  const Hdf5Handle type(H5Dget_type(handle.get()), H5Tclose);
  const int n_dims = H5Sget_simple_extent_ndims(space.get());
  VIXEN_CHECK(n_dims >= 1, "{}", where(dataset));
  std::vector<hsize_t> counts(static_cast<size_t>(n_dims)), start(static_cast<size_t>(n_dims), 0);
  H5Sget_simple_extent_dims(space.get(), counts.data(), nullptr);
  VIXEN_CHECK(first >= 0 && count >= 0 && static_cast<hsize_t>(first + count) <= counts[0], "rows {} + {} of {}", first,
              count, counts[0]);
  if (count == 0) return;
  start[0] = static_cast<hsize_t>(first);
  counts[0] = static_cast<hsize_t>(count);
  const Hdf5Handle memory(H5Screate_simple(n_dims, counts.data(), nullptr), H5Sclose);
  if (H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, counts.data(), nullptr) < 0 ||
      H5Dread(handle.get(), type.get(), memory.get(), space.get(), H5P_DEFAULT, out) < 0)
    fail_user("{}: rows {} to {} cannot be read: {}", where(dataset), first, first + count - 1, hdf5_reason());
}

void Hdf5File::write_attribute(const std::string& name, hid_t type, const void* value) {
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(H5Acreate2(file_.get(), name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT),
                             H5Aclose);
  if (!attribute.valid() || H5Awrite(attribute.get(), type, value) < 0)
    fail_user("{}: cannot write attribute '{}': {}", path_.string(), name, hdf5_reason());
}

void Hdf5File::set_attribute(const std::string& name, const std::string& value) {
  const auto lock = hdf5_lock();
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  VIXEN_CHECK(H5Tset_size(type.get(), H5T_VARIABLE) >= 0 && H5Tset_cset(type.get(), H5T_CSET_UTF8) >= 0, "{}",
              hdf5_reason());
  const char* text = value.c_str();
  write_attribute(name, type.get(), &text);
}

void Hdf5File::set_attribute(const std::string& name, int64_t value) {
  const auto lock = hdf5_lock();
  write_attribute(name, H5T_STD_I64LE, &value);
}

void Hdf5File::set_attribute(const std::string& name, double value) {
  const auto lock = hdf5_lock();
  write_attribute(name, H5T_IEEE_F64LE, &value);
}

void Hdf5File::create(const std::string& dataset, std::span<const int64_t> shape, ElementType type) {
  const auto lock = hdf5_lock();
  const std::vector<hsize_t> dims(shape.begin(), shape.end());
  const Hdf5Handle space(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr), H5Sclose);
  const Hdf5Handle link(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  const Hdf5Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  const Hdf5Handle element = hdf5_type(type);
  VIXEN_CHECK(space.valid() && element.valid() && H5Pset_create_intermediate_group(link.get(), 1) >= 0 &&
                  H5Pset_layout(creation.get(), H5D_CONTIGUOUS) >= 0 &&
                  H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY) >= 0 &&
                  H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER) >= 0,
              "{}", hdf5_reason());
  const Hdf5Handle handle(
      H5Dcreate2(file_.get(), dataset.c_str(), element.get(), space.get(), link.get(), creation.get(), H5P_DEFAULT),
      H5Dclose);
  if (!handle.valid()) fail_user("{}: cannot create the dataset: {}", where(dataset), hdf5_reason());
}

void Hdf5File::write_all(const std::string& dataset, const void* values) {
  const auto lock = hdf5_lock();
  const Hdf5Handle handle = open_dataset(dataset);
  const Hdf5Handle type(H5Dget_type(handle.get()), H5Tclose);
  const Hdf5Handle space(H5Dget_space(handle.get()), H5Sclose);
  if (H5Sget_simple_extent_npoints(space.get()) == 0) return;
  if (H5Dwrite(handle.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
    fail_user("{}: cannot write the dataset: {}", where(dataset), hdf5_reason());
}

}  // namespace vixen
