// Statistics of a data set's lengths, counted or assumed.
#include "plan/data_shape.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.hpp"

namespace vixen {
namespace {

// Adds rows one by one, each with a weight.
class Accumulator {
 public:
  void add(double length, double images, double weight) {
    weight_ += weight;
    length_ += weight * length;
    square_ += weight * length * length;
    fourth_ += weight * length * length * length * length;
    images_ += weight * images;
    images_square_ += weight * images * images;
    longest_ = std::max(longest_, static_cast<int64_t>(length));
    most_images_ = std::max(most_images_, static_cast<int64_t>(images));
  }
  LengthStatistics statistics() const {
    if (weight_ == 0) return {};
    const auto deviation = [&](double sum, double sum_of_squares) {
      const double mean = sum / weight_;
      return std::sqrt(std::max(0.0, sum_of_squares / weight_ - mean * mean));
    };
    LengthStatistics s;
    s.mean = length_ / weight_;
    s.deviation = deviation(length_, square_);
    s.mean_square = square_ / weight_;
    s.square_deviation = deviation(square_, fourth_);
    s.mean_images = images_ / weight_;
    s.images_deviation = deviation(images_, images_square_);
    s.longest = longest_;
    s.most_images = most_images_;
    return s;
  }

 private:
  double weight_ = 0, length_ = 0, square_ = 0, fourth_ = 0, images_ = 0, images_square_ = 0;
  int64_t longest_ = 0, most_images_ = 0;
};

// Sequences of a table with its prompts; weights empty: all the same.
LengthStatistics table_statistics(const SequenceTable& table, const PackOptions& pack,
                                  const std::vector<double>& weights) {
  Accumulator sums;
  const auto& prompt = pack.prompt;
  const auto around_text = static_cast<double>(prompt.text_prefix.size() + prompt.closing.size());
  for (int64_t row = 0; row < table.size(); ++row) {
    const double images = pack.images ? static_cast<double>(table.images[row].size()) : 0;
    const double prefix = images > 0 ? static_cast<double>(prompt.image_prefix.size()) : 0;
    sums.add(static_cast<double>(table.tokens[row].size()) + around_text + prefix + images, images,
             weights.empty() ? 1.0 : weights[static_cast<size_t>(row)]);
  }
  return sums.statistics();
}

// A side whose texts have this mean and longest length: two lengths, the mean +- half of it, stand for all.
LengthStatistics assumed_statistics(const PlanConfig& plan) {
  const double mean = plan.mean_tokens;
  const double spread = std::min(0.5 * mean, static_cast<double>(plan.longest_tokens) - mean);
  const double pictured = plan.image_slots > 0 ? plan.images_per_row / static_cast<double>(plan.image_slots) : 0;
  Accumulator sums;
  for (const double length : {mean - spread, mean + spread})
    for (const bool has_images : {false, true}) {
      const double images = has_images ? static_cast<double>(plan.image_slots) : 0;
      sums.add(length + plan.prompt_tokens + images, images, has_images ? pictured : 1 - pictured);
    }
  LengthStatistics s = sums.statistics();
  s.longest = plan.longest_tokens + static_cast<int64_t>(std::ceil(plan.prompt_tokens)) + plan.image_slots;
  return s;
}

// Sums over `queries` and `labels` independent sequences: their mean and `deviations` standard deviations, at most what
// the longest would give.
BatchShape batch_of(const DataShape& data, int64_t queries, int64_t labels, double deviations) {
  const auto n_q = static_cast<double>(queries), n_l = static_cast<double>(labels);
  const auto total = [&](const auto& mean, const auto& deviation, const auto& most) {
    const double mean_sum = n_q * mean(data.query) + n_l * mean(data.label);
    const double spread = std::hypot(std::sqrt(n_q) * deviation(data.query), std::sqrt(n_l) * deviation(data.label));
    const double most_sum = n_q * most(data.query) + n_l * most(data.label);
    return static_cast<int64_t>(std::ceil(std::min(most_sum, mean_sum + deviations * spread)));
  };
  using Side = const LengthStatistics&;
  BatchShape batch;
  batch.sequences = queries + labels;
  batch.positions = total([](Side s) { return s.mean; }, [](Side s) { return s.deviation; },
                          [](Side s) { return static_cast<double>(s.longest); });
  batch.images = total([](Side s) { return s.mean_images; }, [](Side s) { return s.images_deviation; },
                       [](Side s) { return static_cast<double>(s.most_images); });
  batch.sum_squared_lengths =
      total([](Side s) { return s.mean_square; }, [](Side s) { return s.square_deviation; },
            [](Side s) { return static_cast<double>(s.longest) * static_cast<double>(s.longest); });
  batch.longest = std::max(data.query.longest, data.label.longest);
  return batch;
}

}  // namespace

DataShape data_shape(const Dataset& dataset, const PackOptions& pack) {
  DataShape shape;
  shape.queries = dataset.train().size();
  shape.labels = dataset.labels().size();
  shape.test_queries = dataset.test().size();
  shape.pairs = std::ssize(dataset.train_labels().values);
  shape.image_width = pack.images ? dataset.images().width : 0;
  // A query draws one of its labels; the propensities that weigh the draw move lengths little.
  std::vector<double> drawn(static_cast<size_t>(shape.labels), 0.0);
  for (int64_t row = 0; row < dataset.train_labels().size(); ++row) {
    const auto labels = dataset.train_labels()[row];
    for (const int32_t label : labels) drawn[static_cast<size_t>(label)] += 1.0 / static_cast<double>(labels.size());
  }
  shape.query = table_statistics(dataset.train(), pack, {});
  shape.label = table_statistics(dataset.labels(), pack, drawn);
  return shape;
}

DataShape data_shape(const PlanConfig& plan) {
  const auto need = [](bool given, const char* key) {
    if (!given) fail_user("--{} is missing: without --data.path a plan needs it", key);
  };
  need(plan.queries > 0, "plan.queries");
  need(plan.labels > 0, "plan.labels");
  need(plan.mean_tokens > 0, "plan.mean_tokens");
  need(plan.longest_tokens > 0, "plan.longest_tokens");
  if (static_cast<double>(plan.longest_tokens) < plan.mean_tokens)
    fail_user("plan.longest_tokens is {}, plan.mean_tokens {}: the longest text cannot be shorter than the mean",
              plan.longest_tokens, plan.mean_tokens);
  if (plan.images_per_row > static_cast<double>(plan.image_slots))
    fail_user("plan.images_per_row is {}, plan.image_slots {}: a row cannot have more pictures than slots",
              plan.images_per_row, plan.image_slots);
  if (plan.image_slots > 0) need(plan.image_width > 0, "plan.image_width");
  DataShape shape;
  shape.queries = plan.queries;
  shape.labels = plan.labels;
  shape.test_queries = plan.queries / 4;
  shape.pairs = static_cast<int64_t>(std::ceil(static_cast<double>(plan.queries) * plan.labels_per_query));
  shape.image_width = plan.image_slots > 0 ? plan.image_width : 0;
  shape.query = shape.label = assumed_statistics(plan);
  return shape;
}

BatchShape mean_batch(const DataShape& data, int64_t queries, int64_t labels) {
  return batch_of(data, queries, labels, 0);
}

BatchShape worst_batch(const DataShape& data, int64_t queries, int64_t labels) {
  // Batches of neighbours (NGAME) are less mixed than random ones, hence six standard deviations.
  return batch_of(data, queries, labels, 6);
}

}  // namespace vixen
