// The sampler `shuffled`: every epoch a new permutation, nothing to remember.
#include "sampling/shuffled.hpp"

#include <numeric>
#include <utility>

#include "base/random.hpp"
#include "sampling/sampler.hpp"

namespace vixen {

void shuffle(std::span<int64_t> items, uint64_t seed, uint64_t epoch) {
  for (size_t i = items.size(); i > 1; --i)
    std::swap(items[i - 1], items[random_below(seed, RandomStream::kShuffle, epoch, i - 1, i)]);
}

void fill_shuffled_order(uint64_t seed, uint64_t epoch, std::span<int64_t> order) {
  std::iota(order.begin(), order.end(), 0);
  shuffle(order, seed, epoch);
}

namespace {

class Shuffled : public Sampler {
 public:
  explicit Shuffled(uint64_t seed) : seed_(seed) {}

  void fill_order(uint64_t epoch, std::span<int64_t> order) const override { fill_shuffled_order(seed_, epoch, order); }

 private:
  uint64_t seed_;
};

}  // namespace

std::unique_ptr<Sampler> make_shuffled(const Config& config, int64_t /*n_queries*/) {
  return std::make_unique<Shuffled>(config.train.seed);
}

}  // namespace vixen
