// The checks of a data set's values: offsets, ranges, order. Linear scans over mapped values, threads and SIMD inside.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "data/dataset.hpp"

namespace vixen {

/// Each check throws UserError naming `where` ("FILE:/train/tokens"), the row, the value found and what was expected.

/// Offsets begin with 0, never fall, and end with n_values.
void check_offsets(const std::string& where, std::span<const int64_t> offsets, int64_t n_values);
/// Every row's length is in [least, most].
void check_row_lengths(const std::string& where, std::span<const int64_t> offsets, int64_t least, int64_t most);
/// Every value is in [0, bound). what: "token id"; bound_name: "the vocabulary".
void check_values_below(const std::string& where, const Ragged<int32_t>& rows, int64_t bound, const std::string& what,
                        const std::string& bound_name);
/// Every row, none of which is empty, begins with `value`. named: where that was promised.
void check_first_values(const std::string& where, const Ragged<int32_t>& rows, int32_t value, const std::string& what,
                        const std::string& named);
/// Every row is valid UTF-8, not empty and not equal to an earlier one. For few rows.
void check_texts(const std::string& where, const Ragged<char>& rows);
/// Values ascend strictly within each row.
void check_ascending(const std::string& where, const Ragged<int32_t>& rows);

}  // namespace vixen
