// The table of `vixen predict --text`.
#pragma once

namespace vixen {

/// First line of the table; by it such a file is recognised.
inline constexpr const char* kPredictTableHeader = "query\tquery_text\trank\tlabel\tlabel_text\tscore\n";

}  // namespace vixen
