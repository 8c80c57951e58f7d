// HDF5 types by class, size, byte order and bit fields.
#include "data/hdf5_types.hpp"

#include <fmt/format.h>

#include "base/check.hpp"
#include "base/text.hpp"

namespace vixen {
namespace {

constexpr ElementType kKnown[] = {ElementType::kUint8,   ElementType::kFloat16, ElementType::kFloat32,
                                  ElementType::kFloat64, ElementType::kInt32,   ElementType::kInt64};

/// IEEE half, little endian: the type that h5py calls float16 (HDF5 1.10 has no predefined one).
Hdf5Handle float16_type() {
  Hdf5Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  VIXEN_CHECK(type.valid() && H5Tset_fields(type.get(), 15, 10, 5, 0, 10) >= 0 && H5Tset_size(type.get(), 2) >= 0 &&
                  H5Tset_ebias(type.get(), 15) >= 0,
              "{}", hdf5_reason());
  return type;
}

ElementType element_type(hid_t type) {
  for (const auto known : kKnown)
    if (H5Tequal(type, hdf5_type(known).get()) > 0) return known;
  return ElementType::kOther;
}

std::string float_name(hid_t type) {
  size_t sign = 0, exponent_at = 0, exponent_bits = 0, mantissa_at = 0, mantissa_bits = 0;
  H5Tget_fields(type, &sign, &exponent_at, &exponent_bits, &mantissa_at, &mantissa_bits);
  const size_t bytes = H5Tget_size(type);
  if (bytes == 2 && exponent_bits == 8 && mantissa_bits == 7) return "bfloat16";
  if (bytes == 2 && exponent_bits == 5 && mantissa_bits == 10) return "float16";
  if (bytes == 4 && exponent_bits == 8 && mantissa_bits == 23) return "float32";
  if (bytes == 8 && exponent_bits == 11 && mantissa_bits == 52) return "float64";
  return fmt::format("floats of {} bits ({} of exponent, {} of mantissa)", bytes * 8, exponent_bits, mantissa_bits);
}

/// "(r, i)"; h5py's complex numbers are such a pair.
std::string compound_name(hid_t type) {
  const int members = H5Tget_nmembers(type);
  std::string names;
  for (int i = 0; i < members && i < 6; ++i) {
    char* name = H5Tget_member_name(type, static_cast<unsigned>(i));
    names += fmt::format("{}{}", i ? ", " : "", shown(name == nullptr ? "?" : name, 30));
    H5free_memory(name);
  }
  if (names == "r, i" && H5Tget_member_class(type, 0) == H5T_FLOAT)
    return fmt::format("complex{} numbers", H5Tget_size(type) * 8);
  return fmt::format("compound values ({}{})", names, members > 6 ? ", ..." : "");
}

std::string enum_name(hid_t type) {
  const bool boolean =
      H5Tget_nmembers(type) == 2 && H5Tget_member_index(type, "TRUE") >= 0 && H5Tget_member_index(type, "FALSE") >= 0;
  return boolean ? "booleans" : "enumerated values";
}

std::string type_name(hid_t type) {
  const size_t bytes = H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_INTEGER: {
      const size_t bits = H5Tget_precision(type);
      const std::string name = fmt::format("{}int{}", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", bytes * 8);
      return bits == bytes * 8 ? name : fmt::format("{} of {} bits", name, bits);
    }
    case H5T_FLOAT:
      return float_name(type);
    case H5T_STRING:
      return "strings";
    case H5T_BITFIELD:
      return "bit fields";
    case H5T_OPAQUE:
      return fmt::format("opaque values of {} byte{}", bytes, bytes == 1 ? "" : "s");
    case H5T_COMPOUND:
      return compound_name(type);
    case H5T_REFERENCE:
      return "references";
    case H5T_ENUM:
      return enum_name(type);
    case H5T_VLEN:
      return "rows of variable length";
    case H5T_ARRAY:
      return "arrays";
    default:
      return "values of an unknown type";
  }
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

FoundType found_type(hid_t type) {
  FoundType found{element_type(type), false, type_name(type)};
  const H5T_class_t kind = H5Tget_class(type);
  if (found.type != ElementType::kOther || (kind != H5T_INTEGER && kind != H5T_FLOAT)) return found;
  if (H5Tget_order(type) == H5T_ORDER_BE && H5Tget_size(type) > 1) {
    const Hdf5Handle turned(H5Tcopy(type), H5Tclose);
    if (H5Tset_order(turned.get(), H5T_ORDER_LE) >= 0) found.type = element_type(turned.get());
    found.is_swapped = found.type != ElementType::kOther;
    found.name = "big-endian " + found.name;
  }
  return found;
}

}  // namespace vixen
