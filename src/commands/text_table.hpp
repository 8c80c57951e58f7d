// Tables for the terminal: columns as wide as their content, numbers to the right, no ragged edges.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vixen {

/// Rows of cells under a header. The first `left_columns` columns are aligned to the left, the others to the right.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header, size_t left_columns = 1);
  /// Missing cells at the end are empty.
  void add(std::vector<std::string> cells);
  /// Every line begins with `indent` spaces and ends with its last visible character.
  std::string text(size_t indent = 2) const;

 private:
  std::vector<std::vector<std::string>> rows_;
  size_t left_columns_;
};

/// "512 B", "56.3 MiB"
std::string human_bytes(int64_t bytes);
/// Columns that UTF-8 text takes on a terminal, counting every code point as one.
size_t display_width(const std::string& text);
/// The text in one line of at most `columns` code points: control characters become spaces, a cut is marked by "...".
std::string shortened(const std::string& text, size_t columns);
/// `filled` of `columns` as a bar of '#'; a share above 0 shows at least one.
std::string bar(double share, size_t columns);

}  // namespace vixen
