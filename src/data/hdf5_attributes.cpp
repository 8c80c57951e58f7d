// Attributes of the root group: one value each for the program, any number as text for reports.
#include <fmt/ranges.h>

#include <algorithm>

#include "base/check.hpp"
#include "base/text.hpp"
#include "data/hdf5_file.hpp"

namespace vixen {
namespace {

constexpr hsize_t kShown = 8;  // values of a list

herr_t collect_attribute(hid_t, const char* name, const H5A_info_t*, void* out) {
  static_cast<std::vector<std::string>*>(out)->emplace_back(name);
  return 0;
}

/// The values of an attribute as texts, or nothing when they are neither strings nor numbers or cannot be read.
std::vector<std::string> values_as_text(hid_t attribute, size_t count) {
  const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
  const H5T_class_t kind = H5Tget_class(type.get());
  std::vector<std::string> values;
  const auto read = [&](hid_t memory, auto first, auto as_text) {
    std::vector<decltype(first)> raw(count, first);
    if (H5Aread(attribute, memory, raw.data()) >= 0)
      for (const auto& value : raw) values.push_back(as_text(value));
  };
  if (kind == H5T_INTEGER && H5Tget_sign(type.get()) == H5T_SGN_NONE)
    read(H5T_NATIVE_UINT64, uint64_t{0}, [](uint64_t value) { return std::to_string(value); });
  else if (kind == H5T_INTEGER)
    read(H5T_NATIVE_INT64, int64_t{0}, [](int64_t value) { return std::to_string(value); });
  else if (kind == H5T_FLOAT)
    read(H5T_NATIVE_DOUBLE, 0.0, [](double value) { return fmt::format("{:g}", value); });
  else if (kind == H5T_STRING && H5Tis_variable_str(type.get()) > 0)
    read(type.get(), static_cast<char*>(nullptr), [](char* text) {
      std::string value = shown(text == nullptr ? "" : text);
      H5free_memory(text);
      return value;
    });
  else if (kind == H5T_STRING) {
    const size_t size = H5Tget_size(type.get());
    std::string raw(size * count, '\0');
    if (H5Aread(attribute, type.get(), raw.data()) < 0) return {};
    for (size_t i = 0; i < count; ++i) {
      const std::string value = raw.substr(i * size, size);
      values.push_back(shown(value.substr(0, value.find('\0'))));
    }
  }
  return values;
}

/// One line for any attribute: those that are not ours may hold anything.
std::string attribute_text(hid_t attribute) {
  const Hdf5Handle space(H5Aget_space(attribute), H5Sclose);
  const hssize_t count = H5Sget_simple_extent_npoints(space.get());
  if (count <= 0) return "(empty)";
  constexpr hssize_t kMost = 1 << 16;  // of more, only the number is said
  if (count > kMost) return fmt::format("({} values)", count);
  const auto values = values_as_text(attribute, static_cast<size_t>(count));
  if (values.empty()) return "?";
  if (count == 1) return values[0];
  const auto first = std::vector(values.begin(), values.begin() + std::min<std::ptrdiff_t>(count, kShown));
  return fmt::format("[{}{}]", fmt::join(first, ", "),
                     count > static_cast<hssize_t>(kShown) ? fmt::format(", ... {} values", count) : "");
}

}  // namespace

bool Hdf5File::has_attribute(const std::string& name) const {
  const auto lock = hdf5_lock();
  return H5Aexists(file_.get(), name.c_str()) > 0;
}

Hdf5Handle Hdf5File::open_attribute(const std::string& name) const {
  if (!has_attribute(name)) fail_user("{}: attribute '{}' is missing", named_.string(), name);
  Hdf5Handle attribute(H5Aopen(file_.get(), name.c_str(), H5P_DEFAULT), H5Aclose);
  if (!attribute.valid()) fail_user("{}: attribute '{}' cannot be read: {}", named_.string(), name, hdf5_reason());
  Hdf5Handle space(H5Aget_space(attribute.get()), H5Sclose);
  if (H5Sget_simple_extent_npoints(space.get()) != 1)
    fail_user("{}: attribute '{}' has {} values, expected one", named_.string(), name,
              H5Sget_simple_extent_npoints(space.get()));
  return attribute;
}

std::string Hdf5File::string_attribute(const std::string& name) const {
  const auto lock = hdf5_lock();
  const Hdf5Handle attribute = open_attribute(name);
  const Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
  if (H5Tget_class(type.get()) != H5T_STRING) fail_user("{}: attribute '{}' is not a string", named_.string(), name);
  if (H5Tis_variable_str(type.get()) > 0) {
    char* text = nullptr;
    if (H5Aread(attribute.get(), type.get(), &text) < 0)
      fail_user("{}: attribute '{}' cannot be read: {}", named_.string(), name, hdf5_reason());
    std::string value = text ? text : "";
    H5free_memory(text);
    return value;
  }
  std::string value(H5Tget_size(type.get()), '\0');
  if (H5Aread(attribute.get(), type.get(), value.data()) < 0)
    fail_user("{}: attribute '{}' cannot be read: {}", named_.string(), name, hdf5_reason());
  value.resize(std::min(value.size(), value.find('\0')));
  return value;
}

int64_t Hdf5File::int_attribute(const std::string& name) const {
  const auto lock = hdf5_lock();
  const Hdf5Handle attribute = open_attribute(name);
  const Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
  if (H5Tget_class(type.get()) != H5T_INTEGER) fail_user("{}: attribute '{}' is not an integer", named_.string(), name);
  int64_t value = 0;
  if (H5Aread(attribute.get(), H5T_NATIVE_INT64, &value) < 0)
    fail_user("{}: attribute '{}' cannot be read: {}", named_.string(), name, hdf5_reason());
  return value;
}

double Hdf5File::double_attribute(const std::string& name) const {
  const auto lock = hdf5_lock();
  const Hdf5Handle attribute = open_attribute(name);
  const Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
  const H5T_class_t kind = H5Tget_class(type.get());
  if (kind != H5T_FLOAT && kind != H5T_INTEGER) fail_user("{}: attribute '{}' is not a number", named_.string(), name);
  double value = 0;
  if (H5Aread(attribute.get(), H5T_NATIVE_DOUBLE, &value) < 0)
    fail_user("{}: attribute '{}' cannot be read: {}", named_.string(), name, hdf5_reason());
  return value;
}

std::vector<std::pair<std::string, std::string>> Hdf5File::attributes() const {
  const auto lock = hdf5_lock();
  std::vector<std::string> names;
  hsize_t next = 0;
  if (H5Aiterate2(file_.get(), H5_INDEX_NAME, H5_ITER_INC, &next, collect_attribute, &names) < 0)
    fail_user("{}: attributes cannot be read: {}", named_.string(), hdf5_reason());
  std::vector<std::pair<std::string, std::string>> values;
  for (const std::string& name : names) {
    const Hdf5Handle attribute(H5Aopen(file_.get(), name.c_str(), H5P_DEFAULT), H5Aclose);
    values.emplace_back(name, attribute.valid() ? attribute_text(attribute.get()) : "?");
  }
  return values;
}

void Hdf5File::write_attribute(const std::string& name, hid_t type, const void* value) {
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(H5Acreate2(file_.get(), name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT),
                             H5Aclose);
  if (!attribute.valid() || H5Awrite(attribute.get(), type, value) < 0)
    fail_user("{}: cannot write attribute '{}': {}", named_.string(), name, hdf5_reason());
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

}  // namespace vixen
