#include "mining/same_labels.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/file.hpp"

namespace vixen {

SameLabels::SameLabels(const SequenceTable& labels, const SequenceTable& corpus) {
  const auto hash = [](const SequenceTable& table, int64_t row) { return checksum(std::as_bytes(table.tokens[row])); };
  std::vector<std::pair<uint64_t, int32_t>> known;  // sorted: equal texts lie side by side, by ascending label
  known.reserve(static_cast<size_t>(corpus.size()));
  for (int64_t label = 0; label < corpus.size(); ++label)
    known.emplace_back(hash(corpus, label), static_cast<int32_t>(label));
  std::ranges::sort(known);
  same_.offsets.reserve(static_cast<size_t>(labels.size()) + 1);
  same_.offsets.push_back(0);
  for (int64_t label = 0; label < labels.size(); ++label) {
    const uint64_t asked = hash(labels, label);
    for (auto found = std::ranges::lower_bound(known, std::pair{asked, int32_t{0}});
         found != known.end() && found->first == asked; ++found)
      if (std::ranges::equal(labels.tokens[label], corpus.tokens[found->second])) same_.values.push_back(found->second);
    same_.offsets.push_back(static_cast<int64_t>(same_.values.size()));
  }
}

OwnedRagged SameLabels::of(const Ragged<int32_t>& labels_of, RowRange range) const {
  const auto same = same_.view();
  OwnedRagged result;
  result.offsets.push_back(0);
  std::vector<int32_t> found;
  for (int64_t row = range.begin; row < range.end; ++row) {
    found.clear();
    for (const int32_t label : labels_of[row]) found.insert(found.end(), same[label].begin(), same[label].end());
    std::ranges::sort(found);
    result.values.insert(result.values.end(), found.begin(), std::unique(found.begin(), found.end()));
    result.offsets.push_back(static_cast<int64_t>(result.values.size()));
  }
  return result;
}

}  // namespace vixen
