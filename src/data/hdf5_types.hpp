// Element types of HDF5 datasets: those that the program reads, and names for all others.
#pragma once

#include <cstdint>
#include <string>

#include "data/hdf5_handle.hpp"

namespace vixen {

/// Element types that the program reads and writes (little-endian; read from either byte order).
enum class ElementType { kUint8, kFloat16, kFloat32, kFloat64, kInt32, kInt64, kOther };
const char* element_name(ElementType type);
int64_t element_bytes(ElementType type);  // 0 for kOther

/// The little-endian HDF5 type; invalid for kOther.
Hdf5Handle hdf5_type(ElementType type);

/// What a dataset's type is to us.
struct FoundType {
  ElementType type = ElementType::kOther;  // of the values, whatever their byte order
  bool is_swapped = false;                 // big-endian: HDF5 turns the bytes when it reads
  std::string name;                        // "float32", "big-endian float32", "int8", "bfloat16", "strings", ...
};
FoundType found_type(hid_t type);

}  // namespace vixen
