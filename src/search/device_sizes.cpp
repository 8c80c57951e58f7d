#include "search/device_sizes.hpp"

#include <algorithm>

#include "search/device_arguments.hpp"
#include "search/device_candidates.hpp"

namespace vixen {
namespace {

constexpr int64_t kHalf = 2, kFloat = 4, kLong = 8;
constexpr int64_t kCandidateBytes = int64_t{256} << 20;  // for the candidates of a block
constexpr int64_t kPartBytes = int64_t{256} << 20;       // of rows that are streamed, in float32
constexpr int64_t kLeastSlack = 1024;                    // candidates gathered between two compactions, at the least
constexpr int64_t kNormRows = 4096;                      // queries whose norms are computed at a time

int64_t groups_up(int64_t labels) {
  return (labels + kGroupLabels - 1) / kGroupLabels * kGroupLabels;
}
int64_t groups_down(int64_t labels) {
  return std::max(kGroupLabels, labels / kGroupLabels * kGroupLabels);
}

}  // namespace

DeviceSizes device_sizes(const IndexConfig& config, int64_t n, int64_t width, int64_t k, int64_t l2_bytes) {
  DeviceSizes sizes{};
  sizes.queries = config.block_queries;
  // Operands and scores of a tile: queries x width + labels x width + queries x labels.
  const int64_t room = l2_bytes / 4 * 3 - sizes.queries * width * kHalf;
  const int64_t fitting = groups_down(room / ((sizes.queries + width) * kHalf));
  sizes.labels = std::min({fitting, groups_up(config.block_labels), groups_up(std::max<int64_t>(n, 1))});
  sizes.limit = k + std::max(k, kLeastSlack);
  sizes.first_labels = std::min(sizes.labels, groups_up(sizes.limit + 1));
  sizes.capacity = sizes.limit + sizes.labels;
  sizes.queries = std::clamp<int64_t>(kCandidateBytes / DeviceCandidates::bytes(sizes.capacity), 1, sizes.queries);
  sizes.part_labels = std::max(sizes.labels, groups_down(kPartBytes / std::max<int64_t>(1, width * kFloat)));
  return sizes;
}

int64_t device_labels_bytes(int64_t n, int64_t width, bool streamed) {
  const int64_t groups = (n + kGroupLabels - 1) / kGroupLabels;
  return (streamed ? 0 : n * width * kHalf) + (n + groups) * 2 * kFloat;
}

int64_t device_search_bytes(const DeviceSizes& sizes, int64_t m, int64_t k, int64_t width, int64_t row_bytes) {
  if (row_bytes == 0) m = std::min(m, kQueriesAtATime);
  const int64_t queries = std::min(sizes.queries, m);
  // What rounding took from queries, before any block is there; keys, their sort and the lists that come of it.
  const int64_t residuals = std::min(kNormRows, m) * width * 2 * kFloat, lists = queries * k * 7 * kLong;
  const int64_t block = queries * (sizes.labels * kHalf + DeviceCandidates::bytes(sizes.capacity)) + lists;
  const int64_t parts = row_bytes == 0 ? 0 : sizes.part_labels * width * (2 * row_bytes + kHalf);
  return m * (width * kHalf + 3 * kFloat) + std::max(residuals, block + parts);
}

}  // namespace vixen
