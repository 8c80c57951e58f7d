// Ranking metrics of extreme classification (docs/algorithm.md section 7). Pure, local, float64.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "comm/node_array.hpp"

namespace vixen {

/// Inverse propensity of a label with `count` training queries of N: 1 + max(0, ln N - 1) (B+1)^A (count + B)^-A, at
/// least 1.
double inverse_propensity(int64_t count, int64_t n_train, double a, double b);

/// What metrics know of the labels [L].
struct LabelTable {
  NodeArray<double> weights;  // inverse propensities
  NodeArray<int64_t> counts;  // training queries
  NodeArray<uint8_t> bins;    // deciles by counts, 0: the rarest; of equal size, equal counts told apart by id

  /// Of this process alone.
  static LabelTable of(std::vector<double> weights, std::vector<int64_t> counts);
};
/// bins [L] of counts [L].
void fill_label_bins(std::span<const int64_t> counts, std::span<uint8_t> bins);

/// Accumulates over test queries; ranks' accumulators add up (sums are plain doubles of counts and weights).
class Metrics {
 public:
  explicit Metrics(LabelTable labels);

  /// One query: predicted ids best first (-1 terminates the list; filtered already), and its true labels (ascending). A
  /// query without true labels adds 0 to every sum and 1 to the row count, as the field's public code does.
  void add(std::span<const int64_t> predicted, std::span<const int32_t> truth);

  /// For reduction over ranks: all sums in one vector, and back.
  std::vector<double> sums() const;
  void set_sums(std::span<const double> sums);

  /// The keys of result(), sorted.
  static std::vector<std::string> names();

  /// "P@1".."P@5", "R@1".."R@5", "R@10", "R@100", "nDCG@k", "PSP@k", "PSnDCG@k" (k = 1..5), "MRR", "MAP": percentages
  /// in [0, 100]. MRR: reciprocal place of the first hit, 0 without one. MAP: mean precision at the hits, over all true
  /// labels (not only those found). Both read the whole list that was added.
  std::map<std::string, double> result() const;

  /// Deciles of labels by training frequency (0: rarest): labels, true pairs, hits within the top 5, P@5 and R@5 share.
  struct Bin {
    int64_t labels = 0, min_count = 0, max_count = 0;
    double pairs = 0, hits_at_5 = 0;  // true (query, label) pairs of the bin; those found in the first five
    double recall_at_5 = 0;           // percent
    double precision_at_5 = 0;        // percent points that the bin contributes to P@5
  };
  std::vector<Bin> bins() const;

 private:
  struct Layout;
  LabelTable labels_;
  std::vector<Bin> bin_info_;
  std::vector<double> sums_;
};

/// Drops filtered labels from a ranked list. before the cut: `predicted` holds k + the largest number of filtered
/// labels; returns the first k that are left. kOfficial: cuts to `official_k` first, then drops.
std::vector<int64_t> apply_filter(std::span<const int64_t> predicted, std::span<const int32_t> filter, int64_t k,
                                  bool official, int64_t official_k);

}  // namespace vixen
