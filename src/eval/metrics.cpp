// Ranking metrics as sums over test queries: each query adds to one flat vector of doubles, ranks' vectors add up, and
// the metrics are ratios of its entries. Letters: L labels, K = kMaxK.
#include "eval/metrics.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "base/check.hpp"

namespace vixen {
namespace {

constexpr int kMaxK = 5;                                   // metrics "at k" are given for k = 1..kMaxK
constexpr std::array<int64_t, 2> kDeepRecall = {10, 100};  // and recall at these too
constexpr int kBins = 10;

/// 1 / log2(i + 2): the discount of the i-th place, counted from 0.
const std::array<double, kMaxK>& discounts() {
  static const std::array<double, kMaxK> values = [] {
    std::array<double, kMaxK> result{};
    for (int i = 0; i < kMaxK; ++i) result[static_cast<size_t>(i)] = 1.0 / std::log2(i + 2.0);
    return result;
  }();
  return values;
}

}  // namespace

/// Where each sum lies in the flat vector. Entries "at k" take kMaxK places.
struct Metrics::Layout {
  static constexpr size_t kRows = 0;
  static constexpr size_t kPrecision = 1;
  static constexpr size_t kRecall = kPrecision + kMaxK;
  static constexpr size_t kNdcg = kRecall + kMaxK;
  static constexpr size_t kPsp = kNdcg + kMaxK;        // sum of weights of hits / k
  static constexpr size_t kPspBest = kPsp + kMaxK;     // the best attainable
  static constexpr size_t kPsndcg = kPspBest + kMaxK;  // sum of discounted weights of hits / normaliser
  static constexpr size_t kPsndcgBest = kPsndcg + kMaxK;
  static constexpr size_t kDeep = kPsndcgBest + kMaxK;  // recall at kDeepRecall
  static constexpr size_t kMrr = kDeep + kDeepRecall.size();
  static constexpr size_t kMap = kMrr + 1;
  static constexpr size_t kBinPairs = kMap + 1;
  static constexpr size_t kBinHits = kBinPairs + kBins;
  static constexpr size_t kSize = kBinHits + kBins;
};

double inverse_propensity(int64_t count, int64_t n_train, double a, double b) {
  VIXEN_CHECK(n_train > 0, "n_train = {}", n_train);
  // Below three queries the factor is negative, and with it the weight of what was never seen: no propensity is
  // above 1.
  const double c = std::max(0.0, std::log(static_cast<double>(n_train)) - 1.0) * std::pow(b + 1.0, a);
  return 1.0 + c * std::pow(static_cast<double>(count) + b, -a);
}

void fill_label_bins(std::span<const int64_t> counts, std::span<uint8_t> bins) {
  std::vector<int32_t> order(counts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t x, int32_t y) {
    return counts[static_cast<size_t>(x)] < counts[static_cast<size_t>(y)];
  });
  for (size_t position = 0; position < order.size(); ++position)
    bins[static_cast<size_t>(order[position])] = static_cast<uint8_t>(position * kBins / order.size());
}

LabelTable LabelTable::of(std::vector<double> weights, std::vector<int64_t> counts) {
  std::vector<uint8_t> bins(counts.size());
  fill_label_bins(counts, bins);
  return {std::move(weights), std::move(counts), std::move(bins)};
}

Metrics::Metrics(LabelTable labels) : labels_(std::move(labels)), bin_info_(kBins), sums_(Layout::kSize, 0.0) {
  const auto& [weights, counts, bins] = labels_;
  VIXEN_CHECK(weights.size() == counts.size() && bins.size() == counts.size(), "{} weights, {} counts, {} bins",
              weights.size(), counts.size(), bins.size());
  for (int64_t label = 0; label < counts.size(); ++label) {
    Bin& info = bin_info_[bins[label]];
    info.min_count = info.labels == 0 ? counts[label] : std::min(info.min_count, counts[label]);
    info.max_count = std::max(info.max_count, counts[label]);
    ++info.labels;
  }
}

