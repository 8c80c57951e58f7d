// Hashes of samples: headers, and the beginning, middle and end of every tensor.
#include "model/weight_fingerprint.hpp"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/check.hpp"
#include "base/file.hpp"
#include "model/adapters/adapter_files.hpp"

namespace vixen {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr size_t kBlock = 4096;

std::string hex(uint64_t value) {
  return fmt::format("{:016x}", value);
}

void append(std::vector<std::byte>& sample, std::span<const std::byte> bytes) {
  sample.insert(sample.end(), bytes.begin(), bytes.end());
}

/// The blocks of one stretch of a file.
void append_blocks(std::vector<std::byte>& sample, std::span<const std::byte> tensor) {
  if (tensor.size() <= 3 * kBlock) return append(sample, tensor);
  append(sample, tensor.first(kBlock));
  append(sample, tensor.subspan(tensor.size() / 2, kBlock));
  append(sample, tensor.last(kBlock));
}

json describe(const fs::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  std::vector<std::byte> sample;
  uint64_t header = 0;
  if (bytes.size() >= sizeof header) std::memcpy(&header, bytes.data(), sizeof header);
  const bool readable = bytes.size() >= sizeof header && header <= bytes.size() - sizeof header;
  if (readable) {
    const auto text = bytes.subspan(sizeof header, header);
    append(sample, text);
    const auto data = bytes.subspan(sizeof header + header);
    const json entries = json::parse(reinterpret_cast<const char*>(text.data()),
                                     reinterpret_cast<const char*>(text.data() + text.size()), nullptr, false);
    if (entries.is_object()) {
      for (const auto& [name, entry] : entries.items()) {
        if (!entry.is_object() || !entry.contains("data_offsets")) continue;
        const auto& offsets = entry["data_offsets"];
        if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
            !offsets[1].is_number_unsigned())
          continue;
        const auto begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
        if (begin <= end && end <= data.size()) append_blocks(sample, data.subspan(begin, end - begin));
      }
    }
  } else {
    append_blocks(sample, bytes);  // no safetensors file: whoever reads it will say so
  }
  return {{"bytes", bytes.size()}, {"content", hex(checksum(sample))}};
}

bool holds_weights(const std::string& name) {
  return name.ends_with(".safetensors") && (name.starts_with("model") || name.starts_with("adapter_model"));
}

}  // namespace

json weight_fingerprint(const fs::path& folder) {
  std::error_code error;
  const bool adapter = fs::exists(folder / kAdapterConfigFile, error);
  const auto config = folder / (adapter ? kAdapterConfigFile : "config.json");
  json weights = json::object();
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const auto name = entry->path().filename().string();
    if (holds_weights(name) && entry->is_regular_file()) weights[name] = describe(entry->path());
  }
  if (error) fail_user("cannot read {}: {}", folder.string(), error.message());
  return {{"config", hex(checksum_file(config))}, {"weights", weights}};
}

std::string fingerprint_difference(const json& was, const json& is) {
  if (was.contains("config") && was.at("config") != is.at("config")) return "config.json";
  if (!was.contains("weights") || !was.at("weights").is_object()) return "the record of its weights";
  const json& before = was.at("weights");
  const json& now = is.at("weights");
  for (const auto& [name, file] : before.items()) {
    if (!now.contains(name)) return name;
    // Before contents were written there were sizes alone.
    const bool same = file.is_object() ? file == now.at(name) : file == now.at(name).at("bytes");
    if (!same) return name;
  }
  for (const auto& [name, file] : now.items())
    if (!before.contains(name)) return name;
  return "";
}

}  // namespace vixen
