#include "retrieval/augment.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "retrieval/label_counts.hpp"

namespace vixen {
namespace {

struct Scored {
  int64_t id;
  double value;
};

// A row of a list up to its end: ids and logits.
std::vector<Scored> row_of(const TopK& lists, int64_t row, double temperature) {
  const int64_t width = lists.ids.size(1);
  const auto* id = lists.ids.const_data_ptr<int64_t>() + row * width;
  const auto* score = lists.scores.const_data_ptr<float>() + row * width;
  std::vector<Scored> found;
  for (int64_t place = 0; place < width && id[place] >= 0; ++place)
    found.push_back({id[place], static_cast<double>(score[place]) / temperature});
  return found;
}

}  // namespace

AugmentSource AugmentSource::of(const Dataset& dataset, Communicator& comm) {
  return {dataset.train_labels(), vixen::label_counts(dataset, comm)};
}

bool augments(const AugmentConfig& config) {
  return config.lambda > 0 || config.prior != 0;
}

TopK augmented(const TopK& labels, const TopK& neighbours, const AugmentSource& source, const AugmentConfig& config,
               int64_t k) {
  const int64_t n = labels.ids.size(0);
  TopK best = empty_top_k(n, k);
  auto* best_id = best.ids.mutable_data_ptr<int64_t>();
  auto* best_score = best.scores.mutable_data_ptr<float>();
  at::parallel_for(0, n, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      auto own = row_of(labels, row, config.temperature);
      for (Scored& label : own)
        label.value +=
            config.prior * std::log(static_cast<double>(std::max<int64_t>(1, source.label_counts[label.id])));
      auto near = neighbours.ids.defined() ? row_of(neighbours, row, config.temperature) : std::vector<Scored>();
      double largest = -std::numeric_limits<double>::infinity(), sum = 0;
      for (const auto* list : {&own, &near})
        for (const Scored& item : *list) largest = std::max(largest, item.value);
      for (const auto* list : {&own, &near})
        for (const Scored& item : *list) sum += std::exp(item.value - largest);
      std::vector<Scored> votes;
      votes.reserve(own.size() + near.size());
      for (const Scored& label : own)
        votes.push_back({label.id, (1 - config.lambda) * std::exp(label.value - largest) / sum});
      for (const Scored& query : near)
        for (const int32_t label : source.labels_of[query.id])
          votes.push_back({label, config.lambda * std::exp(query.value - largest) / sum});
      // Votes of a label are added in the order of the lists, whoever found them.
      std::stable_sort(votes.begin(), votes.end(), [](const Scored& a, const Scored& b) { return a.id < b.id; });
      std::vector<std::pair<float, int64_t>> ranked;  // (-score, label)
      for (size_t i = 0; i < votes.size();) {
        double score = 0;
        const int64_t id = votes[i].id;
        for (; i < votes.size() && votes[i].id == id; ++i) score += votes[i].value;
        ranked.emplace_back(-static_cast<float>(score), id);
      }
      const auto kept = std::min(k, std::ssize(ranked));
      std::partial_sort(ranked.begin(), ranked.begin() + kept, ranked.end());
      for (int64_t place = 0; place < kept; ++place) {
        best_id[row * k + place] = ranked[static_cast<size_t>(place)].second;
        best_score[row * k + place] = -ranked[static_cast<size_t>(place)].first;
      }
    }
  });
  return best;
}

}  // namespace vixen
