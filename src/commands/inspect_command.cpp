// vixen inspect FILES...: shows what a data set, matrix file, mined file, checkpoint, run or model is, and checks it.
#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "base/check.hpp"
#include "base/progress.hpp"
#include "base/standard_streams.hpp"
#include "base/text.hpp"
#include "commands/commands.hpp"
#include "commands/inspect.hpp"
#include "commands/mined_summary.hpp"
#include "commands/text_table.hpp"
#include "data/finite.hpp"
#include "data/hdf5_matrix.hpp"
#include "data/hdf5_summary.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;

/// Least and largest value, and for floats the lengths of rows; NaN and infinity are UserErrors. In /scores of a
/// ranking file -infinity stands where there is no label: it counts as 0.
std::vector<std::string> value_cells(const fs::path& path, const std::string& dataset) {
  constexpr int64_t kChunkBytes = 64 << 20;
  const MatrixReader reader({path, dataset});
  if (reader.rows() == 0 || reader.columns() == 0) return {"-", "-", "-"};
  const bool floating = at::isFloatingType(reader.dtype());
  const int64_t row_bytes = reader.columns() * static_cast<int64_t>(at::elementSize(reader.dtype()));
  const int64_t chunk = std::max<int64_t>(1, kChunkBytes / row_bytes);
  double least = 0, most = 0, norms = 0;
  for (int64_t row = 0; row < reader.rows(); row += chunk) {
    const RowRange range = {row, std::min(reader.rows(), row + chunk)};
    at::Tensor rows = reader.read(range, /*check_finite=*/!dataset.ends_with("/scores"));
    if (dataset.ends_with("/scores") && floating) {
      rows.masked_fill_(rows.eq(-std::numeric_limits<double>::infinity()), 0);
      if (const auto bad = first_not_finite(rows))
        fail_user("{}: row {} holds {}, expected a score", reader.where(), row + bad->index / reader.columns(),
                  bad->text);
    }
    // Lengths in float64: squares of small and large values leave the range of their own type.
    const at::Tensor values = floating ? rows.to(at::kDouble) : rows;
    const double low = values.min().item<double>(), high = values.max().item<double>();
    least = row == 0 ? low : std::min(least, low);
    most = row == 0 ? high : std::max(most, high);
    if (floating) norms += values.norm(2, {1}).sum().item<double>();
  }
  return {fmt::format("{:.6g}", least), fmt::format("{:.6g}", most),
          floating ? fmt::format("{:.4f}", norms / static_cast<double>(reader.rows())) : "-"};
}

}  // namespace

std::string matrix_table(const fs::path& path, const Hdf5Summary& summary) {
  TextTable table({"dataset", "type", "shape", "layout", "bytes", "least", "largest", "mean row norm"}, 4);
  for (const auto& item : summary.datasets) {
    std::string shape;
    for (const int64_t n : item.shape) shape += (shape.empty() ? "" : " x ") + with_commas(n);
    std::vector<std::string> cells{shown(item.path), item.type, shape, item.layout, human_bytes(item.bytes)};
    if (item.is_matrix && item.type != "uint8")
      for (auto& cell : value_cells(path, item.path)) cells.push_back(std::move(cell));
    table.add(std::move(cells));
  }
  return table.text() + "  checked: every value of a matrix is there and finite\n";
}

std::string inspect_matrices(const fs::path& path) {
  const Hdf5Summary summary = summarise_hdf5(path);
  const std::string format = summary.attribute("format");
  std::string out = fmt::format("{}: {}, {}\n", path.string(), format.empty() ? "HDF5 matrices" : format,
                                human_bytes(static_cast<int64_t>(fs::file_size(path))));
  size_t width = 0;
  for (const auto& [name, value] : summary.attributes) width = std::max(width, name.size());
  for (const auto& [name, value] : summary.attributes)
    out += fmt::format("  {:<{}}  {}\n", shown(name), width, shortened(value, 80));
  if (summary.datasets.empty()) return out + "  no datasets\n";
  if (!summary.attributes.empty()) out += "\n";
  return out + matrix_table(path, summary);
}

std::string inspect_path(const fs::path& path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) fail_user("{}: no such file or folder", path.string());
  if (fs::is_directory(status)) {
    if (fs::exists(path / "manifest.json")) return inspect_checkpoint(path);
    if (fs::exists(path / "config.ini")) return inspect_run(path);
    if (is_model(path)) return inspect_model(path, Detail::kTensors);
    fail_user(
        "{}: neither a run (config.ini), a checkpoint (manifest.json), a model (model.safetensors or its index) nor "
        "adapters (adapter_config.json)",
        path.string());
  }
  if (path.extension() == ".safetensors") return inspect_safetensors(path);
  if (!is_hdf5(path) && is_mined_lines(path)) return inspect_mined_lines(path);
  const std::string format = is_hdf5(path) ? summarise_hdf5(path).attribute("format") : "";
  if (format == "vixen-dataset") return inspect_dataset(path);
  return format == kMinedFormat ? inspect_mined(path) : inspect_matrices(path);
}

int inspect_command(const Config&, const std::vector<std::string>& files, MpiSession& session) {
  if (files.empty())
    fail_user("inspect: no file given, expected FILES or folders: data sets, matrices, checkpoints, runs");
  if (session.rank() != 0) return 0;  // nothing here is collective
  for (size_t i = 0; i < files.size(); ++i) {
    std::string text;
    {
      const Stage stage("check " + files[i]);
      text = inspect_path(files[i]);
    }
    print_out("{}{}", i > 0 ? "\n" : "", text);
    flush_output();
  }
  return 0;
}

}  // namespace vixen
