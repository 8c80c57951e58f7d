#include "commands/mined_parts.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/progress.hpp"
#include "comm/on_root.hpp"
#include "commands/sharded_output.hpp"
#include "data/hdf5_file.hpp"

namespace vixen {
namespace {

namespace fs = std::filesystem;

fs::path part_path(fs::path out, const std::string& number) {
  return out += ".part-" + number;
}

// Whether a file's name is `prefix` and the number of a part, or that of one which was not finished.
bool is_part_name(std::string name, const std::string& prefix) {
  const std::string partial = partial_name("").string();
  if (name.ends_with(partial)) name.resize(name.size() - partial.size());
  return name.starts_with(prefix) && name.size() == prefix.size() + 5 &&
         name.find_first_not_of("0123456789", prefix.size()) == name.npos;
}

}  // namespace

MinedRows MinedRows::empty(int64_t n, int64_t k) {
  return {at::empty({n, k}, at::kInt), at::empty({n, k}, at::kFloat), at::empty({n, k}, at::kInt),
          at::empty({n, 4}, at::kInt)};
}

const std::vector<MinedColumn>& mined_columns() {
  static const std::vector<MinedColumn> columns = {
      {"/negatives", &MinedRows::ids, at::kInt, Floats::kFinite},
      {"/scores", &MinedRows::scores, at::kFloat, Floats::kFiniteOrMinusInfinity},
      {"/ranks", &MinedRows::places, at::kInt, Floats::kFinite},
      {"/dropped", &MinedRows::dropped, at::kInt, Floats::kFinite}};
  return columns;
}

MinedParts::MinedParts(fs::path out, int64_t n_queries, int64_t part_queries, int64_t k, MinedAttributes attributes)
    : out_(std::move(out)), n_queries_(n_queries), k_(k), attributes_(std::move(attributes)) {
  constexpr int64_t kBlock = RowShards::kBlockRows;
  const int64_t step = (std::min(part_queries, n_queries) + kBlock - 1) / kBlock * kBlock;
  for (int64_t begin = 0; begin < n_queries; begin += step) rows_.push_back({begin, std::min(n_queries, begin + step)});
  if (size() > 100000)
    fail_user("mine.part_queries = {}: {} queries in {} parts, expected at most 100000", part_queries, n_queries,
              size());
}

fs::path MinedParts::path(int64_t part) const {
  return part_path(out_, fmt::format("{:05}", part));
}

MinedAttributes MinedParts::attributes_of(int64_t part) const {
  auto attributes = attributes_;
  attributes[kMinedPart] = fmt::format("{} to {} of {}", rows(part).begin, rows(part).end - 1, n_queries_);
  return attributes;
}

bool MinedParts::is_done(int64_t part) const {
  std::error_code error;
  if (!fs::exists(path(part), error)) return false;
  const Hdf5File file(path(part), Hdf5File::Mode::kRead);
  const auto expected = attributes_of(part);
  return std::ranges::all_of(expected, [&](const auto& attribute) {
    return file.has_attribute(attribute.first) && file.string_attribute(attribute.first) == attribute.second;
  });
}

std::vector<int64_t> MinedParts::missing(const std::vector<InputPath>& inputs, Communicator& comm) const {
  std::string done;
  on_root(comm, [&] {
    for (int64_t part = 0; part < size(); ++part) {
      std::error_code error;
      if (fs::exists(fs::symlink_status(path(part), error))) check_output_file("--out", path(part), inputs);
      done += is_done(part) ? '1' : '0';
    }
  });
  done = comm.broadcast_host(done, 0);
  std::vector<int64_t> parts;
  for (int64_t part = 0; part < size(); ++part)
    if (done[static_cast<size_t>(part)] == '0') parts.push_back(part);
  return parts;
}

void MinedParts::write(int64_t part, const MinedRows& own, const MinedSummary& summary, Communicator& comm) const {
  auto attributes = attributes_of(part);
  attributes[kMinedSummary] = summary.json();
  std::map<std::string, ShardedMatrix> matrices;
  for (const auto& column : mined_columns()) matrices[column.name] = {own.*column.rows, column.dtype, column.floats};
  write_sharded(path(part), matrices, RowShards(rows(part).size(), comm.world_size()), comm, attributes);
}

MinedSummary MinedParts::summary(Communicator& comm) const {
  MinedSummary sum;
  on_root(comm, [&] {
    for (int64_t part = 0; part < size(); ++part) {
      const Hdf5File file(path(part), Hdf5File::Mode::kRead);
      sum.add(MinedSummary::parse(file.string_attribute(kMinedSummary), path(part).string()));
    }
  });
  return sum;
}

void MinedParts::for_each_block(Communicator& comm, const std::string& progress_label,
                                const std::function<void(int64_t, const MinedRows&)>& take) const {
  Progress progress(progress_label, "queries", n_queries_, comm.rank() == 0);
  for (int64_t part = 0; part < size(); ++part) {
    const int64_t n = rows(part).size();
    std::deque<MatrixReader> readers;
    on_root(comm, [&] {
      // Another command with this output may have come between.
      if (!is_done(part)) fail_user("{}: is not the part that this command wrote", path(part).string());
      for (const auto& column : mined_columns()) {
        readers.emplace_back(MatrixPath{path(part), column.name});
        const int64_t width = column.rows == &MinedRows::dropped ? 4 : k_;
        const auto& reader = readers.back();
        if (reader.rows() != n || reader.columns() != width || reader.dtype() != column.dtype)
          fail_user("{}: found {} x {} of {}, expected {} x {} of {}: damaged; remove the file", reader.where(),
                    reader.rows(), reader.columns(), reader.type_name(), n, width, at::toString(column.dtype));
      }
    });
    for (int64_t begin = 0; begin < n; begin += kReadQueries) {
      const RowRange range{begin, std::min(n, begin + kReadQueries)};
      on_root(comm, [&] {
        MinedRows block;
        for (size_t i = 0; i < readers.size(); ++i)
          block.*mined_columns()[i].rows = readers[i].read(range, /*check_finite=*/false);
        take(rows(part).begin + begin, block);
      });
      progress.advance(range.size());
    }
  }
}

void MinedParts::remove() const {
  const fs::path folder = out_.has_parent_path() ? out_.parent_path() : fs::path(".");
  const std::string prefix = part_path(out_.filename(), "").string();
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (is_part_name(entry->path().filename().string(), prefix) && made_by_vixen(entry->path()))
      found.push_back(entry->path());
  for (const auto& part : found) fs::remove(part, error);
}

}  // namespace vixen
