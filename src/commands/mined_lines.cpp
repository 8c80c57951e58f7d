#include "commands/mined_lines.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/file.hpp"
#include "base/same_file.hpp"
#include "base/version.hpp"

namespace vixen {
namespace {

using LineJson = nlohmann::ordered_json;

constexpr size_t kLineBufferBytes = 1 << 20;

// JSON is UTF-8, whatever the bytes of a text are.
std::string line_of(const LineJson& line) {
  return line.dump(-1, ' ', false, LineJson::error_handler_t::replace) + "\n";
}

}  // namespace

MinedLineWriter::MinedLineWriter(const std::filesystem::path& out, const MinedTexts& texts)
    : file_(out), pieces_(file_.temporary(), out), texts_(texts) {}

void MinedLineWriter::flush() {
  pieces_.write(written_, std::as_bytes(std::span(buffer_)));
  written_ += std::ssize(buffer_);
  buffer_.clear();
}

void MinedLineWriter::write_query(int64_t query, std::span<const int32_t> ids) {
  const auto found = ids.first(static_cast<size_t>(std::ranges::find(ids, -1) - ids.begin()));
  const bool tuple = texts_.format == MineFormat::kTuple;
  auto relevant = texts_.relevant[query];
  if (found.empty() || (tuple && found.size() < ids.size())) {
    ++counts_.short_queries;
    return;
  }
  if (relevant.empty()) {
    ++counts_.without_label;
    return;
  }
  if (texts_.which == MinePositives::kFirst) relevant = relevant.first(1);
  LineJson line = {{"anchor", texts_.queries.text(query)}, {"positive", ""}};
  const auto put = [&] {
    buffer_ += line_of(line);
    ++counts_.lines;
    if (buffer_.size() > kLineBufferBytes) flush();
  };
  for (size_t place = 0; tuple && place < found.size(); ++place)
    line[fmt::format("negative_{}", place + 1)] = texts_.negatives.text(found[place]);
  for (const int32_t label : relevant) {
    line["positive"] = texts_.positives.text(label);
    if (tuple) {
      put();
      continue;
    }
    for (const int32_t negative : found) {
      line["negative"] = texts_.negatives.text(negative);
      put();
    }
  }
}

void MinedLineWriter::write(int64_t first_query, const at::Tensor& ids) {
  const auto* id = ids.const_data_ptr<int32_t>();
  const auto k = static_cast<size_t>(ids.size(1));
  for (int64_t row = 0; row < ids.size(0); ++row) write_query(first_query + row, {id + row * ids.size(1), k});
}

MinedLineCounts MinedLineWriter::close(const MinedAttributes& attributes) {
  flush();
  pieces_.sync();
  const auto target = write_target(file_.path());
  LineJson record = {{"created_by", created_by("mine")},
                     {"files", LineJson::array({target.filename().string()})},
                     {kMinedRecord, LineJson::object()}};
  for (const auto& [name, value] : attributes) record[kMinedRecord][name] = value;
  record["lines"] = counts_.lines;
  record["queries_with_too_few_negatives"] = counts_.short_queries;
  record["queries_without_relevant_label"] = counts_.without_label;
  // First: a file that lies there without its record would not be known as ours.
  write_text_atomically(record_beside(target), record.dump(1) + "\n");
  file_.publish();
  return counts_;
}

}  // namespace vixen
