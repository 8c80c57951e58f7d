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
/// Values ascend strictly within each row.
void check_ascending(const std::string& where, const Ragged<int32_t>& rows);

}  // namespace vixen
