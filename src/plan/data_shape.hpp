// What of a data set decides memory and time: counts, statistics of lengths, and the batches that they lead to.
//   positions of a sequence: its text, prompt and pictures
#pragma once

#include <cstdint>

#include "config/config.hpp"
#include "data/packed_batch.hpp"
#include "model/costs.hpp"

namespace vixen {

/// Positions (prompt and pictures included) and pictures of the sequences that a side draws.
struct LengthStatistics {
  double mean = 0, deviation = 0;                // of the length
  double mean_square = 0, square_deviation = 0;  // of its square
  double mean_images = 0, images_deviation = 0;
  int64_t longest = 0, most_images = 0;
};

/// What of a data set decides memory and time.
struct DataShape {
  int64_t queries = 0, labels = 0, test_queries = 0;
  int64_t pairs = 0;              // relevant (training query, label)
  LengthStatistics query, label;  // label: as a batch draws them, each as often as its queries ask for it
  int64_t image_width = 0;
};
DataShape data_shape(const Dataset& dataset, const PackOptions& pack);
/// Of [plan] keys; lengths are taken to deviate by half their mean. Unknown test split: a quarter of the queries.
DataShape data_shape(const PlanConfig& plan);

/// The mean batch of so many queries and labels, and one that hardly any batch exceeds: six standard deviations above.
BatchShape mean_batch(const DataShape& data, int64_t queries, int64_t labels);
BatchShape worst_batch(const DataShape& data, int64_t queries, int64_t labels);

}  // namespace vixen
