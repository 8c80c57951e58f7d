// Values that a dataset keeps elsewhere: filters, chunks, files of external storage, parts of virtual datasets.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/hdf5_handle.hpp"

namespace vixen {

/// Each refuses, with a UserError that begins with `where`, what cannot be read whole. `creation`: the dataset's
/// creation property list. Within hdf5_lock().

/// A filter of a chunked dataset that this HDF5 library cannot undo, by its name.
void check_filters(hid_t creation, const std::string& where);

/// Chunks of a dataset of this shape (no dimension 0) that were never written (reading would give fill values), or,
/// where no filter changes their size, have another size than their shape.
void check_chunks(hid_t dataset, hid_t creation, const std::vector<int64_t>& shape, const std::string& where);

/// Files of external storage that are missing or too short for `size_bytes`. `file`: the one that holds the dataset.
void check_external_storage(hid_t creation, int64_t size_bytes, const std::filesystem::path& file,
                            const std::string& where);

/// Parts of a virtual dataset: all of its elements are mapped, every file is found where HDF5 looks for it, and every
/// part is whole itself. `file`: the one that holds the dataset.
void check_virtual(hid_t creation, hid_t space, const std::filesystem::path& file, const std::string& where);

}  // namespace vixen