void Metrics::add(std::span<const int64_t> predicted, std::span<const int32_t> truth) {
  sums_[Layout::kRows] += 1;
  if (truth.empty()) return;
  const auto n_labels = labels_.weights.size();
  VIXEN_CHECK(truth.front() >= 0 && truth.back() < n_labels, "labels {}..{} of {}", truth.front(), truth.back(),
              n_labels);
  const auto& discount = discounts();
  const auto n_true = static_cast<double>(truth.size());

  // Hits, in the order of the list. at_k[i]: sums over the first i + 1 places.
  std::array<double, kMaxK> hits_at{}, gain_at{}, weight_at{}, weighted_gain_at{};
  std::array<double, kDeepRecall.size()> deep_hits{};
  double hits = 0, precision_sum = 0;
  int64_t first_hit = -1;
  int64_t place = 0;
  for (const int64_t label : predicted) {
    if (label < 0) break;
    VIXEN_CHECK(label < n_labels, "predicted label {} of {}", label, n_labels);
    if (std::binary_search(truth.begin(), truth.end(), static_cast<int32_t>(label))) {
      hits += 1;
      precision_sum += hits / static_cast<double>(place + 1);
      if (first_hit < 0) first_hit = place;
      for (size_t i = 0; i < kDeepRecall.size(); ++i) deep_hits[i] += place < kDeepRecall[i] ? 1 : 0;
      if (place < kMaxK) {
        const auto at = static_cast<size_t>(place);
        const double weight = labels_.weights[label];
        hits_at[at] = 1;
        gain_at[at] = discount[at];
        weight_at[at] = weight;
        weighted_gain_at[at] = weight * discount[at];
        sums_[Layout::kBinHits + labels_.bins[label]] += 1;
      }
    }
    ++place;
  }

  // The heaviest labels of the row: the best that any list of k could collect.
  std::vector<double> best(truth.size());
  for (size_t i = 0; i < truth.size(); ++i) {
    best[i] = labels_.weights[truth[i]];
    sums_[Layout::kBinPairs + labels_.bins[truth[i]]] += 1;
  }
  const size_t n_best = std::min<size_t>(kMaxK, best.size());
  std::partial_sort(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(n_best), best.end(), std::greater<>());

  double hit_sum = 0, gain = 0, weight = 0, weighted_gain = 0, normaliser = 0, best_weight = 0, best_gain = 0;
  for (size_t i = 0; i < kMaxK; ++i) {
    const auto k = static_cast<double>(i + 1);
    hit_sum += hits_at[i];
    gain += gain_at[i];
    weight += weight_at[i];
    weighted_gain += weighted_gain_at[i];
    if (i < n_best) {
      normaliser += discount[i];
      best_weight += best[i];
      best_gain += best[i] * discount[i];
    }
    sums_[Layout::kPrecision + i] += hit_sum / k;
    sums_[Layout::kRecall + i] += hit_sum / n_true;
    sums_[Layout::kNdcg + i] += gain / normaliser;
    sums_[Layout::kPsp + i] += weight / k;
    sums_[Layout::kPspBest + i] += best_weight / k;
    sums_[Layout::kPsndcg + i] += weighted_gain / normaliser;
    sums_[Layout::kPsndcgBest + i] += best_gain / normaliser;
  }
  for (size_t i = 0; i < kDeepRecall.size(); ++i) sums_[Layout::kDeep + i] += deep_hits[i] / n_true;
  if (first_hit >= 0) sums_[Layout::kMrr] += 1.0 / static_cast<double>(first_hit + 1);
  sums_[Layout::kMap] += precision_sum / n_true;
}

std::vector<double> Metrics::sums() const {
  return sums_;
}

void Metrics::set_sums(std::span<const double> sums) {
  VIXEN_CHECK(sums.size() == Layout::kSize, "{} sums, expected {}", sums.size(), Layout::kSize);
  sums_.assign(sums.begin(), sums.end());
}

std::vector<std::string> Metrics::names() {
  std::vector<std::string> names;
  for (const auto& [name, value] : Metrics({}).result()) names.push_back(name);
  return names;
}

std::map<std::string, double> Metrics::result() const {
  std::map<std::string, double> values;
  const auto percent = [](double numerator, double denominator) {
    return denominator > 0 ? 100.0 * numerator / denominator : 0.0;
  };
  const double rows = sums_[Layout::kRows];
  for (size_t i = 0; i < kMaxK; ++i) {
    const std::string k = "@" + std::to_string(i + 1);
    values["P" + k] = percent(sums_[Layout::kPrecision + i], rows);
    values["R" + k] = percent(sums_[Layout::kRecall + i], rows);
    values["nDCG" + k] = percent(sums_[Layout::kNdcg + i], rows);
    values["PSP" + k] = percent(sums_[Layout::kPsp + i], sums_[Layout::kPspBest + i]);
    values["PSnDCG" + k] = percent(sums_[Layout::kPsndcg + i], sums_[Layout::kPsndcgBest + i]);
  }
  for (size_t i = 0; i < kDeepRecall.size(); ++i) {
    values["R@" + std::to_string(kDeepRecall[i])] = percent(sums_[Layout::kDeep + i], rows);
  }
  values["MRR"] = percent(sums_[Layout::kMrr], rows);
  values["MAP"] = percent(sums_[Layout::kMap], rows);
  for (auto& [name, value] : values) {
    constexpr double kRounding = 1e-6;  // of sums over many queries
    VIXEN_CHECK(value >= -kRounding && value <= 100 + kRounding, "{} = {}: a list held a label twice", name, value);
    value = std::clamp(value, 0.0, 100.0);
  }
  return values;
}

std::vector<Metrics::Bin> Metrics::bins() const {
  std::vector<Bin> bins = bin_info_;
  const double rows = sums_[Layout::kRows];
  for (size_t i = 0; i < bins.size(); ++i) {
    Bin& bin = bins[i];
    bin.pairs = sums_[Layout::kBinPairs + i];
    bin.hits_at_5 = sums_[Layout::kBinHits + i];
    bin.recall_at_5 = bin.pairs > 0 ? 100.0 * bin.hits_at_5 / bin.pairs : 0.0;
    bin.precision_at_5 = rows > 0 ? 100.0 * bin.hits_at_5 / (5.0 * rows) : 0.0;
  }
  return bins;
}

std::vector<int64_t> apply_filter(std::span<const int64_t> predicted, std::span<const int32_t> filter, int64_t k,
                                  bool official, int64_t official_k) {
  const auto limit = static_cast<size_t>(std::max<int64_t>(0, k));
  if (official) predicted = predicted.first(std::min(predicted.size(), static_cast<size_t>(official_k)));
  std::vector<int64_t> kept;
  kept.reserve(std::min(limit, predicted.size()));
  for (const int64_t label : predicted) {
    if (label < 0 || kept.size() == limit) break;
    if (!std::binary_search(filter.begin(), filter.end(), static_cast<int32_t>(label))) kept.push_back(label);
  }
  return kept;
}

}  // namespace vixen
