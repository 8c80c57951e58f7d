// The reports on mined negatives: HDF5 lists, and JSON lines with the record beside them.
//   N queries, k negatives of a query
#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/json_file.hpp"
#include "base/text.hpp"
#include "commands/inspect.hpp"
#include "commands/mined_lines.hpp"
#include "commands/mined_parts.hpp"
#include "commands/text_table.hpp"
#include "data/hdf5_file.hpp"
#include "data/hdf5_summary.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLinesAreOurs = "JSON lines that `vixen mine` wrote";

std::string heading(const fs::path& path, const char* what) {
  return fmt::format("{}: {}, {}\n", path.string(), what, human_bytes(static_cast<int64_t>(fs::file_size(path))));
}

/// Queries by how many of their k places are filled, and sums of the columns of /dropped.
struct ListCounts {
  int64_t queries = 0, none = 0, fewer = 0, all = 0;
  int64_t dropped[4] = {0, 0, 0, 0};
};

/// Row `row` of a block of lists; UserError where it is none.
void check_list(const MinedRows& block, int64_t row, int64_t query, const std::string& where, ListCounts& counts) {
  const int64_t k = block.ids.size(1);
  const auto* id = block.ids.const_data_ptr<int32_t>() + row * k;
  const auto* score = block.scores.const_data_ptr<float>() + row * k;
  const auto* place = block.places.const_data_ptr<int32_t>() + row * k;
  const auto* dropped = block.dropped.const_data_ptr<int32_t>() + row * 4;
  const auto length = std::find(id, id + k, -1) - id;
  for (int64_t i = 0; i < k; ++i) {
    const float before = i == 0 ? std::numeric_limits<float>::infinity() : score[i - 1];
    const bool as_written =
        i < length
            ? id[i] >= 0 && std::isfinite(score[i]) && score[i] <= before && place[i] > (i == 0 ? 0 : place[i - 1])
            : id[i] == -1 && score[i] == -std::numeric_limits<float>::infinity() && place[i] == 0;
    if (!as_written)
      fail_user(
          "{}: damaged: query {} holds label {}, score {}, rank {} at place {}, expected labels from 0 by falling "
          "score and rising rank, and -1, -infinity and 0 behind them",
          where, query, id[i], score[i], place[i], i + 1);
  }
  ++counts.queries;
  ++(length == 0 ? counts.none : length < k ? counts.fewer : counts.all);
  for (int rule = 0; rule < 4; ++rule) counts.dropped[rule] += dropped[rule];
}

ListCounts check_lists(const fs::path& path) {
  const MatrixReader ids({path, "/negatives"}), scores({path, "/scores"}), places({path, "/ranks"}),
      dropped({path, "/dropped"});
  const int64_t n = ids.rows(), k = ids.columns();
  for (const auto* reader : {&ids, &scores, &places, &dropped})
    if (reader->rows() != n || reader->columns() != (reader == &dropped ? 4 : k) ||
        reader->dtype() != (reader == &scores ? at::kFloat : at::kInt))
      fail_user("{}: damaged: found {} x {} of {}, expected what belongs to {} x {} of int32 in /negatives",
                reader->where(), reader->rows(), reader->columns(), reader->type_name(), n, k);
  ListCounts counts;
  for (int64_t first = 0; first < n; first += MinedParts::kReadQueries) {
    const RowRange range{first, std::min(n, first + MinedParts::kReadQueries)};
    const MinedRows block{ids.read(range, false), scores.read(range, false), places.read(range, false),
                          dropped.read(range, false)};
    for (int64_t row = 0; row < range.size(); ++row) check_list(block, row, first + row, path.string(), counts);
  }
  return counts;
}

std::string share(int64_t part, int64_t whole) {
  return fmt::format("{} ({:.1f}%)", with_commas(part),
                     100 * static_cast<double>(part) / static_cast<double>(std::max<int64_t>(1, whole)));
}

}  // namespace

std::string inspect_mined(const fs::path& path) {
  MinedAttributes attributes;
  {
    const Hdf5File file(path, Hdf5File::Mode::kRead);
    for (const auto& [name, text] : file.attributes()) attributes[name] = file.string_attribute(name);
  }
  std::string out = heading(path, "mined negatives") + mined_report(attributes, path.string());
  const auto counts = check_lists(path);
  const auto said = MinedSummary::parse(attributes[kMinedSummary], path.string()).counts;
  const int64_t expected[] = {said.relevant, said.skipped, said.same_text, said.margin};
  if (counts.queries != said.queries || !std::ranges::equal(counts.dropped, expected))
    fail_user(
        "{}: damaged: its lists are of {} queries and {}, {}, {}, {} labels dropped, its attribute {} says {} and "
        "{}, {}, {}, {}",
        path.string(), counts.queries, counts.dropped[0], counts.dropped[1], counts.dropped[2], counts.dropped[3],
        kMinedSummary, said.queries, said.relevant, said.skipped, said.same_text, said.margin);
  const int64_t k = MatrixReader({path, "/negatives"}).columns();
  out += fmt::format("\n  queries with all {} negatives {}, with fewer {}, with none {}\n\n", k,
                     share(counts.all, counts.queries), share(counts.fewer, counts.queries),
                     share(counts.none, counts.queries));
  return out + matrix_table(path, summarise_hdf5(path));
}

bool is_mined_lines(const fs::path& path) {
  const fs::path record = record_beside(path);
  std::error_code error;
  if (!fs::is_regular_file(record, error) || !made_by_vixen(record) || !made_by_vixen(path)) return false;
  return read_json_object(record, kLinesAreOurs).contains(kMinedRecord);
}

std::string inspect_mined_lines(const fs::path& path) {
  const auto record = read_json_object(record_beside(path), kLinesAreOurs);
  MinedAttributes attributes;
  for (const auto& [name, value] : record.at(kMinedRecord).items())
    if (value.is_string()) attributes[name] = value.get<std::string>();
  std::ifstream file(path);
  std::vector<std::string> keys;
  std::string line;
  int64_t lines = 0;
  while (std::getline(file, line)) {
    ++lines;
    const auto content = is_deep_json(line) ? nlohmann::ordered_json()
                                            : nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
    std::vector<std::string> found;
    bool texts = content.is_object();
    if (texts)
      for (const auto& [name, value] : content.items()) {
        texts = texts && value.is_string();
        found.push_back(name);
      }
    if (lines == 1) keys = found;
    if (!texts || found.size() < 3 || found != keys)
      fail_user("{}: damaged: line {} reads {}, expected texts under {}", path.string(), lines, shown_json(content),
                keys.size() < 3 ? "anchor, positive and negative" : fmt::format("{}", fmt::join(keys, ", ")));
  }
  if (!record.contains("lines") || record["lines"] != lines)
    fail_user("{}: damaged: holds {} lines, {} says {}", path.string(), lines, record_beside(path).string(),
              record.contains("lines") ? shown_json(record["lines"]) : "nothing");
  const auto left_out = [&](const char* key) {
    return record.contains(key) && record[key].is_number_integer() ? with_commas(record[key].get<int64_t>()) : "?";
  };
  return heading(path, "mined negatives, JSON lines") + mined_report(attributes, record_beside(path).string()) +
         fmt::format("\n  {} lines of {}\n  left out: {} queries with too few negatives, {} without a relevant label\n",
                     with_commas(lines), fmt::join(keys, ", "), left_out("queries_with_too_few_negatives"),
                     left_out("queries_without_relevant_label"));
}

}  // namespace vixen
