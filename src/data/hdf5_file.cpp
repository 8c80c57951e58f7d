// HDF5 calls behind Hdf5File: each is checked, each failure names file and dataset.
#include "data/hdf5_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/activity.hpp"
#include "base/check.hpp"
#include "base/file_kind.hpp"
#include "base/text.hpp"

namespace vixen {
namespace {

herr_t collect_link(hid_t, const char* name, const H5L_info_t*, void* out) {
  static_cast<std::vector<std::string>*>(out)->push_back(std::string("/") + name);
  return 0;
}

/// "/a/b/c": "/a", "/a/b", "/a/b/c".
std::vector<std::string> steps_to(const std::string& dataset) {
  std::vector<std::string> steps;
  for (size_t slash = dataset.find('/', 1); slash != std::string::npos; slash = dataset.find('/', slash + 1))
    steps.push_back(dataset.substr(0, slash));
  steps.push_back(dataset);
  std::erase_if(steps, [](const std::string& step) { return step.empty() || step == "/"; });
  return steps;
}

}  // namespace

Hdf5File::Hdf5File(std::filesystem::path path, Mode mode, std::filesystem::path named)
    : path_(std::move(path)), named_(named.empty() ? path_ : std::move(named)) {
  const AtFile at_file(named_.string());
  const auto lock = hdf5_lock();
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  access_ = {H5Pcreate(H5P_DATASET_ACCESS), H5Pclose};
  // Reading needs no lock, and many shared file systems refuse one; neither do files behind external links. Alignment:
  // mapped values are aligned values.
  VIXEN_CHECK(access.valid() && access_.valid() && H5Pset_file_locking(access.get(), false, true) >= 0 &&
                  H5Pset_elink_fapl(access_.get(), access.get()) >= 0 && H5Pset_alignment(access.get(), 1, 64) >= 0,
              "{}", hdf5_reason());
  const std::string file = named_.string();
  if (mode == Mode::kCreate) {
    errno = 0;
    file_ = {H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), H5Fclose};
    if (!file_.valid()) fail_user("{}: cannot create the file: {}", file, errno ? std::strerror(errno) : hdf5_reason());
    return;
  }
  std::error_code error;
  const auto status = std::filesystem::status(path_, error);
  if (!std::filesystem::exists(status)) fail_user("{}: no such file", file);
  if (!std::filesystem::is_regular_file(status)) fail_user("{}: expected an HDF5 file{}", file, found_instead(path_));
  errno = 0;
  const htri_t is_hdf5 = H5Fis_hdf5(path_.c_str());
  if (is_hdf5 < 0) fail_user("{}: cannot open: {}", file, errno ? std::strerror(errno) : hdf5_reason());
  if (is_hdf5 == 0)
    fail_user("{}: not an HDF5 file ({} bytes, no HDF5 signature){}", file, std::filesystem::file_size(path_, error),
              found_instead(path_));
  file_ = {H5Fopen(path_.c_str(), mode == Mode::kRead ? H5F_ACC_RDONLY : H5F_ACC_RDWR, access.get()), H5Fclose};
  if (!file_.valid()) fail_user("{}: damaged HDF5 file: {}", file, hdf5_reason());
}

Hdf5File::~Hdf5File() {
  const AtFile at_file(named_.string());
  const auto lock = hdf5_lock();
  file_.close();
  access_.close();
}

void Hdf5File::close() {
  const AtFile at_file(named_.string());
  const auto lock = hdf5_lock();
  if (!file_.close()) fail_user("{}: cannot finish the file: {}", named_.string(), hdf5_reason());
}

std::string Hdf5File::where(const std::string& dataset) const {
  return named_.string() + ":" + dataset;
}

bool Hdf5File::has_dataset(const std::string& dataset) const {
  const auto lock = hdf5_lock();
  // H5Lexists wants every parent to exist: ask step by step.
  for (const std::string& part : steps_to(dataset))
    if (H5Lexists(file_.get(), part.c_str(), access_.get()) <= 0) return false;
  H5O_info_t info;
  return dataset.size() > 1 &&
         H5Oget_info_by_name2(file_.get(), dataset.c_str(), &info, H5O_INFO_BASIC, access_.get()) >= 0 &&
         info.type == H5O_TYPE_DATASET;
}

