// Which of the labels that a query's search found are negatives: the rules of section [mining], for one query.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "comm/communicator.hpp"
#include "config/config.hpp"
#include "data/dataset.hpp"

namespace vixen {

/// Labels that searches found, by what became of them.
struct MinedCounts {
  int64_t queries = 0;    // asked
  int64_t relevant = 0;   // found, but relevant by the ground truth
  int64_t skipped = 0;    // among the mining.skip_first best
  int64_t same_text = 0;  // read like the query or one of its relevant labels
  int64_t margin = 0;     // score too near to the weakest positive: taken for unlabelled positives
  int64_t kept = 0;       // negatives

  void add(const MinedCounts& other);
  /// The counts of all ranks together. Collective.
  MinedCounts over(Communicator& comm) const;
  /// "mined 12.3 negatives a query for 17587 queries; of the labels found 80.1% are kept, 4.2% relevant, ...".
  std::string text() const;
};

/// The counts by the names that files and logs give them.
struct MinedCountField {
  const char* name;
  int64_t MinedCounts::*count;
};
inline constexpr MinedCountField kMinedCountFields[] = {
    {"queries", &MinedCounts::queries}, {"kept", &MinedCounts::kept},           {"relevant", &MinedCounts::relevant},
    {"skipped", &MinedCounts::skipped}, {"same_text", &MinedCounts::same_text}, {"margin", &MinedCounts::margin}};

/// Whether labels are dropped for their scores.
bool has_margin(const MiningConfig& config);

/// The score above which a label is dropped: the least of relative_margin * w and w - absolute_margin, w the score of
/// the query's weakest positive; infinity without margins. A factor moves a negative w down by the same share of |w|.
float score_limit(const MiningConfig& config, float weakest_positive);

/// Compares labels by their tokens, which are what the encoder reads.
class SameTextRule {
 public:
  SameTextRule(const SequenceTable& queries, const SequenceTable& labels) : queries_(&queries), labels_(&labels) {}
  /// Whether `label` reads like `query` or one of its `relevant` labels.
  bool holds(int64_t query, int64_t label, std::span<const int32_t> relevant) const;

 private:
  const SequenceTable* queries_;
  const SequenceTable* labels_;
};

/// What of a list is kept: [found] each, best first, -1, -infinity and 0 behind.
struct KeptNegatives {
  std::span<int32_t> ids;
  std::span<float> scores;
  std::span<int32_t> places;  // in the list that the search gave, from 1; empty: not asked for
};

/// Writes the negatives among `found` (best first, -1: no more) to `kept`. relevant: ascending. limit: score_limit().
/// text: null keeps labels of the same text. A label that several rules drop counts for the first of: relevant,
/// skipped, same text, margin. Local, thread-safe.
void keep_negatives(std::span<const int64_t> found, std::span<const float> scores, int64_t query,
                    std::span<const int32_t> relevant, float limit, int64_t skip_first, const SameTextRule* text,
                    const KeptNegatives& kept, MinedCounts& counts);

}  // namespace vixen
