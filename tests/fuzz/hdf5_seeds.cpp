#include "fuzz/hdf5_seeds.hpp"

#include <array>

#include "base/check.hpp"
#include "base/file.hpp"
#include "data/hdf5_handle.hpp"
#include "fuzz/target.hpp"

namespace vixen::fuzz {
namespace {

void must(bool good) {
  VIXEN_CHECK(good, "{}", hdf5_reason());
}

Hdf5Handle create_file(const std::filesystem::path& path, bool newest) {
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  if (newest) must(H5Pset_libver_bounds(access.get(), H5F_LIBVER_LATEST, H5F_LIBVER_LATEST) >= 0);
  Hdf5Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), H5Fclose);
  must(file.valid());
  return file;
}

herr_t copy_object(hid_t from, const char* name, const H5L_info_t*, void* to) {
  return H5Ocopy(from, name, *static_cast<hid_t*>(to), name, H5P_DEFAULT, H5P_DEFAULT);
}

herr_t copy_attribute(hid_t from, const char* name, const H5A_info_t*, void* to) {
  const Hdf5Handle source(H5Aopen(from, name, H5P_DEFAULT), H5Aclose);
  const Hdf5Handle type(H5Aget_type(source.get()), H5Tclose), space(H5Aget_space(source.get()), H5Sclose);
  std::vector<char> value(H5Tget_size(type.get()));
  if (H5Aread(source.get(), type.get(), value.data()) < 0) return -1;
  const Hdf5Handle target(H5Acreate2(*static_cast<hid_t*>(to), name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT),
                          H5Aclose);
  return H5Awrite(target.get(), type.get(), value.data());
}

struct Layout {
  hid_t type = H5T_IEEE_F32LE;
  H5D_layout_t layout = H5D_CONTIGUOUS;
  bool deflate = false, shuffle = false, fletcher = false;
  bool linked = false, newest = false;
};

std::string matrix_file(const Layout& layout) {
  const auto path = scratch() / "matrix_seed.h5";
  {
    const std::array<hsize_t, 2> shape = {6, 5}, chunk = {4, 2};
    const Hdf5Handle file = create_file(path, layout.newest);
    const Hdf5Handle space(H5Screate_simple(2, shape.data(), nullptr), H5Sclose);
    const Hdf5Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    must(H5Pset_layout(creation.get(), layout.layout) >= 0);
    if (layout.layout == H5D_CHUNKED) must(H5Pset_chunk(creation.get(), 2, chunk.data()) >= 0);
    if (layout.shuffle) must(H5Pset_shuffle(creation.get()) >= 0);
    if (layout.deflate) must(H5Pset_deflate(creation.get(), 1) >= 0);
    if (layout.fletcher) must(H5Pset_fletcher32(creation.get()) >= 0);
    const char* name = layout.linked ? "/values" : "/embeddings";
    const Hdf5Handle dataset(
        H5Dcreate2(file.get(), name, layout.type, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), H5Dclose);
    must(dataset.valid());
    if (layout.linked) must(H5Lcreate_soft("/values", file.get(), "/embeddings", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    std::array<float, 30> values;
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 4;
    must(H5Dwrite(dataset.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0);
  }
  return read_text(path);
}

}  // namespace

std::string in_newest_format(const std::filesystem::path& path) {
  const auto lock = hdf5_lock();
  const auto copy = scratch() / "newest_seed.h5";
  {
    const Hdf5Handle from(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
    const Hdf5Handle to = create_file(copy, /*newest=*/true);
    hid_t target = to.get();
    hsize_t next = 0;
    must(from.valid() && H5Literate(from.get(), H5_INDEX_NAME, H5_ITER_INC, &next, copy_object, &target) >= 0);
    next = 0;
    must(H5Aiterate2(from.get(), H5_INDEX_NAME, H5_ITER_INC, &next, copy_attribute, &target) >= 0);
  }
  return read_text(copy);
}

std::vector<std::string> matrix_files() {
  const auto lock = hdf5_lock();
  return {matrix_file({}),
          matrix_file({.type = H5T_IEEE_F64LE}),
          matrix_file({.type = H5T_STD_I64LE}),
          matrix_file({.layout = H5D_COMPACT}),
          matrix_file({.layout = H5D_CHUNKED}),
          matrix_file({.layout = H5D_CHUNKED, .deflate = true, .shuffle = true}),
          matrix_file({.layout = H5D_CHUNKED, .fletcher = true}),
          matrix_file({.linked = true}),
          matrix_file({.newest = true}),
          matrix_file({.layout = H5D_CHUNKED, .deflate = true, .newest = true})};
}

}  // namespace vixen::fuzz
