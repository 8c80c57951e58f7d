// The safetensors file format: our own mapped reader and a writer (format: 8-byte little-endian header length, JSON
// header, tensor bytes).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "base/file.hpp"

namespace vixen {

/// A mapped safetensors file. Opening validates the header: length, JSON, dtypes, shapes against byte ranges, ranges
/// inside the file and not overlapping. A fault is a UserError naming file and tensor. A tensor of a dtype that only
/// other programs read (F4, F6, ...) is no fault until it is asked for.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const;
  /// A view of the mapped bytes that keeps the mapping alive by itself (read-only: the pages cannot be written). Its
  /// values are read once, with all threads: a NaN, an infinity or a float64 beyond float32 is a UserError naming file,
  /// tensor and element, and so is a tensor that is missing or of a dtype without values here. Every weight passes
  /// here.
  at::Tensor tensor(const std::string& name) const;
  /// From the header alone; UserError when missing. The dtype as the file says it: "BF16".
  const std::vector<int64_t>& shape(const std::string& name) const { return entry(name).shape; }
  const std::string& dtype_name(const std::string& name) const { return entry(name).dtype_name; }
  int64_t bytes(const std::string& name) const { return static_cast<int64_t>(entry(name).end - entry(name).begin); }
  /// Whether tensor() can give it.
  bool is_readable(const std::string& name) const { return entry(name).dtype.has_value(); }
  /// The tensor's bytes were copied: their pages may leave this process' memory.
  void done_with(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  struct Entry {
    std::string dtype_name;
    std::optional<at::ScalarType> dtype;  // none: torch has no such dtype
    std::vector<int64_t> shape;
    size_t begin = 0, end = 0;  // bytes from the start of the data
  };
  struct Checked;
  void read_entry(const std::string& name, const nlohmann::json& fields, size_t data_bytes);
  void read_metadata(const nlohmann::json& fields);
  void check_ranges(size_t data_bytes) const;
  const Entry& entry(const std::string& name) const;
  void check_finite(const std::string& name, const at::Tensor& values) const;
  std::span<const std::byte> bytes_of(const Entry& entry) const;

  std::shared_ptr<const MappedFile> file_;
  size_t data_begin_ = 0;
  std::map<std::string, Entry> entries_;
  std::shared_ptr<Checked> checked_;  // names of tensors whose values were found finite
  std::map<std::string, std::string> metadata_;
};

/// A value that is to be written is NaN or infinite: no disk's fault, and no later attempt does better.
class NotFiniteError : public UserError {
 public:
  using UserError::UserError;
};

/// Writes tensors (any device; copied to the CPU one at a time) atomically. float32, float16, bfloat16, int64, int32,
/// uint8, bool. A NaN or infinity is a NotFiniteError naming file and tensor: such a file would only fail later.
/// between_pieces: called before each piece of at most 16 MB; what it throws ends the writing.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {},
                       const std::function<void()>& between_pieces = {});

/// What a file will hold, before its values are there.
struct SafetensorsEntry {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;

  int64_t bytes() const;
};
/// The same, asking for one value at a time: value_of(i) has the shape and dtype of entries[i], on any device. Called
/// once each, in order.
void write_safetensors(const std::filesystem::path& path, const std::vector<SafetensorsEntry>& entries,
                       const std::function<at::Tensor(size_t)>& value_of,
                       const std::map<std::string, std::string>& metadata,
                       const std::function<void()>& between_pieces = {});

}  // namespace vixen
