#include "commands/mined_lines.hpp"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

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

MinedLineWriter::MinedLineWriter(std::filesystem::path out, const MinedTexts& texts)
    : out_(std::move(out)),
      target_(write_target(out_)),
      partial_(partial_name(target_)),
      texts_(texts),
      file_(nullptr, &std::fclose) {
  ::unlink(partial_.c_str());  // what a killed command left; never written through, should it be a link
  file_.reset(std::fopen(partial_.c_str(), "wbxe"));
  if (!file_) fail_user("cannot write {}: {}", out_.string(), std::strerror(errno));
}

MinedLineWriter::~MinedLineWriter() {
  if (file_) ::unlink(partial_.c_str());
}

void MinedLineWriter::flush() {
  errno = 0;
  const bool whole = std::fwrite(buffer_.data(), 1, buffer_.size(), file_.get()) == buffer_.size();
  if (!whole || std::fflush(file_.get()) != 0)
    fail_user("cannot write {}: {}", out_.string(), std::strerror(errno == 0 ? EIO : errno));
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
  sync_path(partial_);
  LineJson record = {{"created_by", created_by("mine")},
                     {"files", LineJson::array({target_.filename().string()})},
                     {kMinedRecord, LineJson::object()}};
  for (const auto& [name, value] : attributes) record[kMinedRecord][name] = value;
  record["lines"] = counts_.lines;
  record["queries_with_too_few_negatives"] = counts_.short_queries;
  record["queries_without_relevant_label"] = counts_.without_label;
  // First: a file that lies there without its record would not be known as ours.
  write_text_atomically(record_beside(target_), record.dump(1) + "\n");
  if (::rename(partial_.c_str(), target_.c_str()) != 0)
    fail_user("cannot write {}: {}", out_.string(), std::strerror(errno));
  file_.reset();
  const auto folder = target_.parent_path();
  sync_path(folder.empty() ? std::filesystem::path(".") : folder);
  return counts_;
}

}  // namespace vixen
