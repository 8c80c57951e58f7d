// The sampler `shuffled`: every epoch a new permutation, nothing to remember.
#include "sampling/shuffled.hpp"

#include <numeric>
#include <utility>

#include "base/random.hpp"
#include "sampling/sampler.hpp"

namespace vixen {

void shuffle(std::vector<int64_t>& items, uint64_t seed, uint64_t epoch) {
  for (size_t i = items.size(); i > 1; --i)
    std::swap(items[i - 1], items[random_below(seed, RandomStream::kShuffle, epoch, i - 1, i)]);
}

std::vector<int64_t> shuffled_order(int64_t n, uint64_t seed, uint64_t epoch) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  shuffle(order, seed, epoch);
  return order;
}

namespace {

class Shuffled : public Sampler {
 public:
  Shuffled(uint64_t seed, int64_t n_queries) : seed_(seed), n_queries_(n_queries) {}

  std::vector<int64_t> order(uint64_t epoch) const override { return shuffled_order(n_queries_, seed_, epoch); }

 private:
  uint64_t seed_;
  int64_t n_queries_;
};

}  // namespace

std::unique_ptr<Sampler> make_shuffled(const Config& config, int64_t n_queries) {
  return std::make_unique<Shuffled>(config.train.seed, n_queries);
}

}  // namespace vixen