std::vector<std::string> Hdf5File::dataset_paths() const {
  const auto lock = hdf5_lock();
  std::vector<std::string> paths;
  if (H5Lvisit(file_.get(), H5_INDEX_NAME, H5_ITER_INC, collect_link, &paths) < 0)
    fail_user("{}: damaged HDF5 file: {}", named_.string(), hdf5_reason());
  std::erase_if(paths, [&](const std::string& path) {
    H5O_info_t info;
    if (H5Oexists_by_name(file_.get(), path.c_str(), access_.get()) <= 0) return false;  // a link that leads nowhere
    return H5Oget_info_by_name2(file_.get(), path.c_str(), &info, H5O_INFO_BASIC, access_.get()) < 0 ||
           info.type != H5O_TYPE_DATASET;
  });
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string Hdf5File::dangling_link(const std::string& dataset) const {
  for (const std::string& part : steps_to(dataset)) {
    H5L_info_t info;
    if (H5Lexists(file_.get(), part.c_str(), access_.get()) <= 0 ||
        H5Lget_info(file_.get(), part.c_str(), &info, access_.get()) < 0)
      return "";
    if (info.type == H5L_TYPE_HARD || H5Oexists_by_name(file_.get(), part.c_str(), access_.get()) > 0) continue;
    std::string value(info.u.val_size + 1, '\0');
    if (H5Lget_val(file_.get(), part.c_str(), value.data(), info.u.val_size, access_.get()) < 0) return "";
    if (info.type == H5L_TYPE_SOFT) return fmt::format("{} is a link to {}, which is not there", part, value.c_str());
    unsigned flags = 0;
    const char *file = nullptr, *object = nullptr;
    if (H5Lunpack_elink_val(value.data(), info.u.val_size, &flags, &file, &object) < 0) return "";
    return fmt::format("{} is a link to {} in the file {}, which is not there or has no such object", part,
                       shown(object), shown(file));
  }
  return "";
}

Hdf5Handle Hdf5File::open_dataset(const std::string& dataset) const {
  if (!has_dataset(dataset)) {
    const std::string link = dangling_link(dataset);
    if (!link.empty()) fail_user("{}: cannot be read: {}", where(dataset), link);
    std::string found;
    const auto paths = dataset_paths();
    for (size_t i = 0; i < paths.size() && i < 8; ++i) found += (i ? ", " : "") + shown(paths[i]);
    fail_user("{}: no such dataset, the file has {}{}", where(dataset), found.empty() ? "none" : found,
              paths.size() > 8 ? fmt::format(" and {} more", paths.size() - 8) : "");
  }
  Hdf5Handle handle(H5Dopen2(file_.get(), dataset.c_str(), access_.get()), H5Dclose);
  if (!handle.valid()) fail_user("{}: cannot be opened: {}", where(dataset), hdf5_reason());
  return handle;
}

DatasetLocation Hdf5File::describe(const std::string& dataset) const {
  const auto lock = hdf5_lock();
  const Hdf5Handle handle = open_dataset(dataset);
  return describe_dataset(handle.get(), path_, where(dataset));
}

DatasetLocation Hdf5File::locate(const std::string& dataset) const {
  const auto lock = hdf5_lock();
  const Hdf5Handle handle = open_dataset(dataset);
  return locate_dataset(handle.get(), path_, where(dataset));
}

void Hdf5File::read_rows(const std::string& dataset, int64_t first, int64_t count, void* out) const {
  const AtFile at_file(named_.string());
  const auto lock = hdf5_lock();
  const Hdf5Handle handle = open_dataset(dataset);
  const Hdf5Handle space(H5Dget_space(handle.get()), H5Sclose);
  const Hdf5Handle stored(H5Dget_type(handle.get()), H5Tclose);
  const Hdf5Handle type = hdf5_type(found_type(stored.get()).type);
  const int n_dims = H5Sget_simple_extent_ndims(space.get());
  VIXEN_CHECK(n_dims >= 1 && type.valid(), "{}", where(dataset));
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
                  H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER) >= 0 &&
                  H5Pset_obj_track_times(creation.get(), false) >= 0,  // the same content, the same bytes
              "{}", hdf5_reason());
  const Hdf5Handle handle(
      H5Dcreate2(file_.get(), dataset.c_str(), element.get(), space.get(), link.get(), creation.get(), H5P_DEFAULT),
      H5Dclose);
  if (!handle.valid()) fail_user("{}: cannot create the dataset: {}", where(dataset), hdf5_reason());
}

void Hdf5File::write_all(const std::string& dataset, const void* values) {
  const AtFile at_file(named_.string());
  const auto lock = hdf5_lock();
  const Hdf5Handle handle = open_dataset(dataset);
  const Hdf5Handle type(H5Dget_type(handle.get()), H5Tclose);
  const Hdf5Handle space(H5Dget_space(handle.get()), H5Sclose);
  if (H5Sget_simple_extent_npoints(space.get()) == 0) return;
  if (H5Dwrite(handle.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
    fail_user("{}: cannot write the dataset: {}", where(dataset), hdf5_reason());
}

}  // namespace vixen
