// Scans for the first fault: blocks are tested without branches; only a block that has a fault is looked at closely.
#include "data/dataset_check.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <string_view>
#include <unordered_map>

#include "base/check.hpp"
#include "base/text.hpp"
#include "data/first_where.hpp"

namespace vixen {
namespace {

/// The row that holds value number `index`.
int64_t row_of(std::span<const int64_t> offsets, int64_t index) {
  return std::upper_bound(offsets.begin(), offsets.end(), index) - offsets.begin() - 1;
}

/// The first byte that does not belong to a well-formed UTF-8 character, or the size.
size_t first_not_utf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const size_t bytes = first_character(text.substr(i)).bytes;
    if (bytes == 0) break;
    i += bytes;
  }
  return i;
}

}  // namespace

void check_offsets(const std::string& where, std::span<const int64_t> offsets, int64_t n_values) {
  if (offsets.empty()) fail_user("{}/offsets: empty, expected at least one offset (0)", where);
  if (offsets[0] != 0) fail_user("{}/offsets: row 0 begins at {}, expected 0", where, offsets[0]);
  const int64_t* at = offsets.data();
  const int64_t n = static_cast<int64_t>(offsets.size()) - 1;
  const int64_t fault = first_where(n, [at](int64_t i) { return at[i + 1] < at[i]; });
  if (fault < n)
    fail_user("{}/offsets: row {} ends at {}, before its begin {}: offsets must not fall", where, fault, at[fault + 1],
              at[fault]);
  if (at[n] != n_values)
    fail_user("{}/offsets: the last offset (of row {}) is {}, expected {}, the number of values", where, n, at[n],
              n_values);
}

void check_row_lengths(const std::string& where, std::span<const int64_t> offsets, int64_t least, int64_t most) {
  const int64_t* at = offsets.data();
  const int64_t n = static_cast<int64_t>(offsets.size()) - 1;
  const int64_t fault = first_where(n, [=](int64_t i) {
    const int64_t length = at[i + 1] - at[i];
    return (length < least) | (length > most);
  });
  if (fault == n) return;
  const int64_t length = at[fault + 1] - at[fault];
  if (length < least)
    fail_user("{}: row {} is empty, expected at least {} value{}", where, fault, least, least == 1 ? "" : "s");
  fail_user("{}: row {} has {} values, expected at most {}", where, fault, length, most);
}

void check_values_below(const std::string& where, const Ragged<int32_t>& rows, int64_t bound, const std::string& what,
                        const std::string& bound_name) {
  const int32_t* values = rows.values.data();
  const auto n = static_cast<int64_t>(rows.values.size());
  // One unsigned comparison finds negative values too. Bounds fit: values are int32.
  const auto limit = static_cast<uint32_t>(std::clamp<int64_t>(bound, 0, int64_t{1} << 31));
  const int64_t fault = first_where(n, [=](int64_t i) { return static_cast<uint32_t>(values[i]) >= limit; });
  if (fault == n) return;
  const int64_t row = row_of(rows.offsets, fault);
  fail_user("{}/values: row {}, value {} of it: {} {} is out of range, expected [0, {}), {}", where, row,
            fault - rows.offsets[static_cast<size_t>(row)], what, values[fault], bound, bound_name);
}

void check_first_values(const std::string& where, const Ragged<int32_t>& rows, int32_t value, const std::string& what,
                        const std::string& named) {
  const int64_t* at = rows.offsets.data();
  const int32_t* values = rows.values.data();
  const int64_t n = rows.size();
  const int64_t fault = first_where(n, [=](int64_t i) { return values[at[i]] != value; });
  if (fault < n)
    fail_user("{}/values: row {} begins with {} {}, expected {}, {}", where, fault, what, rows[fault][0], value, named);
}

void check_texts(const std::string& where, const Ragged<char>& rows) {
  std::unordered_map<std::string_view, int64_t> seen;
  for (int64_t i = 0; i < rows.size(); ++i) {
    const std::string_view text(rows[i].data(), rows[i].size());
    if (text.empty()) fail_user("{}: row {} is empty, expected a text", where, i);
    const size_t fault = first_not_utf8(text);
    if (fault < text.size())
      fail_user("{}: row {} is not UTF-8 from its byte {} (0x{:02x})", where, i, fault,
                static_cast<unsigned char>(text[fault]));
    const auto [found, added] = seen.emplace(text, i);
    if (!added) fail_user("{}: row {} is the same text as row {}, expected distinct ones", where, i, found->second);
  }
}

void check_ascending(const std::string& where, const Ragged<int32_t>& rows) {
  const int64_t n = rows.size();
  std::atomic<int64_t> first{n};
  at::parallel_for(0, n, 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end && i < first.load(std::memory_order_relaxed); ++i) {
      const auto row = rows[i];
      for (size_t j = 1; j < row.size(); ++j) {
        if (row[j] > row[j - 1]) continue;
        int64_t seen = first.load();
        while (i < seen && !first.compare_exchange_weak(seen, i)) {
        }
        return;
      }
    }
  });
  const int64_t fault = first.load();
  if (fault == n) return;
  const auto row = rows[fault];
  const auto at = std::adjacent_find(row.begin(), row.end(), [](int32_t a, int32_t b) { return b <= a; });
  fail_user("{}/values: row {}: {} follows {}, expected distinct ids in ascending order", where, fault, at[1], at[0]);
}

}  // namespace vixen
