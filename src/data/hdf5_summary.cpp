// Walks an HDF5 file for reports.
#include "data/hdf5_summary.hpp"

#include <system_error>

#include "base/text.hpp"
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
    if (!file.has_dataset(dataset)) {
      summary.datasets.push_back({dataset, {}, "-", false, "a link that leads nowhere", 0});
      continue;
    }
    const DatasetLocation location = file.describe(dataset);
    std::string layout = location.elements() == 0 ? "empty" : layout_name(location.layout);
    if (location.file != path) layout += ", in " + shown(location.file.filename().string());
    const bool is_matrix = location.shape.size() == 2 && location.type != ElementType::kOther;
    summary.datasets.push_back(
        {dataset, location.shape, location.type_name, is_matrix, std::move(layout), location.size_bytes});
  }
  return summary;
}

bool is_hdf5(const std::filesystem::path& path) {
  const auto lock = hdf5_lock();
  std::error_code error;
  return std::filesystem::is_regular_file(path, error) && H5Fis_hdf5(path.c_str()) > 0;
}

}  // namespace vixen
