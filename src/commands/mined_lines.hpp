// Mined negatives as lines of JSON, which sentence-transformers' trainer reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "base/atomic_file.hpp"
#include "commands/mined_parts.hpp"
#include "config/enums.hpp"
#include "data/dataset.hpp"

namespace vixen {

/// Member of the record beside a file of lines that holds its MinedAttributes.
inline constexpr const char* kMinedRecord = "mined";

/// Texts of what a line names, and which lines there are.
struct MinedTexts {
  const SequenceTable& queries;
  const SequenceTable& positives;
  const Ragged<int32_t>& relevant;  // of every query: rows of `positives`
  const SequenceTable& negatives;
  MineFormat format = MineFormat::kTuple;  // a line: one negative, or all k of them
  MinePositives which = MinePositives::kAll;
};

struct MinedLineCounts {
  int64_t lines = 0;
  int64_t short_queries = 0;  // left out: no negative, or fewer than k where a line has all
  int64_t without_label = 0;  // left out: no relevant label, though enough negatives
};

/// Writes {"anchor", "positive", "negative"} or {"anchor", "positive", "negative_1", ... "negative_k"} a line: all
/// lines of a file have the same keys. The file appears under its name on close(), and with it a record beside it by
/// which it is known as ours. Local.
class MinedLineWriter {
 public:
  MinedLineWriter(const std::filesystem::path& out, const MinedTexts& texts);  // without close() nothing is left

  /// ids int32 [n, k] of queries from `first_query` on.
  void write(int64_t first_query, const at::Tensor& ids);
  /// attributes: for the record.
  MinedLineCounts close(const MinedAttributes& attributes);

 private:
  void write_query(int64_t query, std::span<const int32_t> ids);
  void flush();

  AtomicFile file_;
  PieceWriter pieces_;
  int64_t written_ = 0;  // bytes
  MinedTexts texts_;
  MinedLineCounts counts_;
  std::string buffer_;
};

}  // namespace vixen
