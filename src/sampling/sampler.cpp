// The table of samplers, and what a sampler does that keeps nothing.
#include "sampling/sampler.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace vixen {
namespace {

struct Row {
  SamplerKind kind;
  std::unique_ptr<Sampler> (*make)(const Config&, int64_t);
};

constexpr Row kSamplers[] = {
    {SamplerKind::kClustered, make_clustered},
    {SamplerKind::kShuffled, make_shuffled},
};

}  // namespace

std::vector<int64_t> Sampler::extra_labels(uint64_t, int64_t) const {
  return {};
}

void Sampler::end_epoch(uint64_t, bool, const ShardedTable&, Communicator&) {}

void Sampler::restore(const SamplerState&) {}

int64_t Sampler::end_epoch_bytes(int64_t, int64_t, int64_t, bool) const {
  return 0;
}

double Sampler::update_traffic_bytes(int64_t, int64_t) const {
  return 0;
}

std::unique_ptr<Sampler> make_sampler(const Config& config, int64_t n_queries) {
  const auto* row = std::find_if(std::begin(kSamplers), std::end(kSamplers),
                                 [&](const Row& candidate) { return candidate.kind == config.train.sampler; });
  VIXEN_CHECK(row != std::end(kSamplers), "no sampler of kind {}", static_cast<int>(config.train.sampler));
  return row->make(config, n_queries);
}

}  // namespace vixen
