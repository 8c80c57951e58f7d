// HDF5 reads fill values where a part is missing, without a word: so every part is looked for first.
#include "data/hdf5_parts.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <system_error>

#include "base/check.hpp"
#include "base/text.hpp"
#include "data/hdf5_location.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;

constexpr int kDeepest = 8;  // virtual datasets of virtual datasets

/// Registered filters that files of others come with (the HDF Group's list).
constexpr std::pair<H5Z_filter_t, const char*> kFilterNames[] = {
    {H5Z_FILTER_DEFLATE, "gzip"},
    {H5Z_FILTER_SHUFFLE, "shuffle"},
    {H5Z_FILTER_FLETCHER32, "fletcher32"},
    {H5Z_FILTER_SZIP, "szip"},
    {H5Z_FILTER_NBIT, "n-bit"},
    {H5Z_FILTER_SCALEOFFSET, "scale-offset"},
    {305, "LZO"},
    {307, "bzip2"},
    {32000, "lzf"},
    {32001, "Blosc"},
    {32004, "LZ4"},
    {32008, "bitshuffle"},
    {32013, "ZFP"},
    {32015, "Zstandard"},
    {32017, "SZ"},
    {32024, "SZ3"},
    {32026, "Blosc2"},
};

std::string filter_name(H5Z_filter_t id, const char* stored) {
  for (const auto& [known, name] : kFilterNames)
    if (known == id) return name;
  return stored[0] == '\0' ? "an unknown filter" : shown(stored);
}

template <typename Get>
std::string name_of(Get get) {
  const ssize_t length = get(nullptr, size_t{0});
  if (length < 0) return "?";
  std::string name(static_cast<size_t>(length) + 1, '\0');
  get(name.data(), name.size());
  name.resize(static_cast<size_t>(length));
  return name;
}

std::vector<std::string> split(const std::string& list, char separator) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(separator, at), list.size());
    if (end > at) parts.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::string with_origin(std::string prefix, const fs::path& folder) {
  constexpr std::string_view kOrigin = "${ORIGIN}";
  if (prefix.starts_with(kOrigin)) prefix.replace(0, kOrigin.size(), folder.string());
  return prefix;
}

/// Where HDF5 looks for a file of a virtual dataset, in its order.
std::vector<fs::path> candidates(const std::string& name, const fs::path& file) {
  const fs::path folder = fs::absolute(file).parent_path();
  std::vector<fs::path> found;
  fs::path relative = name;
  if (relative.is_absolute()) {
    found.push_back(relative);
    relative = relative.filename();
  }
  if (const char* prefix = std::getenv("HDF5_VDS_PREFIX")) {
    for (const std::string& part : split(prefix, ':')) found.push_back(fs::path(part) / relative);
    found.push_back(fs::path(with_origin(prefix, folder)) / relative);
  }
  found.push_back(folder / relative);
  found.push_back(relative);
  std::error_code error;
  if (const fs::path real = fs::canonical(file, error); !error) found.push_back(real.parent_path() / relative);
  return found;
}

/// Names of parts may hold "%%" for a percent sign; other formats only come with datasets that grow.
std::string plain_name(std::string name) {
  for (size_t at = name.find("%%"); at != std::string::npos; at = name.find("%%", at + 1)) name.erase(at, 1);
  return name;
}

Hdf5Handle open_part(const fs::path& path) {
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_file_locking(access.get(), false, true);
  return {H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose};
}

/// Adds the elements of a selection to a union. False for one that is unlimited.
bool add_selection(hid_t all, hid_t part, int n_dims) {
  if (H5Sget_select_type(part) == H5S_SEL_ALL) return H5Sselect_all(all) >= 0;
  if (H5Sget_select_type(part) != H5S_SEL_HYPERSLABS) return false;
  const auto n = static_cast<size_t>(n_dims);
  std::vector<hsize_t> start(n), stride(n), count(n), block(n);
  if (H5Sis_regular_hyperslab(part) > 0) {
    if (H5Sget_regular_hyperslab(part, start.data(), stride.data(), count.data(), block.data()) < 0) return false;
    for (size_t i = 0; i < n; ++i)
      if (count[i] == H5S_UNLIMITED || block[i] == H5S_UNLIMITED) return false;
    return H5Sselect_hyperslab(all, H5S_SELECT_OR, start.data(), stride.data(), count.data(), block.data()) >= 0;
  }
  const hssize_t n_blocks = H5Sget_select_hyper_nblocks(part);
  if (n_blocks < 0) return false;
  std::vector<hsize_t> corners(static_cast<size_t>(n_blocks) * 2 * n);
  if (H5Sget_select_hyper_blocklist(part, 0, static_cast<hsize_t>(n_blocks), corners.data()) < 0) return false;
  for (size_t b = 0; b < static_cast<size_t>(n_blocks); ++b) {
    for (size_t i = 0; i < n; ++i) {
      start[i] = corners[(2 * b) * n + i];
      block[i] = corners[(2 * b + 1) * n + i] - start[i] + 1;
    }
    const std::vector<hsize_t> ones(n, 1);
    if (H5Sselect_hyperslab(all, H5S_SELECT_OR, start.data(), nullptr, ones.data(), block.data()) < 0) return false;
  }
  return true;
}

