// Writes a data set from vectors (docs/data-format.md): for tests and synthetic benchmarks. Real sets come from
// tools/prepare_dataset.py, which streams.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.hpp"

namespace vixen {

/// The rows of one group: /train, /test or /label.
struct SequenceContent {
  OwnedRagged tokens;              // [n]
  OwnedRagged images;              // [n], or empty altogether: no row has a picture
  std::vector<std::string> texts;  // [n], or empty altogether: every text is ""
  int64_t size() const { return tokens.view().size(); }
};

/// Everything a data set file holds.
struct DatasetContent {
  DatasetInfo info;
  std::string tokenizer = "none", text = "title", created_by = "dataset_writer";
  SequenceContent train, test, labels;
  OwnedRagged train_labels, test_labels;
  OwnedRagged test_filter;  // empty altogether: no query has a filter
  int64_t image_width = 0;
  std::vector<uint16_t> image_rows;  // IEEE half bits [M, image_width]
  std::vector<std::string> prompt_texts;
  OwnedRagged prompt_tokens;  // one row a prompt; without prompts the group is left out
  bool with_identity = true;  // false: as an older version wrote it, without the hashes of its content
};

/// Appends one row.
void append_row(OwnedRagged& rows, std::span<const int32_t> values);

/// Writes the file atomically. The content is written as it is, not checked: tests write damaged sets with it.
void write_dataset(const std::filesystem::path& path, const DatasetContent& content);

}  // namespace vixen
