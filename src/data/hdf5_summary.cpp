// Walks an HDF5 file for reports.
#include "data/hdf5_summary.hpp"

#include <array>
#include <fstream>

#include "data/hdf5_file.hpp"

namespace vixen {

std::string Hdf5Summary::attribute(const std::string& name) const {
  for (const auto& [key, value] : attributes)
    if (key == name) return value;
  return "";
}

Hdf5Summary summarise_hdf5(const std::filesystem::path& path) {
  const Hdf5File file(path, Hdf5File::Mode::kRead);
  Hdf5Summary summary;
  summary.attributes = file.attributes();
  for (const std::string& dataset : file.dataset_paths()) {
    const DatasetLocation location = file.locate(dataset);
    const char* layout = location.elements() == 0 ? "empty" : location.contiguous ? "contiguous" : "chunked";
    summary.datasets.push_back({dataset, location.shape, element_name(location.type), layout, location.size_bytes});
  }
  return summary;
}

bool is_hdf5(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 8> signature{};
  file.read(signature.data(), signature.size());
  return file && std::string_view(signature.data(), signature.size()) == "\x89HDF\r\n\x1a\n";
}

}  // namespace vixen