/// One part: the file that HDF5 will open, the dataset in it, whole and as large as what is taken from it.
void check_source(hid_t creation, size_t i, const fs::path& file, const std::string& where, int depth);

void check_virtual_parts(hid_t creation, hid_t space, const fs::path& file, const std::string& where, int depth) {
  if (depth == kDeepest) fail_user("{}: is a virtual dataset of virtual datasets, {} deep", where, kDeepest);
  size_t n_parts = 0;
  const int n_dims = H5Sget_simple_extent_ndims(space);
  const Hdf5Handle mapped(H5Scopy(space), H5Sclose);
  if (H5Pget_virtual_count(creation, &n_parts) < 0 || !mapped.valid() || H5Sselect_none(mapped.get()) < 0)
    fail_user("{}: cannot be read: {}", where, hdf5_reason());
  for (size_t i = 0; i < n_parts; ++i) {
    const Hdf5Handle part(H5Pget_virtual_vspace(creation, i), H5Sclose);
    if (!part.valid() || !add_selection(mapped.get(), part.get(), n_dims))
      fail_user("{}: is a virtual dataset whose parts may grow, expected fixed parts: copy it into a file of its own",
                where);
  }
  const hssize_t elements = H5Sget_simple_extent_npoints(space), given = H5Sget_select_npoints(mapped.get());
  if (given != elements)
    fail_user("{}: is a virtual dataset whose parts give {} of its {} values: the others were never written", where,
              given, elements);
  for (size_t i = 0; i < n_parts; ++i) check_source(creation, i, file, where, depth);
}

void check_source(hid_t creation, size_t i, const fs::path& file, const std::string& where, int depth) {
  const std::string file_name =
      plain_name(name_of([&](char* out, size_t size) { return H5Pget_virtual_filename(creation, i, out, size); }));
  const std::string dataset =
      plain_name(name_of([&](char* out, size_t size) { return H5Pget_virtual_dsetname(creation, i, out, size); }));
  const std::string part = shown(file_name) + ":" + shown(dataset);
  fs::path found = file;
  Hdf5Handle opened;
  if (file_name == ".") {
    opened = open_part(file);
  } else {
    for (const fs::path& candidate : candidates(file_name, file)) {
      opened = open_part(candidate);
      found = candidate;
      if (opened.valid()) break;
    }
  }
  if (!opened.valid())
    fail_user(
        "{}: is a virtual dataset, its part {} is missing: there is no such HDF5 file (beside {} or where it was "
        "made)",
        where, part, file.string());
  const Hdf5Handle source(H5Dopen2(opened.get(), dataset.c_str(), H5P_DEFAULT), H5Dclose);
  if (!source.valid())
    fail_user("{}: is a virtual dataset, its part {} is missing: {} has no such dataset", where, part, found.string());

  const std::string source_where = found.string() + ":" + dataset;
  const Hdf5Handle space(H5Dget_space(source.get()), H5Sclose), own(H5Dget_create_plist(source.get()), H5Pclose);
  const Hdf5Handle taken(H5Pget_virtual_srcspace(creation, i), H5Sclose);
  const Hdf5Handle target(H5Pget_virtual_vspace(creation, i), H5Sclose);
  const int n_dims = H5Sget_simple_extent_ndims(space.get());
  std::vector<hsize_t> dims(static_cast<size_t>(std::max(n_dims, 0))), first(dims.size()), last(dims.size());
  if (n_dims > 0) H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr);
  bool inside = false;
  if (H5Sget_select_type(taken.get()) == H5S_SEL_ALL) {  // stored without its extent
    inside = H5Sget_simple_extent_npoints(space.get()) == H5Sget_select_npoints(target.get());
  } else {
    inside = n_dims > 0 && n_dims == H5Sget_simple_extent_ndims(taken.get()) &&
             H5Sget_select_bounds(taken.get(), first.data(), last.data()) >= 0;
    for (size_t d = 0; inside && d < dims.size(); ++d) inside = last[d] < dims[d];
  }
  if (!inside)
    fail_user("{}: is a virtual dataset, its part {} has another shape than what is taken from it", where,
              source_where);
  if (H5Pget_layout(own.get()) == H5D_VIRTUAL)
    check_virtual_parts(own.get(), space.get(), found, source_where, depth + 1);
  else
    locate_dataset(source.get(), found, source_where);
}

}  // namespace

