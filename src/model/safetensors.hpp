// The safetensors file format: our own mapped reader and a writer (format: 8-byte little-endian header length, JSON
// header, tensor bytes).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/file.hpp"

namespace vixen {

/// A mapped safetensors file. Opening validates the header: length, JSON, dtypes, shapes against byte ranges, ranges
/// inside the file and not overlapping. A fault is a UserError naming file and tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const;
  /// A view of the mapped bytes (read-only by convention; valid while this object lives). UserError when missing.
  at::Tensor tensor(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  struct Entry {
    at::ScalarType dtype;
    std::vector<int64_t> shape;
    size_t begin = 0, end = 0;  // bytes from the start of the data
  };
  MappedFile file_;
  size_t data_begin_ = 0;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

/// Writes tensors (any device; copied to the CPU one at a time) atomically. float32, float16, bfloat16, int64, int32,
/// uint8, bool.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace vixen
