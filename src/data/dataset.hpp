// The HDF5 data set (docs/data-format.md): ragged tokens, CSR labels, pictures and texts, mapped, never copied.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vixen {

/// Rows of different lengths: row i is values[offsets[i], offsets[i+1]).
template <typename T>
struct Ragged {
  std::span<const int64_t> offsets;  // [n+1]
  std::span<const T> values;         // [offsets[n]]
  int64_t size() const { return offsets.empty() ? 0 : static_cast<int64_t>(offsets.size()) - 1; }
  std::span<const T> operator[](int64_t i) const {
    return values.subspan(static_cast<size_t>(offsets[i]), static_cast<size_t>(offsets[i + 1] - offsets[i]));
  }
};

/// The same with its own memory.
struct OwnedRagged {
  std::vector<int64_t> offsets;
  std::vector<int32_t> values;
  Ragged<int32_t> view() const { return {offsets, values}; }
};

/// Queries of a split, or the labels: what can be encoded.
struct SequenceTable {
  Ragged<int32_t> tokens;  // token ids, special tokens included, cut at the data set's max_length; never empty
  Ragged<int32_t> images;  // rows of the image store; empty rows where there is no picture
  Ragged<char> texts;      // UTF-8
  int64_t size() const { return tokens.size(); }
  std::string_view text(int64_t i) const {
    const auto row = texts[i];
    return {row.data(), row.size()};
  }
};

/// fp16 rows [n_images, width], contiguous on disk and mapped.
struct ImageStore {
  int64_t n_rows = 0;
  int64_t width = 0;
  const uint16_t* rows = nullptr;  // IEEE half bits, row-major
  std::string where;               // "FILE:/images/embeddings", for messages
};

struct DatasetInfo {
  std::string name;
  std::string tokenizer_sha256;  // of the tokenizer.json that made the tokens
  int64_t vocabulary = 0;
  int64_t max_length = 0;
  int64_t max_images = 0;  // image slots: the most pictures of any row
  double propensity_a = 0.55, propensity_b = 1.5;
  int32_t bos_token = -1;  // with which the tokenizer begins every text of a decoder; -1: none
};

/// Strings that a template may use, tokenised without special tokens.
struct Prompts {
  Ragged<char> texts;      // UTF-8, not empty, distinct
  Ragged<int32_t> tokens;  // of each string, not empty
  int64_t size() const { return texts.size(); }
  std::string_view text(int64_t i) const {
    const auto row = texts[i];
    return {row.data(), row.size()};
  }
};

struct DatasetIdentity;

/// A data set opened for reading. Opening checks the schema, the version and every offset, and (with check_values) the
/// lengths of rows and the ranges of label ids, token ids and image rows: a linear scan that one rank of a node does
/// for all, with its threads. A fault is a UserError that names file, dataset path and row. Image rows are not touched.
/// Thread-safe for reading.
class Dataset {
 public:
  explicit Dataset(const std::filesystem::path& path, bool check_values = true);
  ~Dataset();
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;

  const std::filesystem::path& path() const;
  const DatasetInfo& info() const;
  const SequenceTable& train() const;
  const SequenceTable& test() const;
  const SequenceTable& labels() const;
  const Ragged<int32_t>& train_labels() const;  // ids ascending within a row
  const Ragged<int32_t>& test_labels() const;
  const Ragged<int32_t>& test_filter() const;  // labels that must not count for a test query
  const ImageStore& images() const;
  const Prompts& prompts() const;  // empty in a data set without the group /prompts
  /// What the file says of its content, as it was made; computed (every byte is read, once) where an older file does
  /// not say. Not thread-safe.
  const DatasetIdentity& identity() const;
  /// Whether the file says it, so that asking costs nothing.
  bool identity_is_stored() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vixen