void check_filters(hid_t creation, const std::string& where) {
  const int n_filters = H5Pget_nfilters(creation);
  for (int i = 0; i < n_filters; ++i) {
    unsigned flags = 0, settings = 0;
    size_t n_values = 0;
    char stored[80] = "";
    const H5Z_filter_t id =
        H5Pget_filter2(creation, static_cast<unsigned>(i), &flags, &n_values, nullptr, sizeof stored, stored, nullptr);
    if (id < 0) fail_user("{}: cannot be read: {}", where, hdf5_reason());
    const bool readable = H5Zfilter_avail(id) > 0 && H5Zget_filter_info(id, &settings) >= 0 &&
                          (settings & H5Z_FILTER_CONFIG_DECODE_ENABLED) != 0;
    if (!readable)
      fail_user(
          "{}: is compressed with {} (HDF5 filter {}), which this program cannot undo: expected gzip or none; "
          "rewrite it (`h5repack -f NONE`)",
          where, filter_name(id, stored), id);
  }
}

void check_chunks(hid_t dataset, hid_t creation, const std::vector<int64_t>& shape, const std::string& where) {
  std::vector<hsize_t> chunk(shape.size());
  if (H5Pget_chunk(creation, static_cast<int>(chunk.size()), chunk.data()) != static_cast<int>(shape.size()))
    fail_user("{}: cannot be read: {}", where, hdf5_reason());
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose);
  hsize_t expected = 1, found = 0;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (chunk[d] == 0) fail_user("{}: damaged: a chunk of size 0", where);
    expected *= (static_cast<hsize_t>(shape[d]) + chunk[d] - 1) / chunk[d];
  }
  if (H5Dget_num_chunks(dataset, space.get(), &found) < 0) fail_user("{}: cannot be read: {}", where, hdf5_reason());
  if (found < expected)
    fail_user("{}: {} of its {} chunks were never written: write it again (whatever made the file did not finish)",
              where, expected - found, expected);
  if (H5Pget_nfilters(creation) != 0) return;
  // HDF5 reads a whole chunk, whatever was stored of it.
  const Hdf5Handle type(H5Dget_type(dataset), H5Tclose);
  hsize_t needed = found * H5Tget_size(type.get());
  bool fits = true;
  for (const hsize_t size : chunk) fits = fits && !__builtin_mul_overflow(needed, size, &needed);
  if (!fits || H5Dget_storage_size(dataset) != needed)
    fail_user("{}: damaged: its {} chunks take {} bytes, their shape [{}] needs {}", where, found,
              H5Dget_storage_size(dataset), fmt::join(chunk, ", "), fits ? std::to_string(needed) : "more");
}

void check_external_storage(hid_t creation, int64_t size_bytes, const fs::path& opened, const std::string& where) {
  const int n_files = H5Pget_external_count(creation);
  const char* set = std::getenv("HDF5_EXTFILE_PREFIX");
  const std::string prefix = set == nullptr ? "" : with_origin(set, fs::absolute(opened).parent_path());
  auto left = static_cast<hsize_t>(size_bytes);
  for (int i = 0; i < n_files && left > 0; ++i) {
    char name[4096] = "";
    off_t offset = 0;
    hsize_t reserved = 0;
    if (H5Pget_external(creation, static_cast<unsigned>(i), sizeof name - 1, name, &offset, &reserved) < 0)
      fail_user("{}: cannot be read: {}", where, hdf5_reason());
    const fs::path file = fs::path(prefix) / name;    // an absolute name stays what it is
    const hsize_t needed = std::min(left, reserved);  // an unlimited one has the largest number
    std::error_code error;
    const auto bytes = fs::file_size(file, error);
    if (error)
      fail_user("{}: its values lie in another file, {}, which cannot be read: {}{}", where, shown(file.string()),
                error.message(), file.is_relative() ? " (HDF5 looks in the current folder)" : "");
    if (offset < 0 || bytes < static_cast<uintmax_t>(offset) || bytes - static_cast<uintmax_t>(offset) < needed)
      fail_user("{}: its values lie in another file, {}, which has {} bytes: expected {} from byte {}", where,
                shown(file.string()), bytes, needed, offset);
    left -= needed;
  }
  if (left > 0) fail_user("{}: its values lie in other files, which lack {} bytes of its {}", where, left, size_bytes);
}

void check_virtual(hid_t creation, hid_t space, const fs::path& file, const std::string& where) {
  check_virtual_parts(creation, space, file, where, 0);
}

}  // namespace vixen
