#include "mining/candidates.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include <fmt/format.h>

namespace vixen {

void MinedCounts::add(const MinedCounts& other) {
  for (const auto& field : kMinedCountFields) this->*field.count += other.*field.count;
}

MinedCounts MinedCounts::over(Communicator& comm) const {
  static_assert(std::is_trivially_copyable_v<MinedCounts>);
  MinedCounts all, one;
  for (const auto& bytes : comm.all_gather_host({reinterpret_cast<const char*>(this), sizeof(*this)})) {
    std::memcpy(&one, bytes.data(), sizeof(one));
    all.add(one);
  }
  return all;
}

std::string MinedCounts::text() const {
  const auto all = static_cast<double>(std::max<int64_t>(1, relevant + skipped + same_text + margin + kept));
  const auto percent = [&](int64_t count) { return 100 * static_cast<double>(count) / all; };
  return fmt::format(
      "mined {:.1f} negatives a query for {} queries; of the labels found {:.1f}% are kept, {:.1f}% relevant, {:.1f}% "
      "passed "
      "over as the best, {:.1f}% of the same text, {:.1f}% within the margin",
      static_cast<double>(kept) / static_cast<double>(std::max<int64_t>(1, queries)), queries, percent(kept),
      percent(relevant), percent(skipped), percent(same_text), percent(margin));
}

bool has_margin(const MiningConfig& config) {
  return config.relative_margin > 0 || config.absolute_margin > 0;
}

float score_limit(const MiningConfig& config, float weakest_positive) {
  double limit = std::numeric_limits<double>::infinity();
  const double weakest = weakest_positive;
  if (config.relative_margin > 0) limit = std::min(limit, weakest - (1 - config.relative_margin) * std::abs(weakest));
  if (config.absolute_margin > 0) limit = std::min(limit, weakest - config.absolute_margin);
  return static_cast<float>(limit);
}

bool SameTextRule::holds(int64_t query, int64_t label, std::span<const int32_t> relevant) const {
  const auto text = labels_->tokens[label];
  if (std::ranges::equal(text, queries_->tokens[query])) return true;
  return std::ranges::any_of(relevant, [&](int32_t other) { return std::ranges::equal(text, labels_->tokens[other]); });
}

void keep_negatives(std::span<const int64_t> found, std::span<const float> scores, int64_t query,
                    std::span<const int32_t> relevant, float limit, int64_t skip_first, const SameTextRule* text,
                    const KeptNegatives& kept, MinedCounts& counts) {
  ++counts.queries;
  size_t count = 0;
  int64_t irrelevant = 0;
  for (size_t place = 0; place < found.size() && found[place] >= 0; ++place) {
    const int64_t label = found[place];
    if (std::ranges::binary_search(relevant, label)) {
      ++counts.relevant;
    } else if (irrelevant++ < skip_first) {
      ++counts.skipped;
    } else if (text != nullptr && text->holds(query, label, relevant)) {
      ++counts.same_text;
    } else if (scores[place] > limit) {
      ++counts.margin;
    } else {
      kept.ids[count] = static_cast<int32_t>(label);
      if (!kept.places.empty()) kept.places[count] = static_cast<int32_t>(place) + 1;
      kept.scores[count++] = scores[place];
    }
  }
  counts.kept += static_cast<int64_t>(count);
  std::ranges::fill(kept.ids.subspan(count), -1);
  std::ranges::fill(kept.scores.subspan(count), -std::numeric_limits<float>::infinity());
  if (!kept.places.empty()) std::ranges::fill(kept.places.subspan(count), 0);
}

}  // namespace vixen
